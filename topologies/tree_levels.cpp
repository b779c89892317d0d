#include "topologies/tree_levels.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace foretrain::topologies {

namespace {

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// Ports below and above one switch of a tier that is not the top.
struct Split {
  std::int64_t down = 0, up = 0;
};

// `ratio`: the rate of one port below over that of a cable above.
Split split(const FatTree& tree, int tier, double ratio) {
  const auto t = static_cast<std::size_t>(tier - 1);
  const double oversubscription = t < tree.oversubscription.size() ? tree.oversubscription[t] : 1.0;
  const std::int64_t given = tier == 1 ? tree.leaf_ports : tier == 2 ? tree.pod_leaves : 0;
  Split s;
  s.down = given > 0 ? given : static_cast<std::int64_t>(tree.radix * oversubscription / (oversubscription + ratio));
  s.down = std::max<std::int64_t>(1, s.down);
  s.up = std::max<std::int64_t>(1, std::llround(static_cast<double>(s.down) * ratio / oversubscription));
  if (s.down + s.up > tree.radix) {
    throw InputError(fmt::format("a switch of tier {} has {} ports below and needs {} above; its radix is {}", tier,
                                 s.down, s.up, tree.radix));
  }
  return s;
}

std::vector<TreeLevel> levels_of(const FatTree& tree, const Ports& ports, int tiers) {
  const Bandwidth port{ports.bandwidth.value / ports.cables};
  const Bandwidth cable = tree.cable.value > 0 ? tree.cable : port;
  std::vector<TreeLevel> levels{TreeLevel{}, TreeLevel{tree.radix, ports.cables, port}};
  for (int tier = 1; tier < tiers; ++tier) {
    const Split s = split(tree, tier, tier == 1 ? port.value / cable.value : 1.0);
    levels.back().children = s.down;
    levels.push_back({tree.radix, s.up, cable});
  }
  const int given = tiers == 1 ? tree.leaf_ports : tiers == 2 ? tree.pod_leaves : 0;
  levels.back().children = given > 0 ? given : tree.radix;
  if (given > tree.radix) {
    throw InputError(fmt::format("a switch of tier {} has {} ports below; its radix is {}", tiers, given, tree.radix));
  }
  return levels;
}

// Adapters that the levels join when every leaf is full.
std::int64_t capacity(const std::vector<TreeLevel>& levels, int rails) {
  std::int64_t leaves = levels.size() == 2 ? rails : 1;
  for (std::size_t l = 2; l < levels.size(); ++l) {
    leaves *= levels[l].children;
  }
  return leaves / rails * rails * levels[1].children;
}

}  // namespace

std::vector<TreeLevel> tree_levels(const FatTree& tree, const Ports& ports) {
  // A rail that ends inside a leaf leaves the rest of it empty.
  const auto fits = [&](const std::vector<TreeLevel>& levels) {
    const std::int64_t per_rail = divide_up(ports.count, tree.rails);
    const std::int64_t d = levels[1].children;
    return divide_up(per_rail, d) * d * tree.rails <= capacity(levels, tree.rails);
  };
  const int first = tree.tiers > 0 ? tree.tiers : tree.rails > 1 ? 2 : 1;
  const int last = tree.tiers > 0 ? tree.tiers : kMaxTiers;
  std::vector<TreeLevel> levels;
  for (int tiers = first; tiers <= last; ++tiers) {
    levels = levels_of(tree, ports, tiers);
    if (fits(levels)) {
      return levels;
    }
  }
  throw InputError(fmt::format("switches of {} ports in {} {} join at most {} adapters; {} are asked for", tree.radix,
                               last, last == 1 ? "tier" : "tiers", capacity(levels, tree.rails), ports.count));
}

}  // namespace foretrain::topologies
