// NCCL's own choice of algorithm and protocol. For every pair it has one latency and one bandwidth; it takes the pair
// with the least  t(S) = latency k + S / bandwidth,  k = 1 but for a plateau of rings; the trees' bandwidth has a
// correction by size. n ranks, N nodes, p ranks per node, C channels of a speed v each; B = C v; o: overhead of the
// processor per message, 1 us (Intel) or 2 us (AMD), three times that for Simple.
//   ring       latency base + (s - s_N) max(node, o if N > 1) + s_N net,  s = 2(n-1), s_N = 2(N-1) for all_reduce,
//              half of both for all_gather, reduce_scatter;  broadcast, reduce: base + s hops;  bandwidth B n/s;
//              LL B/2 up to the LL limit, LL128 0.92 B up to C limit;  Simple all_reduce over nodes: 1.4 latency from
//              64 bytes per chunk on
//   tree       base + 2 ((p-1) node + floor(log2 N) net);  bandwidth 0.92 B/2, LL a 3.8th of that, LL128 7/9 (one
//              node) or 120/128 of it, each up to its limit;  0.85 of it where the trees are plain ones
//   nvls       node (+ net over nodes);  all_reduce C min(2 v eff (C-1)/C, w) n/s;  others C v eff (C-1)/C (p-1)/p
//   nvls_tree  base + node + 2 floor(log2 N) net;  as nvls, up to its limit per channel, the fabric doubled for N = 2
//   pat        base + log2(N) net / 3.5 + 2.8 n;  0.75 B; one rank per node only
// One rank per node takes the tree's net hop for its rings. Source: NVIDIA/nccl src/graph/tuning.cc at 2.30.7;
// constants of several versions in topologies/nccl. Holds for: the choice and large messages. Known wrong: see
// docs/models.md.
#pragma once

#include <string>
#include <vector>

#include "sim/collective/algorithm.h"
#include "topologies/nccl_constants.h"

namespace foretrain::sim::nccl {

// What NCCL's topology search finds of a system.
struct System {
  topologies::GpuGeneration generation = topologies::GpuGeneration::hopper;
  double node_rate = 360e9;   // bytes/s of all channels together inside a node: C v
  double fabric_rate = 50e9;  // bytes/s of one rank's NIC
  int channels = 16;
  bool nvlink = true;     // else the hops inside a node are PCIe's
  bool in_switch = true;  // NVLink SHARP
  bool amd_host = false;
  bool plain_tree = false;
};

struct Group {
  int ranks = 2, nodes = 1, per_node = 2;
};

struct Candidate {
  std::string algorithm;     // "ring", "tree", "nvls", "nvls_tree", "pat", "collnet_direct", "collnet_chain"
  std::size_t protocol = 0;  // kLl, kLl128, kSimple
  double latency = 0;        // s
  double algbw = 0;          // bytes/s of the total buffer
  std::string disabled;      // why NCCL does not consider it; "": it does. Its figures are then 0.
  std::string word() const;  // "ring:simple"
};

// Every pair of the collective, disabled ones with their reason. Kinds without NCCL algorithms (all_to_all, gather,
// scatter are grouped sends) give none. Requires: group.ranks >= 2.
std::vector<Candidate> candidates(collective::Kind kind, const Group& group, const System& system,
                                  const topologies::NcclConstants& constants);

// By NCCL's table, seconds: of an enabled candidate.
double table_seconds(const Candidate& candidate, collective::Kind kind, double bytes, const Group& group,
                     const System& system, const topologies::NcclConstants& constants);

// Index of the enabled candidate of the least table_seconds; the first of equals. Requires: one is enabled (ring is).
std::size_t choose(const std::vector<Candidate>& candidates, collective::Kind kind, double bytes, const Group& group,
                   const System& system, const topologies::NcclConstants& constants);

}  // namespace foretrain::sim::nccl
