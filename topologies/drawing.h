// A network as a picture: nodes in boxes below, the fabric's tiers above, one line for both directions of a link.
#pragma once

#include <string>

#include "topologies/network.h"

namespace foretrain::topologies {

// Vertices that a picture can hold and still be read.
inline constexpr std::int64_t kMaxDrawn = 1000;

// Each throws InputError for a network with more vertices than that.
std::string to_dot(const Network& network, const std::string& title);  // Graphviz
std::string to_svg(const Network& network,
                   const std::string& title);  // laid out in layers, with a legend of link classes

}  // namespace foretrain::topologies
