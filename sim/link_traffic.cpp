#include "sim/link_traffic.h"

#include <algorithm>
#include <map>

#include "sim/compute_model.h"
#include "sim/fair_share.h"
#include "sim/meetings.h"
#include "sim/network.h"
#include "sim/role_model.h"

namespace foretrain::sim {

namespace {

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// By lane of the role: what its flows move in a step, in bytes at the adapter.
std::vector<double> lane_bytes(const RoleModel& model) {
  std::vector<double> bytes(model.lanes.size(), 0.0);
  std::vector<double> calls(model.blocks.size(), 0.0);
  const plan::Role& role = *model.role;
  for (const plan::Instance& instance : role.program.body) {
    for (const plan::BlockCall& call : role.segments[at(instance.segment)].calls) {
      calls[at(call.block)] += static_cast<double>(call.count) / instance.every;
    }
  }
  for (std::size_t b = 0; b < calls.size(); ++b) {
    for (const OpModel& op : model.blocks[b]) {
      for (const Meeting& m : op.meetings) {
        if (m.lane >= 0 && !(m.is_message && !m.sends)) {
          bytes[at(m.lane)] += calls[b] * static_cast<double>(m.flow.bytes.value);
        }
      }
    }
  }
  return bytes;
}

class Router {
 public:
  Router(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const topologies::Network& network)
      : graph_(graph),
        network_(network),
        per_unit_(topologies::devices_per_unit(cluster)),
        busy_(at(network.link_count()), 0.0) {}

  // What the instance's members move in a step in flows of one shape.
  void add(const MeetingInstance& meeting, const TrafficShape& shape, double bytes) {
    std::vector<plan::Rank> members = meeting.seen;
    if (meeting.group != plan::kNoGroup) {
      members = plan::members(graph_.mesh, graph_.groups[at(meeting.group)], meeting.member);
      std::sort(members.begin(), members.end());
    }
    streams_.clear();
    add_streams(
        shape, members, per_unit_, [](plan::Rank) { return true; }, streams_);
    use_.clear();
    for (const Stream& s : streams_) {
      network_.route(s.from, s.to, static_cast<std::uint64_t>(meeting.group + 1), route_);
      for (const topologies::Route::Hop& hop : route_.hops) {
        use_[hop.link] += static_cast<double>(s.use) / kWholeUse * hop.share / route_.whole;
      }
    }
    const double unit = static_cast<double>(shape.unit) / static_cast<double>(kRateUnits);
    for (const auto& [link, use] : use_) {
      const double capacity = network_.link(link).capacity.value;
      const topologies::LinkEnds ends = network_.ends(link);
      const bool between_switches = network_.unit_of(ends.from) < 0 && network_.unit_of(ends.to) < 0;
      busy_[at(link)] += bytes * (between_switches ? use : std::min(use, capacity / unit)) / capacity;
    }
  }

  std::vector<double> busy() && { return std::move(busy_); }

 private:
  const plan::PlanGraph& graph_;
  const topologies::Network& network_;
  const int per_unit_;
  std::vector<double> busy_;
  std::vector<Stream> streams_;
  topologies::Route route_;
  std::map<topologies::LinkId, double> use_;
};

}  // namespace

std::vector<double> link_busy_seconds(const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                                      const topologies::Network& network) {
  if (cluster.shares_devices() || graph.asynchronous) {
    return {};
  }
  const auto compute = make_compute_model("auto", cluster);
  const auto model = make_network_model("auto", cluster, {}, graph.mesh.ranks());
  const std::vector<RoleModel> models = model_roles(graph, cluster, *compute, *model);
  const Meetings meetings = find_meetings(graph, models, Orbits(graph.mesh, graph.mesh.size(plan::Axis::dp)));
  std::vector<std::vector<double>> bytes;
  for (const RoleModel& m : models) {
    bytes.push_back(lane_bytes(m));
  }
  Router router(graph, cluster, network);
  for (std::size_t i = 0; i < meetings.role.size(); ++i) {
    const RoleModel& role = models[at(meetings.role[i])];
    for (std::size_t l = 0; l < role.lanes.size(); ++l) {
      const Lane& lane = role.lanes[l];
      const MeetingInstance& meeting = meetings.all[at(meetings.of_rank[i][at(lane.view)])];
      // One member speaks for all: a group's first, a message's sender.
      const bool speaks = meeting.group == plan::kNoGroup ? role.views[at(lane.view)].sends
                                                          : meeting.seen.front() == meetings.orbits.rank(i);
      if (speaks && bytes[at(meetings.role[i])][l] > 0) {
        router.add(meeting, lane.shape, bytes[at(meetings.role[i])][l]);
      }
    }
  }
  return std::move(router).busy();
}

}  // namespace foretrain::sim
