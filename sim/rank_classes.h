// Classes of ranks that do the same at the same time and are simulated once, with their multiplicity.
//
// A partition of the ranks is equitable when ranks of one class have the same program and speed, and whatever they meet
// (a collective over a group, the peer of a message) is made up of the same classes for each of them. Then all ranks of
// a class have the same timeline: by induction over the instants, what they wait for ends at the same time. Two group
// instances made up of the same classes are one meeting. The roles themselves are the coarsest such partition when all
// ranks of a role are as fast as each other; every rank by itself is the finest.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "plan/graph.h"
#include "sim/role_model.h"

namespace foretrain::sim {

// Where a class meets others through one of its role's views.
struct MeetingPlace {
  std::int32_t instance = -1;  // the same for all classes that meet there
  std::int32_t arrivals = 0;   // that it takes: classes, or both ends of a message
};

struct RankClass {
  std::int32_t role = -1;
  std::int32_t model = -1;  // index in the models: its role's, or a slower one
  plan::Rank first = -1;    // stands for all; the lowest
  std::int64_t multiplicity = 0;
  std::vector<MeetingPlace> places;  // as RoleModel::views

  const MeetingPlace& place(const Meeting& m) const { return places[static_cast<std::size_t>(m.view)]; }
  // Whether the op meets ranks of other classes, or messages within this one. Else its members arrive as one.
  bool meets_others(const OpModel& op) const {
    return std::any_of(op.meetings.begin(), op.meetings.end(), [&](const Meeting& m) { return place(m).arrivals > 1; });
  }
};

// By role.
std::vector<RankClass> role_classes(const plan::PlanGraph& graph, const std::vector<RoleModel>& models);

// By rank.
std::vector<RankClass> single_ranks(const plan::PlanGraph& graph, const std::vector<RoleModel>& models);

// The coarsest equitable partition that keeps ranks of different roles or colours apart. `colour` is by rank; what it
// means (a speed, a place) is the caller's. In order of the classes' first ranks. O(ranks x views) per round, at most
// as many rounds as there are classes.
std::vector<RankClass> refine(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                              std::vector<std::int32_t> colour);

}  // namespace foretrain::sim
