#include "sim/job_classes.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "topologies/fabric.h"
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

// Classes with flows; without any where the network's links never hold anything back (then no classes either); nothing
// when there would be more than `most`.
std::optional<JobClasses> with_flows(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                                     const topologies::Cluster& cluster, const std::vector<std::int32_t>& colour,
                                     std::size_t most, bool fold) {
  const std::unique_ptr<topologies::Network> network = topologies::make_network(cluster);
  const Orbits orbits = fold && colour.empty() ? find_orbits(graph, models, cluster, *network)
                                               : Orbits(graph.mesh, graph.mesh.size(plan::Axis::dp));
  const Meetings meetings = find_meetings(graph, models, orbits);
  const LinkLoads loads = find_link_loads(graph, models, meetings, cluster, *network);
  JobClasses job;
  if (loads.loads.empty()) {
    return job;
  }
  // Looked at also where nothing is folded, so that folding never decides which model it is.
  const std::optional<Partition> folded = refine(meetings, loads, of_seen(colour, orbits), most);
  if (!folded) {
    return std::nullopt;
  }
  const Partition partition = fold ? *folded : finest(meetings, loads);
  job.classes = fold ? classes_of(graph, models, meetings, partition) : single_ranks(graph, models);
  job.flows = make_flow_plan(models, meetings, loads, partition, job.classes);
  return job;
}

topologies::Cluster sprayed(topologies::Cluster cluster) {
  topologies::Fabric fabric = *cluster.fabric;
  fabric.routing = topologies::Routing::sprayed;
  cluster.fabric = std::make_shared<const topologies::Fabric>(std::move(fabric));
  return cluster;
}

}  // namespace

JobClasses find_classes(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                        const topologies::Cluster& cluster, const std::vector<std::int32_t>& colour,
                        SharedLinks shared_links, bool fold) {
  LinksSeen seen = LinksSeen::as_they_are;
  if (shared_links != SharedLinks::no && has_lanes(models)) {
    topologies::Cluster whole = cluster;  // with a device for every rank
    whole.nodes = std::max(whole.nodes, (graph.mesh.ranks() + cluster.devices_per_node - 1) / cluster.devices_per_node);
    const std::size_t most = shared_links == SharedLinks::yes ? SIZE_MAX : std::max(kMostClasses, graph.roles.size());
    std::optional<JobClasses> job = with_flows(graph, models, whole, colour, most, fold);
    if (!job && whole.fabric != nullptr && whole.fabric->routing == topologies::Routing::hashed) {
      job = with_flows(graph, models, sprayed(std::move(whole)), colour, most, fold);
      seen = LinksSeen::sprayed;
    }
    seen = job ? seen : LinksSeen::none;
    if (job && !job->flows.empty()) {
      job->seen = seen;
      return *std::move(job);
    }
  }
  JobClasses job;
  job.seen = seen;
  if (!fold) {
    job.classes = single_ranks(graph, models);
  } else if (colour.empty()) {
    job.classes = role_classes(graph, models);
  } else {
    const Meetings meetings = find_meetings(graph, models, Orbits(graph.mesh, graph.mesh.size(plan::Axis::dp)));
    job.classes = classes_of(graph, models, meetings, *refine(meetings, {}, colour));
  }
  return job;
}

}  // namespace foretrain::sim
