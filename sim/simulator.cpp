#include "sim/simulator.h"

#include "base/error.h"
#include "sim/compute_model.h"
#include "sim/engine.h"
#include "sim/fold.h"
#include "sim/network.h"
#include "sim/role_model.h"

namespace foretrain::sim {

Simulation simulate(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const Options& options,
                    plan::SpanSink* sink) {
  CHECK(options.steps >= 1, "{} steps", options.steps);
  CHECK(cluster.profile != nullptr || cluster.profile_path.empty(), "the profile {} was not loaded",
        cluster.profile_path);
  const std::unique_ptr<ComputeModel> compute = make_compute_model(options.compute_model, cluster);
  const std::unique_ptr<NetworkModel> network = make_network_model(options.network_model, cluster, options.collectives);
  const std::vector<RoleModel> models = model_roles(graph, cluster, *compute, *network);

  const bool exclusive = cluster.device.exclusive_streams;
  std::optional<StepTimes> times;
  if (options.fold && sink == nullptr && !exclusive && !cluster.this_machine) {
    times = run_folded(graph, models, options.steps);
  }
  Simulation result;
  result.folded = times.has_value();
  if (!times) {
    times = run_events(graph, models, exclusive, options.steps, sink);
  }
  result.step_ends = std::move(times->step_ends);
  result.breakdown = std::move(times->breakdown);
  const std::size_t last = result.step_ends.size() - 1;
  result.step_time = result.step_ends[last] - (last > 0 ? result.step_ends[last - 1] : Time{});
  result.compute_model = compute->name();
  result.network_model = network->name();
  return result;
}

}  // namespace foretrain::sim
