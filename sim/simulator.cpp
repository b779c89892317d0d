#include "sim/simulator.h"

#include <algorithm>

#include "base/error.h"
#include "sim/compute_model.h"
#include "sim/device_share.h"
#include "sim/disturbance.h"
#include "sim/engine.h"
#include "sim/fold.h"
#include "sim/network.h"
#include "sim/role_model.h"

namespace foretrain::sim {

namespace {

// Of classes to means over the ranks of each role.
std::vector<plan::Breakdown> by_role(const plan::PlanGraph& graph, const std::vector<RankClass>& classes,
                                     const std::vector<plan::Breakdown>& by_class) {
  std::vector<std::vector<plan::RankBreakdown>> of_role(graph.roles.size());
  for (std::size_t c = 0; c < classes.size(); ++c) {
    of_role[static_cast<std::size_t>(classes[c].role)].push_back(
        {classes[c].first, static_cast<std::int32_t>(classes[c].multiplicity), {by_class[c]}});
  }
  std::vector<plan::Breakdown> result;
  for (const std::vector<plan::RankBreakdown>& ranks : of_role) {
    result.push_back(plan::mean_breakdown(ranks, 0));
  }
  return result;
}

bool communication_takes(const std::vector<RoleModel>& models) {
  for (const RoleModel& model : models) {
    for (const std::vector<OpModel>& block : model.blocks) {
      for (const OpModel& op : block) {
        if (std::any_of(op.meetings.begin(), op.meetings.end(), [](const Meeting& m) { return !m.load.is_none(); })) {
          return true;
        }
      }
    }
  }
  return false;
}

}  // namespace

Simulation simulate(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Options& options,
                    plan::SpanSink* sink) {
  CHECK(options.steps >= 1, "{} steps", options.steps);
  CHECK(cluster.profile != nullptr || cluster.profile_path.empty(), "the profile {} was not loaded",
        cluster.profile_path);
  const std::unique_ptr<ComputeModel> compute = make_compute_model(options.compute_model, cluster);
  const auto make_network = [&](const topologies::Cluster& c) {
    return make_network_model(options.network_model, c, options.collectives);
  };
  const std::unique_ptr<NetworkModel> network = make_network(cluster);
  std::vector<RoleModel> models = model_roles(graph, cluster, *compute, *network);

  const bool exclusive = cluster.device.exclusive_streams;
  Simulation result;
  result.classes = disturbed_classes(graph, cluster, *compute, make_network, options.fold_ranks, models);
  std::optional<StepTimes> times;
  ShareSpeeds speeds(*compute, sharing_figures(cluster));
  ShareSpeeds* sharing = options.share_devices && communication_takes(models) ? &speeds : nullptr;
  const Jitter jitter(cluster.disturbance.jitter, cluster.disturbance.seed);
  if (options.fold_time && sink == nullptr && !exclusive && !cluster.this_machine && jitter.is_none()) {
    times = run_folded(graph, models, result.classes, options.steps, sharing);
  }
  result.folded_time = times.has_value();
  if (!times) {
    times = run_events(graph, models, result.classes, {options.steps, exclusive, jitter, sharing}, sink);
  }
  result.ops = times->ops;
  result.step_ends = std::move(times->step_ends);
  result.breakdown = by_role(graph, result.classes, times->breakdown);
  const std::size_t last = result.step_ends.size() - 1;
  result.step_time = result.step_ends[last] - (last > 0 ? result.step_ends[last - 1] : Time{});
  result.compute_model = compute->name();
  result.network_model = network->name();
  return result;
}

}  // namespace foretrain::sim
