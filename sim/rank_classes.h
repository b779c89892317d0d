// Classes of ranks that do the same at the same time and are simulated once, with their multiplicity.
//
// A partition of the ranks is equitable when ranks of one class have the same program and speed, and whatever they meet
// (a collective over a group, the peer of a message) is made up of the same classes for each of them. Then all ranks of
// a class have the same timeline: by induction over the instants, what they wait for ends at the same time. Two group
// instances made up of the same classes are one meeting. Where meetings are flows (sim/flow_plan.h) links are part of
// the partition: meetings of one class then have the same rates at all times, too. The roles themselves are the
// coarsest such partition when all ranks of a role are as fast as each other; every rank by itself is the finest.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "plan/graph.h"
#include "sim/link_loads.h"
#include "sim/meetings.h"
#include "sim/role_model.h"

namespace foretrain::sim {

// Where a class meets others through one of its role's views.
struct MeetingPlace {
  std::int32_t instance = -1;  // the same for all classes that meet there
  std::int32_t arrivals = 0;   // that it takes: classes, or both ends of a message
  bool is_within = false;      // a ring's message of an op that has the like of its other end, in this very class
};

struct RankClass {
  std::int32_t role = -1;
  std::int32_t model = -1;  // index in the models: its role's, or a slower one
  plan::Rank first = -1;    // stands for all; the lowest
  std::int64_t multiplicity = 0;
  std::vector<MeetingPlace> places;  // as RoleModel::views
  std::vector<std::int32_t> routes;  // as RoleModel::lanes: in FlowPlan::routes, -1: its links never hold it back

  const MeetingPlace& place(const Meeting& m) const { return places[static_cast<std::size_t>(m.view)]; }
  std::int32_t route(const Meeting& m) const {
    return m.lane < 0 || routes.empty() ? -1 : routes[static_cast<std::size_t>(m.lane)];
  }
  // Whether when the op ends is not for this class alone to say: it meets ranks of other classes, or messages of other
  // ops within this one, or shares links. Else its members arrive as one.
  bool meets_others(const OpModel& op) const {
    return std::any_of(op.meetings.begin(), op.meetings.end(), [&](const Meeting& m) {
      return (place(m).arrivals > 1 && !place(m).is_within) || route(m) >= 0;
    });
  }
};

// By role.
std::vector<RankClass> role_classes(const plan::PlanGraph& graph, const std::vector<RoleModel>& models);

// By rank.
std::vector<RankClass> single_ranks(const plan::PlanGraph& graph, const std::vector<RoleModel>& models);

// Colours of seen ranks, of meeting instances and of links: a partition of all three.
struct Partition {
  std::vector<std::int32_t> rank, instance, link;
};

// The coarsest equitable partition that keeps ranks of different roles or colours apart: ranks of a colour meet
// instances of the same colours; instances of a colour are met by ranks of the same colours and put the same loads on
// links of the same colours; links of a colour have the same capacity, and the same loads from instances of the same
// colours. `rank_colour` is by seen rank; what it means (a speed, a place) is the caller's. Near-linear in ranks and
// loads per round; a handful of rounds where symmetry is high, at most as many as there are colours. Gives up as soon
// as there would be more than `most` colours of ranks.
std::optional<Partition> refine(const Meetings& meetings, const LinkLoads& loads, std::vector<std::int32_t> rank_colour,
                                std::size_t most = SIZE_MAX);
// Everything by itself.
Partition finest(const Meetings& meetings, const LinkLoads& loads);

// In order of the classes' first ranks.
std::vector<RankClass> classes_of(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                                  const Meetings& meetings, const Partition& partition);

}  // namespace foretrain::sim
