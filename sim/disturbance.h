// A disturbed cluster: which ranks are slower, and what that makes of their models.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "plan/graph.h"
#include "sim/compute_model.h"
#include "sim/network.h"
#include "sim/role_model.h"
#include "topologies/cluster.h"

namespace foretrain::sim {

using MakeNetwork = std::function<std::unique_ptr<NetworkModel>(const topologies::Cluster&)>;

// Adds to `models` what slow ranks do instead: compute takes 1/speed of its time (rounded up once more), and what they
// meet is modelled with their node's share of the network; a meeting takes as long as its slowest member says. Rank r
// runs on device r. Returns by rank the number of models before those of its speed, the same for ranks as fast as each
// other; nothing when all are.
std::vector<std::int32_t> add_disturbed_models(const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                                               const ComputeModel& compute, const MakeNetwork& make_network,
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
