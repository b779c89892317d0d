// What the simulator knows of a role before it runs: every op's duration (rounded up once), kind, event copies, and
// where it meets other ranks. The same for all ranks of the role.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <vector>

#include "plan/breakdown.h"
#include "plan/cursor.h"
#include "plan/graph.h"
#include "plan/reading.h"
#include "sim/compute_model.h"
#include "sim/device_load.h"
#include "sim/network.h"
#include "sim/traffic.h"
#include "topologies/cluster.h"

namespace foretrain::sim {

// An event of an op; the copy follows from the instance's slot, ring or layer.
struct EventRef {
  std::int32_t first = 0;  // index of copy 0 in the role's dense table
  plan::Replicas replicas{};
  std::int32_t copy(const plan::Binding& b) const;
};

enum class OpKind : std::uint8_t {
  instant,  // takes no time and no device: Join, Host
  local,    // compute, copies
  meeting,  // a collective, or messages
  read,     // of storage, beside all else that the rank does
  channel   // between a server and workers that do not wait for each other: a message once two have met
};

// Speeds are fixed-point fractions of the speed alone.
inline constexpr std::int64_t kFullSpeed = std::int64_t{1} << 20;

// Whom ops of a role meet: the members of a group, or the peer of a message. The same view for every op that meets
// them.
struct View {
  plan::GroupId group = plan::kNoGroup;  // kNoGroup: a message
  plan::Axis axis{};                     // of a message
  std::int32_t peer = 0;                 // as plan::Message::peer
  bool sends = false;
  bool relative = false;
  friend auto operator<=>(const View&, const View&) = default;
};

// Of a ring's message, from sender to receiver, one way round; 0 for others.
std::int32_t hops(const plan::Mesh& mesh, const View& view);

// Meetings that cannot overlap: ops of one stream, of one view; with one shape of traffic.
struct Lane {
  std::int32_t view = 0;
  plan::StreamId stream = plan::kCompute;
  TrafficShape shape;
  Rate largest_cap = 0;  // of their flows
};

// One message of an Exchange, or the whole of a collective.
struct Meeting {
  std::int32_t view = 0;  // index in RoleModel::views
  std::int32_t tag = -1;
  bool is_message = false;
  bool sends = false;
  Time duration;
  bool is_carried = false;          // between hosts by a thread of their own: it takes no member's core
  std::vector<std::int64_t> speed;  // as OpModel::speed
  std::int32_t lane = -1;           // index in RoleModel::lanes; -1: the network model knows of no traffic
  AloneFlow flow;
  DeviceLoad load;  // on every device that takes part
};

struct OpModel {
  const plan::Op* op = nullptr;
  const plan::Op* like = nullptr;  // in the same place of an earlier role, of the same work; else the op itself
  OpKind kind = OpKind::local;
  plan::StreamId stream = plan::kCompute;
  plan::Share share = nullptr;
  Time duration;                  // local; of a collective; the longest of a batch of messages
  Time submit;                    // of the host, before it can start; none of an instant
  bool holds_host = false;        // the host needs its result, and submits nothing until it ends; on the compute stream
  std::vector<Meeting> meetings;  // meeting
  std::vector<std::uint16_t> after;
  std::vector<EventRef> waits, records;
  std::vector<std::int64_t> speed;  // by number of active ranks; empty: always kFullSpeed
  // Part of its duration that it takes its core, of kFullSpeed: a rank that is held back sleeps between its ops.
  std::int64_t at_work = kFullSpeed;
};

struct RoleModel {
  const plan::Role* role = nullptr;
  std::vector<std::vector<OpModel>> blocks;  // as Role::blocks
  std::vector<View> views;
  std::vector<Lane> lanes;
  std::int32_t event_copies = 0;
  std::optional<plan::Reads> reads;  // when its reads are there, where they take time
};

// `models` of all roles of a graph. Throws what the models throw.
std::vector<RoleModel> model_roles(const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                                   const ComputeModel& compute, const NetworkModel& network);

}  // namespace foretrain::sim
