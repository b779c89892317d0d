// A disturbed cluster: which ranks are slower, and what that makes of the models and classes of ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "plan/graph.h"
#include "sim/compute_model.h"
#include "sim/network.h"
#include "sim/rank_classes.h"
#include "sim/role_model.h"
#include "topologies/cluster.h"

namespace foretrain::sim {

using MakeNetwork = std::function<std::unique_ptr<NetworkModel>(const topologies::Cluster&)>;

// Adds to `models` what slow ranks do instead: compute takes 1/speed of its time (rounded up once more), and what they
// meet is modelled with their node's share of the network; a meeting takes as long as its slowest member says. Returns
// the classes: only ranks that a disturbance reaches come apart from their role, all when there is jitter. Rank r runs
// on device r.
std::vector<RankClass> disturbed_classes(const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                                         const ComputeModel& compute, const MakeNetwork& make_network, bool fold,
                                         std::vector<RoleModel>& models);

// Jitter of compute ops: a factor 1 + sigma z, z nearly normal (the sum of four uniform numbers, |z| < 3.5), from
// integers alone: the same on every machine.
class Jitter {
 public:
  Jitter() = default;  // none
  Jitter(double sigma, std::int64_t seed);
  bool is_none() const { return scale_ == 0; }
  // Of the op with this sequence on this rank.
  Time operator()(Time duration, plan::Rank rank, std::int64_t sequence) const;

 private:
  std::int64_t scale_ = 0;  // sigma / standard deviation of the sum, in 2^-40
  std::uint64_t seed_ = 0;
};

}  // namespace foretrain::sim
