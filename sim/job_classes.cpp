#include "sim/job_classes.h"

#include <algorithm>
#include <memory>

#include "topologies/network.h"

namespace foretrain::sim {
namespace {

bool has_lanes(const std::vector<RoleModel>& models) {
  return std::any_of(models.begin(), models.end(), [](const RoleModel& m) { return !m.lanes.empty(); });
}

std::vector<std::int32_t> of_seen(const std::vector<std::int32_t>& colour, const Orbits& orbits) {
  std::vector<std::int32_t> result(static_cast<std::size_t>(orbits.seen_ranks()));
  for (std::size_t i = 0; i < result.size() && !colour.empty(); ++i) {
    result[i] = colour[static_cast<std::size_t>(orbits.rank(i))];
  }
  return result;
}

}  // namespace

JobClasses find_classes(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                        const topologies::Cluster& cluster, const std::vector<std::int32_t>& colour,
                        SharedLinks shared_links, bool fold) {
  JobClasses job;
  const plan::Mesh& mesh = graph.mesh;
  if (shared_links != SharedLinks::no && has_lanes(models)) {
    topologies::Cluster whole = cluster;  // with a device for every rank
    whole.nodes = std::max(whole.nodes, (mesh.ranks() + cluster.devices_per_node - 1) / cluster.devices_per_node);
    const std::unique_ptr<topologies::Network> network = topologies::make_network(whole);
    const Orbits orbits =
        fold && colour.empty() ? find_orbits(graph, models, whole, *network) : Orbits(mesh, mesh.size(plan::Axis::dp));
    const Meetings meetings = find_meetings(graph, models, orbits);
    const LinkLoads loads = find_link_loads(graph, models, meetings, whole, *network);
    if (!loads.loads.empty()) {
      const std::size_t most = shared_links == SharedLinks::yes ? SIZE_MAX : std::max(kMostClasses, graph.roles.size());
      // Looked at also where nothing is folded, so that folding never decides which model it is.
      const std::optional<Partition> folded = refine(meetings, loads, of_seen(colour, orbits), most);
      if (folded) {
        const Partition partition = fold ? *folded : finest(meetings, loads);
        job.classes = fold ? classes_of(graph, models, meetings, partition) : single_ranks(graph, models);
        job.flows = make_flow_plan(models, meetings, loads, partition, job.classes);
        return job;
      }
      job.has_too_many = true;
    }
  }
  if (!fold) {
    job.classes = single_ranks(graph, models);
  } else if (colour.empty()) {
    job.classes = role_classes(graph, models);
  } else {
    const Meetings meetings = find_meetings(graph, models, Orbits(mesh, mesh.size(plan::Axis::dp)));
    job.classes = classes_of(graph, models, meetings, *refine(meetings, {}, colour));
  }
  return job;
}

}  // namespace foretrain::sim
