// What a collective takes on a measured network: NCCL's latencies and bandwidths, set right by up to six numbers.
//   t(S) = small or large: of an all_reduce over nodes small where NCCL's table takes LL, else the lesser
//   small = ll_latency L_ll + (S + (h - 1) min(S, 128 KiB)) / (ll_rate R)
//   large = ( (latency L)^q + (S / (efficiency B))^q )^(1/q) + of a tree over more than two nodes h min(S, 16 MiB) / w
// L_ll, L: NCCL's latency of LL and of Simple; B: what the algorithm that NCCL takes makes of the links; R: what a ring
// makes of them; h: floor(log2 N) for all_reduce over nodes, else 1; w: what the links carry; q: ramp, below fixed.
// Trees hand whole pieces from node to node, until those fill the library's buffers: the two sizes are where times on
// Alps and Polaris stop growing with h.
//   all_reduce  one node: in the switch where it reduces for more than 4 ranks, B = C 2 v eff (C-1)/C 8/14; else ring
//               two nodes: latency of the tree, one exchange; from Hopper on B = min(p w, one node's), before the
//               ring's more: ring or tree, as NCCL's table says for Simple. A ring's start-up hides behind its
//               transfers: q = 4, for every system
//   all_gather, reduce_scatter, broadcast, reduce  rings in lock step: n-1 times the slower hop
//   all_to_all  p-1 messages inside the node, n-p through the rank's adapter
//   sendrecv    one message
// A ring over the fabric takes the ranks' adapters, p w, but no more than 0.9 of the ring inside a node: of NCCL's
// speeds per channel the next one below (16 x 20 or 8 x 40 of 360 GB/s; measured 320 to 330). Source: NVIDIA/nccl
// src/graph/tuning.cc; numbers: scripts/fit-collectives. Errors: docs/models.md.
#pragma once

#include "sim/nccl.h"
#include "topologies/network_environment.h"

namespace foretrain::sim {

struct CollectivePrice {
  double seconds = 0;
  double latency = 0, transfer = 0;  // of nothing; of the bytes at the bandwidth of the largest messages
  bool small = false;                // which branch
  bool tree = false;                 // of the large branch
};

// `version`: of the NCCL that chooses. A message is `sendrecv`: kind is then ignored.
struct PriceRequest {
  collective::Kind kind = collective::Kind::all_reduce;
  bool sendrecv = false;
  nccl::Group group;
};

class CollectivePricer {
 public:
  // `environment` and both sets of constants must outlive it.
  CollectivePricer(const topologies::NetworkEnvironment& environment, const topologies::NcclConstants& newest,
                   const topologies::NcclConstants& chooser)
      : e_(environment), newest_(newest), chooser_(chooser) {}

  CollectivePrice price(const PriceRequest& request, double bytes,
                        const topologies::CollectiveConstants& constants) const;

 private:
  struct Shape;  // L_ll, L, B, R, h of one request
  Shape shape(const PriceRequest& request, double bytes) const;
  void all_reduce(const nccl::Group& g, double bytes, Shape& s) const;
  double node_rate(int ranks) const;
  double bus(const nccl::Group& g) const;
  bool nccl_takes_ll(const nccl::Group& g, double bytes) const;

  const topologies::NetworkEnvironment& e_;
  const topologies::NcclConstants& newest_;
  const topologies::NcclConstants& chooser_;
};

}  // namespace foretrain::sim
