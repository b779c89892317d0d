// What a meeting (a collective, a message) puts on the network: one flow, and the routes that carry it.
//
// THE FLOW.  Alone it takes exactly the closed form's duration D. Of that, `latency` is what nothing takes; in the
// rest, T, it moves `bytes` at the rate `cap`. The rate is counted at one adapter (one device's link where nothing
// leaves the node), as the plateau of large messages fills it: a meeting whose plateau is 80 % of the adapter counts as
// 100 %, so that two of them share it half and half. With `load` the seconds for which it would fill an adapter of rate
// W (sim/network.h, Traffic):   cap = W load / T <= W,   bytes = floor(cap T),   latency = D - ceil(bytes / cap).
//
// THE ROUTES.  Streams between members, each with the part of the flow's rate that it takes ("use", in 2^-20):
//   ring         members of a node in order, nodes in order. Each of the p members of a node sends to the next one of
//                the node (NCCL turns its rings so that p - 1 of p pass there) and, on its own adapter, to the same
//                member of the next node. Trees, PAT and in-switch algorithms take the same routes with their bytes:
//                each member's adapter and link carry what the algorithm sends, to neighbours instead of to partners.
//   all_to_all   every pair; a member's uses add up to one adapter
//   message      one route
//   to_root, from_root  between the root and each of the others; the root's uses add up to one adapter
//   hosts        one stream from each node to the next: what the ranks of a host put on its one link, together
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "plan/mesh.h"
#include "sim/fair_share.h"
#include "sim/network.h"

namespace foretrain::sim {

inline constexpr std::int32_t kWholeUse = 1 << 20;

enum class Pattern : std::uint8_t { ring, all_to_all, message, hosts, to_root, from_root };

// Two meetings of the same ranks and shape differ in nothing but their flow.
struct TrafficShape {
  Pattern pattern = Pattern::ring;
  Rate unit = 0;  // that fills the adapter or link at which the flow is counted; no cap is higher
  // Of a stream inside a node, of one between nodes; of all_to_all of a member's streams there together, of a root's.
  std::int32_t node_use = 0, fabric_use = 0;
  std::int32_t root = -1;  // to_root, from_root: among the members in ascending order
  friend auto operator<=>(const TrafficShape&, const TrafficShape&) = default;
};

struct AloneFlow {
  Time latency;
  Bytes bytes;  // 0: too little to be a flow
  Rate cap = 0;
  friend auto operator<=>(const AloneFlow&, const AloneFlow&) = default;
};

struct MeetingTraffic {
  TrafficShape shape;
  AloneFlow flow;
};

// Requires: duration as the network model says of the same meeting. `cluster` for the bandwidths that loads refer to.
MeetingTraffic make_traffic(Pattern pattern, Time duration, const Traffic& traffic, const topologies::Cluster& cluster);

// Ascending members, those of one node after the other.
std::vector<std::span<const plan::Rank>> by_node(std::span<const plan::Rank> members, int devices_per_node);

struct Stream {
  plan::Rank from = 0, to = 0;
  std::int64_t use = 0;
};

// Appends the streams from `wanted` ranks. `members`: ascending; of a message sender and receiver.
void add_streams(const TrafficShape& shape, std::span<const plan::Rank> members, int devices_per_node,
                 const std::function<bool(plan::Rank)>& wanted, std::vector<Stream>& out);

}  // namespace foretrain::sim
