#include "sim/role_model.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <variant>

#include "base/error.h"
#include "plan/runtime_extent.h"
#include "plan/work.h"
#include "sim/cache.h"
#include "sim/device_share.h"
#include "sim/host_ops.h"
#include "topologies/network.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

using plan::Collective;
using plan::Exchange;
using plan::Message;
using plan::Op;
using plan::PlanGraph;
using plan::Rank;
using plan::Role;

struct Modeller {
  const PlanGraph& graph;
  const topologies::Cluster& cluster;
  const ComputeModel& compute;
  const NetworkModel& network;
  topologies::SharingFigures sharing = sharing_figures(cluster);
  int per_unit = topologies::devices_per_unit(cluster);
  LongRoutes long_routes = LongRoutes(cluster);
  std::int64_t all_ranks = 0;
  std::int64_t most_active = 0;  // that can be at work at once: ranks, or streams of theirs
  std::vector<View> views = {};  // of the role
  std::vector<Lane> lanes = {};  // of the role
  std::map<std::pair<int, plan::GroupId>, GroupPlacement> placements = {};  // the widest of the role's
  std::map<std::pair<int, View>, double> message_extras = {};               // seconds
  std::map<std::pair<int, View>, bool> leave_node = {};

  bool reads() const { return cluster.storage.bandwidth.value > 0; }
  bool shares_machine() const { return cluster.shares_devices() && all_ranks > 1; }

  // By number of ranks at work.
  std::vector<std::int64_t> speeds(const std::function<double(std::int64_t)>& slowdown) const {
    if (!shares_machine()) {
      return {};
    }
    // Machines by themselves: as if those at work were spread evenly over them.
    const std::int64_t machines = cluster.is_hosts() && !cluster.hosts_share_cores ? cluster.nodes : 1;
    std::vector<std::int64_t> result(static_cast<std::size_t>(most_active) + 1, kFullSpeed);
    for (std::int64_t active = 1; active <= most_active; ++active) {
      const std::int64_t here = (active + machines - 1) / machines;
      const auto speed = static_cast<std::int64_t>(std::floor(static_cast<double>(kFullSpeed) / slowdown(here)));
      result[static_cast<std::size_t>(active)] = std::clamp<std::int64_t>(speed, 1, 100 * kFullSpeed);
    }
    return result;
  }

  std::int32_t view(const View& v) {
    const auto found = std::find(views.begin(), views.end(), v);
    if (found == views.end()) {
      views.push_back(v);
      return static_cast<std::int32_t>(views.size() - 1);
    }
    return static_cast<std::int32_t>(found - views.begin());
  }

  Pattern pattern_of(plan::CollectiveKind kind) const {
    if (cluster.is_hosts()) {
      return Pattern::hosts;
    }
    switch (kind) {
      case plan::CollectiveKind::all_to_all: return Pattern::all_to_all;
      case plan::CollectiveKind::gather: return Pattern::to_root;
      case plan::CollectiveKind::distribute: return Pattern::from_root;
      default: return Pattern::ring;
    }
  }

  void traffic(Pattern pattern, const std::optional<Traffic>& traffic, plan::StreamId stream, Meeting& meeting,
               std::int32_t root = -1) {
    if (!traffic || (shares_machine() && !meeting.is_carried)) {
      return;
    }
    MeetingTraffic t = make_traffic(pattern, meeting.duration, *traffic, cluster);
    t.shape.root = pattern == Pattern::to_root || pattern == Pattern::from_root ? root : -1;
    meeting.flow = t.flow;
    if (t.flow.bytes.value == 0) {
      return;
    }
    const auto found = std::find_if(lanes.begin(), lanes.end(), [&](const Lane& l) {
      return l.view == meeting.view && l.stream == stream && l.shape == t.shape;
    });
    meeting.lane = static_cast<std::int32_t>(found - lanes.begin());
    if (found == lanes.end()) {
      lanes.push_back({meeting.view, stream, t.shape, 0});
    }
    Rate& largest = lanes[static_cast<std::size_t>(meeting.lane)].largest_cap;
    largest = std::max(largest, t.flow.cap);
  }

  const GroupPlacement& placement(int role, plan::GroupId id) {
    const auto [it, is_new] = placements.try_emplace({role, id});
    if (is_new) {
      CHECK(id >= 0 && static_cast<std::size_t>(id) < graph.groups.size(), "collective over group {}", id);
      const plan::Group& group = graph.groups[static_cast<std::size_t>(id)];
      const plan::RankSet& ranks = graph.roles[static_cast<std::size_t>(role)].ranks;
      it->second = widest_group(graph.mesh, group, ranks, per_unit);
      it->second.extra = long_routes.of(graph.mesh, group, ranks);
    }
    return it->second;
  }

  void collective(int role, const Collective& c, OpModel& m) {
    const GroupPlacement& group = placement(role, c.group);
    const Bytes bytes{size_bytes(c.dtype, c.elements)};
    m.kind = OpKind::meeting;
    const double seconds = network.collective(c.kind, bytes, group);
    m.duration = time_from_seconds(seconds);
    Meeting meeting;
    meeting.view = view({c.group, {}, 0, false});
    meeting.tag = c.tag;
    meeting.duration = m.duration;
    meeting.load = collective_load(sharing, c.kind, bytes, group, seconds, is_through_switch(c.kind, bytes, group));
    meeting.is_carried = cluster.is_hosts() && group.nodes > 1;
    if (!meeting.is_carried) {
      meeting.speed = speeds([&](std::int64_t active) { return network.slowdown(bytes, group.ranks, active); });
    }
    if (group.ranks > 1) {
      traffic(pattern_of(c.kind), network.traffic(c.kind, bytes, group), m.stream, meeting, c.root);
    }
    m.meetings.push_back(std::move(meeting));
  }

  bool is_through_switch(plan::CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const {
    const auto& blocks = group.nodes == 1 ? sharing.node_blocks : sharing.fabric_blocks;
    if (group.ranks < 2 || blocks.count(std::string(plan::name(kind)) + "_in_switch") == 0) {
      return false;  // it makes no difference
    }
    const auto all = network.candidates(collective::from_plan(kind), bytes, group);
    const auto chosen = std::find_if(all.begin(), all.end(), [](const CollectiveCandidate& c) { return c.chosen; });
    return chosen != all.end() && chosen->algorithm.rfind("in_switch", 0) == 0;
  }

  // Whether a message of any rank of the role to its peer leaves the node, or the domain.
  bool leaves_node(int role_index, const Message& message) {
    const auto [it, is_new] = leave_node.try_emplace({role_index, view_of(message)}, false);
    if (is_new) {
      it->second = any_leaves_node(graph.roles[static_cast<std::size_t>(role_index)], message);
    }
    return it->second;
  }

  bool any_leaves_node(const Role& role, const Message& message) const {
    const plan::Mesh& mesh = graph.mesh;
    const Rank ranks = mesh.ranks();
    const Rank stride = mesh.stride(message.axis);
    if (mesh.beside == 0 && per_unit % (stride * mesh.size(message.axis)) == 0) {
      return false;  // whole slices along the axis lie in a node
    }
    const auto leaves = [&](Rank r) {
      return mesh.peer(r, message.axis, message.peer, message.relative) / per_unit != r / per_unit;
    };
    if (leaves(plan::first_rank(mesh, role.ranks))) {
      return true;
    }
    for (Rank r = 0; r < ranks; ++r) {
      if (plan::contains(mesh, role.ranks, r) && leaves(r)) {
        return true;
      }
    }
    return false;
  }

  static View view_of(const Message& m) { return {plan::kNoGroup, m.axis, m.peer, m.send, m.relative}; }

  double message_extra(int role_index, const Message& message) {
    const View view = view_of(message);
    const auto [it, is_new] = message_extras.try_emplace({role_index, view}, 0);
    if (is_new) {
      it->second =
          long_routes.of_messages(graph.mesh, graph.roles[static_cast<std::size_t>(role_index)].ranks, message);
    }
    return it->second;
  }

  void exchange(int role_index, const Exchange& e, OpModel& m) {
    m.kind = e.messages.empty() ? OpKind::instant : OpKind::meeting;
    for (const Message& message : e.messages) {
      const Bytes bytes{size_bytes(message.dtype, message.elements)};
      Meeting meeting;
      meeting.view = view(view_of(message));
      meeting.tag = message.tag;
      meeting.is_message = true;
      meeting.sends = message.send;
      const bool same_node = !leaves_node(role_index, message);
      const double extra = message_extra(role_index, message);
      const double seconds = network.message(bytes, same_node) + extra;
      meeting.duration = time_from_seconds(seconds);
      meeting.is_carried = cluster.is_hosts() && !same_node;
      m.duration = std::max(m.duration, meeting.duration);
      meeting.load = message_load(sharing, bytes, same_node, seconds);
      std::optional<Traffic> on_the_wires = network.message_traffic(bytes, same_node);
      if (on_the_wires) {
        on_the_wires->latency += extra;
      }
      traffic(Pattern::message, on_the_wires, m.stream, meeting);
      if (!meeting.is_carried) {
        meeting.speed = speeds([&](std::int64_t active) { return network.slowdown(bytes, 1, active); });
      }
      m.meetings.push_back(std::move(meeting));
    }
  }

  // A message, which the server takes or sends one after the other: no two of them share its link.
  void channel(int role, const plan::Channel& c, OpModel& m) {
    const GroupPlacement& group = placement(role, c.group);
    const Bytes bytes{size_bytes(c.dtype, c.elements)};
    const bool same_node = group.nodes == 1;
    const double seconds = network.message(bytes, same_node) + group.extra.farthest;
    m.kind = OpKind::channel;
    m.duration = time_from_seconds(seconds);
    Meeting meeting;
    meeting.view = view({c.group, {}, 0, false});
    meeting.tag = c.tag;
    meeting.is_message = true;
    meeting.sends = c.step == plan::ChannelStep::put || c.step == plan::ChannelStep::release;
    meeting.duration = m.duration;
    meeting.is_carried = cluster.is_hosts() && !same_node;
    meeting.load = message_load(sharing, bytes, same_node, seconds);
    if (!meeting.is_carried) {
      meeting.speed = speeds([&](std::int64_t active) { return network.slowdown(bytes, 1, active); });
    }
    m.meetings.push_back(std::move(meeting));
  }

  // Of copies over the device's link to its host, and of what the host computes: as fast as its memory.
  std::optional<double> host_seconds(const Role& role, const Op& op) const {
    if (cluster.this_machine || cluster.host.link.value <= 0) {
      return std::nullopt;
    }
    if (const auto* copy = std::get_if<plan::Copy>(&op.work); copy != nullptr) {
      return copy->kind == plan::CopyKind::device_to_device
                 ? std::nullopt
                 : std::optional(static_cast<double>(copy->bytes) / cluster.host.link.value);
    }
    const bool on_host = role.streams[static_cast<std::size_t>(op.stream)].kind == plan::StreamKind::host &&
                         !std::holds_alternative<plan::Host>(op.work);
    const plan::OpWork work = plan::work(op);
    return on_host ? std::optional(static_cast<double>((work.read + work.written).value) / cluster.host.memory.value)
                   : std::nullopt;
  }

  // Whether the op costs what one of another role does.
  bool is_like(const Role& role, const Op& op, const Role& other_role, const Op& other) const {
    const auto is_on_host = [](const Role& r, const Op& o) {
      return r.streams[static_cast<std::size_t>(o.stream)].kind == plan::StreamKind::host;
    };
    return is_on_host(role, op) == is_on_host(other_role, other) && op.runtime_extent == other.runtime_extent &&
           op.work == other.work;
  }

  void local(const Role& role, const Op& op, double cached, OpModel& m) const {
    if (const std::optional<double> seconds = host_seconds(role, op)) {
      m.duration = time_from_seconds(*seconds);
      m.kind = m.duration.value == 0 ? OpKind::instant : OpKind::local;
      return;
    }
    double seconds = compute.seconds(op);
    if (cached > 0) {
      seconds += cached * (compute.cached_seconds(op) - seconds);
    }
    m.duration = time_from_seconds(seconds);
    m.kind = m.duration.value == 0 ? OpKind::instant : OpKind::local;
    if (m.kind == OpKind::local) {
      m.speed = speeds([&](std::int64_t active) { return compute.slowdown(op, active); });
    }
  }

  // Of a measured GPU each op is one of the host's, and so is each wait for another stream.
  double submit_seconds(const Role& role, const Op& op) const {
    if (!cluster.is_gpu) {
      return sharing.submit.value * host_ops(op.work);
    }
    if (cluster.profile == nullptr ||
        role.streams[static_cast<std::size_t>(op.stream)].kind == plan::StreamKind::host) {
      return 0;
    }
    const topologies::Measured& measured = cluster.profile->measured;
    return measured.submit_seconds + measured.event_seconds * static_cast<double>(op.after.size() + op.waits.size());
  }

  // The shapes of such ops are maxima: what the busiest rank has counts.
  const Op& at_run_time(const Op& op, std::optional<Op>& changed) const {
    if (op.runtime_extent < 0) {
      return op;
    }
    const plan::RuntimeExtent& extent = graph.runtime_extents[static_cast<std::size_t>(op.runtime_extent)];
    return changed.emplace(plan::at_extent(op, plan::busiest(graph.mesh, graph.groups, extent)));
  }

  // `cached`: part of the op's bytes that the core's caches hold.
  // `before`: in the same place of the role before, where caches hold nothing; nullptr: there is none.
  OpModel model(int role_index, const Op& planned, double cached, const std::vector<std::int32_t>& first_copy,
                const OpModel* before) {
    const Role& role = graph.roles[static_cast<std::size_t>(role_index)];
    OpModel m;
    m.op = m.like = &planned;
    if (before != nullptr &&
        is_like(role, planned, graph.roles[static_cast<std::size_t>(role_index) - 1], *before->op)) {
      m.like = before->like;
    }
    std::optional<Op> changed;
    const Op& op = at_run_time(planned, changed);
    m.stream = op.stream;
    m.share = plan::share_of(graph, role, op);
    m.after = op.after;
    const auto refs = [&](const std::vector<plan::EventId>& events) {
      std::vector<EventRef> result;
      result.reserve(events.size());
      for (const plan::EventId e : events) {
        const auto i = static_cast<std::size_t>(e);
        result.push_back({first_copy[i], role.events[i].replicas});
      }
      return result;
    };
    m.waits = refs(op.waits);
    m.records = refs(op.records);
    if (const auto* c = std::get_if<Collective>(&op.work)) {
      collective(role_index, *c, m);
    } else if (const auto* e = std::get_if<Exchange>(&op.work)) {
      exchange(role_index, *e, m);
    } else if (const auto* channel = std::get_if<plan::Channel>(&op.work)) {
      this->channel(role_index, *channel, m);
    } else if (const auto* host = std::get_if<plan::Host>(&op.work); host != nullptr && host->bytes > 0 && reads()) {
      m.kind = OpKind::read;
      return m;
    } else if (m.like != &planned) {
      m.kind = before->kind;
      m.duration = before->duration;
      m.speed = before->speed;
    } else {
      local(role, op, cached, m);
    }
    if (m.kind != OpKind::instant) {
      m.submit = time_from_seconds(submit_seconds(role, op));
      m.holds_host = m.submit.value > 0 && host_waits_for(op.work);
    }
    return m;
  }
};

// Of a forward or backward of a chunk, what the compute stream does last. Where that is a layer's, the host waits in
// each: layers are alike, and so is the time.
void wait_at_ends_of_passes(const Role& role, std::vector<std::vector<OpModel>>& blocks) {
  for (const plan::Segment& segment : role.segments) {
    if (segment.chunk < 0) {
      continue;
    }
    for (auto call = segment.calls.rbegin(); call != segment.calls.rend(); ++call) {
      std::vector<OpModel>& ops = blocks[static_cast<std::size_t>(call->block)];
      const auto last = std::find_if(ops.rbegin(), ops.rend(), [](const OpModel& m) {
        return m.stream == plan::kCompute && m.kind != OpKind::instant && m.submit.value > 0;
      });
      if (last != ops.rend()) {
        last->holds_host = true;
        break;
      }
    }
  }
}

}  // namespace

std::int32_t hops(const plan::Mesh& mesh, const View& view) {
  const std::int32_t size = mesh.size(view.axis), further = view.sends ? view.peer : -view.peer;
  return view.relative ? (further % size + size) % size : 0;
}

std::int32_t EventRef::copy(const plan::Binding& b) const {
  switch (replicas) {
    case plan::Replicas::once: return first;
    case plan::Replicas::per_slot: return first + b.slot;
    case plan::Replicas::per_ring: return first + b.ring;
    case plan::Replicas::per_layer: return first + b.layer;
  }
  return first;
}

std::vector<RoleModel> model_roles(const PlanGraph& graph, const topologies::Cluster& cluster,
                                   const ComputeModel& compute, const NetworkModel& network) {
  Modeller modeller{graph, cluster, compute, network};
  if (cluster.shares_devices() || cluster.device.exclusive_streams) {
    modeller.sharing = {};
  }
  for (const Role& role : graph.roles) {
    const std::int64_t ranks = plan::count(graph.mesh, role.ranks);
    modeller.all_ranks += ranks;
    modeller.most_active += ranks * (cluster.device.exclusive_streams ? 1 : std::ssize(role.streams));
  }
  const bool apart = cluster.is_hosts() && !cluster.hosts_share_cores;
  const Bytes cache = compute.cache(apart ? cluster.devices_per_node : modeller.all_ranks);
  const plan::ReadRate rate = plan::read_rate(graph, cluster);
  std::vector<RoleModel> models;
  for (std::size_t r = 0; r < graph.roles.size(); ++r) {
    const Role& role = graph.roles[r];
    RoleModel m;
    m.role = &role;
    if (const plan::Host* const host = plan::reading_op(role); host != nullptr && rate.is_limited()) {
      m.reads.emplace(*host, rate);
    }
    std::vector<std::int32_t> first_copy;
    for (const plan::Event& event : role.events) {
      first_copy.push_back(m.event_copies);
      switch (event.replicas) {
        case plan::Replicas::once: m.event_copies += 1; break;
        case plan::Replicas::per_slot: m.event_copies += role.slots; break;
        case plan::Replicas::per_ring: m.event_copies += role.rings; break;
        case plan::Replicas::per_layer: m.event_copies += static_cast<std::int32_t>(role.global_layer.size()); break;
      }
    }
    CHECK(m.event_copies == plan::event_copies(role), "{}: event copies", role.name);
    std::vector<std::vector<double>> cached;
    if (cache.value > 0) {
      cached = cached_parts(graph, static_cast<int>(r), cache);
    }
    for (std::size_t b = 0; b < role.blocks.size(); ++b) {
      std::vector<OpModel>& ops = m.blocks.emplace_back();
      ops.reserve(role.blocks[b].ops.size());
      for (const Op& op : role.blocks[b].ops) {
        const double part = cached.empty() ? 0 : cached[b][ops.size()];
        const OpModel* before = nullptr;
        if (r > 0 && cached.empty() && b < models[r - 1].blocks.size() && ops.size() < models[r - 1].blocks[b].size()) {
          before = &models[r - 1].blocks[b][ops.size()];
        }
        ops.push_back(modeller.model(static_cast<int>(r), op, part, first_copy, before));
      }
    }
    if (modeller.sharing.waits_each_pass) {
      wait_at_ends_of_passes(role, m.blocks);
    }
    m.views = std::move(modeller.views);
    m.lanes = std::move(modeller.lanes);
    modeller.views.clear();
    modeller.lanes.clear();
    models.push_back(std::move(m));
  }
  return models;
}

}  // namespace foretrain::sim
