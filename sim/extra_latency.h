// What hops between nodes take beyond the way through one switch of the fabric: further switches (switch_latency) and
// the long link between sites. Network models price the way through one switch; this comes on top of their latency.
//   e(a, b)   latency of the route from a to b, less what it is on the same fabric with both figures 0; 0 inside a node
//   ring      N nodes in order on each rail (sim/traffic.h, add_streams), e_k from node k to the next. n ranks make n
//             hops; those inside nodes add 0. A chunk goes on as soon as it has arrived, while others follow it, so
//             that a hop counts once for a chunk that passes it and not once for every step. The last chunk to arrive
//             is the one that passes most:
//               once    n-1 hops in a row, all but one (all_gather, reduce_scatter, chains):  sum of e - least hop
//               twice   2 (n-1) hops in a row, all_reduce: the chunk is reduced on its way round and handed on from
//                       where that ended:  2 sum of e - least two hops in a row
//   tree      largest sum of e on the way from a node to the root, of both trees over nodes in order; all_reduce goes
//             up and down:  2 tree. In-order trees may cross a long link and come back
//   bruck     each of ceil(log2 N) hops at most the farthest pair's:  ceil(log2 N) farthest; halving_doubling too
//   direct    messages that wait for none (all_to_all):  the farthest pair's e
// With the same e everywhere and one rank per node the ring's are (N-1) e and 2 (N-1) e, as often as the models count
// a hop over the fabric.   Known wrong: the library's buffers hold all that is on its way over a long link (on 400 Gb/s
// and 5 ms 250 MB); the farthest pair is sought from the first member and from its farthest: where distances do not
// nest (torus, dragonfly) it may be less than the largest, by half at most.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "plan/graph.h"
#include "plan/mesh.h"
#include "sim/collective/algorithm.h"
#include "topologies/network.h"

namespace foretrain::sim {

// Seconds, of a group as above.
struct ExtraLatency {
  double once = 0, twice = 0, tree = 0, farthest = 0;
};

// Of an algorithm of sim/collective.
double extra_seconds(collective::Kind kind, std::string_view algorithm, const ExtraLatency& extra, int nodes);

// For one thread.
class LongRoutes {
 public:
  // On most fabrics there are none; nothing is then built. Throws what topologies::make_network throws.
  explicit LongRoutes(const topologies::Cluster& cluster);

  bool any() const { return network_ != nullptr; }
  // e; also 0 where there is no route: who needs one says so.
  double between(plan::Rank from, plan::Rank to) const;
  // Requires: `members` ascending.
  ExtraLatency of(std::span<const plan::Rank> members) const;
  // The largest of each figure among the groups that the ranks are in: no group of them takes more.
  ExtraLatency of(const plan::Mesh& mesh, const plan::Group& group, const plan::RankSet& ranks) const;
  // Of one between each of the ranks and its peer.
  double of_messages(const plan::Mesh& mesh, const plan::RankSet& ranks, const plan::Message& message) const;

 private:
  double farthest(std::span<const plan::Rank> members) const;

  int per_unit_;
  std::unique_ptr<topologies::Network> network_, plain_;  // plain: both figures 0
  mutable topologies::Route route_;                       // reused
};

}  // namespace foretrain::sim
