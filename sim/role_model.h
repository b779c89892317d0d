// What the simulator knows of a role before it runs: every op's duration (rounded up once), kind and event copies. Used
// by engine.cpp and fold.cpp only.
#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "plan/breakdown.h"
#include "plan/cursor.h"
#include "plan/graph.h"
#include "sim/compute_model.h"
#include "sim/network.h"
#include "topologies/cluster.h"

namespace foretrain::sim {

// An event of an op; the copy follows from the instance's slot, ring or layer.
struct EventRef {
  std::int32_t first = 0;  // index of copy 0 in the role's dense table
  plan::Replicas replicas{};
  std::int32_t copy(const plan::Binding& b) const;
};

enum class OpKind : std::uint8_t {
  instant,   // takes no time and no device: Join, Host
  local,     // one role and nobody else: compute, copies
  together,  // a collective all of whose members have this role: they arrive as one
  meeting,   // a collective over several roles, or messages
};

// Speeds are fixed-point fractions of the speed alone.
inline constexpr std::int64_t kFullSpeed = std::int64_t{1} << 20;

// What tells meetings apart: step, match key, first and last role.
using MeetingKey = std::tuple<std::int32_t, plan::MatchKey, std::int32_t, std::int32_t>;

// One message of an Exchange, or the whole of a collective over roles.
struct Meeting {
  std::vector<std::int32_t> roles;  // that take part, ascending; a message's sender first
  std::int32_t tag = -1;
  bool is_message = false;
  Time duration;
  std::vector<std::int64_t> speed;  // as OpModel::speed

  MeetingKey key(std::int32_t step, const plan::Role& role, const plan::Binding& b) const;
  std::size_t arrivals() const;  // that it takes to start
};

struct OpModel {
  OpKind kind = OpKind::local;
  plan::StreamId stream = plan::kCompute;
  plan::Share share = nullptr;
  Time duration;                  // local, together
  std::vector<Meeting> meetings;  // meeting
  std::vector<std::uint16_t> after;
  std::vector<EventRef> waits, records;
  std::vector<std::int64_t> speed;  // by number of active ranks; empty: always kFullSpeed
};

struct RoleModel {
  const plan::Role* role = nullptr;
  std::int64_t multiplicity = 1;
  std::vector<std::vector<OpModel>> blocks;  // as Role::blocks
  std::int32_t event_copies = 0;
};

// `models` of all roles of a graph. Throws what the models throw.
std::vector<RoleModel> model_roles(const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                                   const ComputeModel& compute, const NetworkModel& network);

}  // namespace foretrain::sim
