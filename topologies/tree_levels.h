// How many switches a fat tree needs, and with how many ports each: from radix, oversubscription and size.
#pragma once

#include <vector>

#include "topologies/interconnect.h"

namespace foretrain::topologies {

inline constexpr int kMaxTiers = 4;

struct TreeLevel {
  std::int64_t children = 1;  // subtrees below one subtree of this level; the lowest level has ports below
  std::int64_t parents = 1;   // switches of this level that each switch (port) below is joined to
  Bandwidth cable;            // of one cable from below
};

// [0] stands for the ports. A tier that is not the top has D ports below and U = D (port rate) / (oversubscription x
// cable rate) above, D + U <= radix; without a D given, it is the largest that fits. The top has all of its ports
// below. As many tiers as the description says, else the fewest that join all ports (with rails at least 2: the rails
// meet in a spine). Throws InputError for more ports below and above than the radix, and for more adapters than the
// tree joins.
std::vector<TreeLevel> tree_levels(const FatTree& tree, const Ports& ports);

}  // namespace foretrain::topologies
