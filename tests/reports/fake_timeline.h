// A timeline made by hand from a graph: valid enough for reports, no machine behind it.
#pragma once

#include "plan/cursor.h"
#include "plan/graph.h"
#include "plan/timeline.h"

namespace foretrain::reports {

// `steps` steps in which every rank does one op after the other, whatever its stream, each `op_time` long. A step ends
// with its longest rank. One span per role (multiplicity: its ranks) when `by_role`, else one per rank.
inline plan::Timeline fake_timeline(const plan::PlanGraph& graph, int steps, Time op_time, bool by_role) {
  plan::Timeline timeline;
  timeline.machine = by_role ? "simulated: fake" : "measured: fake";
  std::int64_t longest = 0;
  for (std::size_t r = 0; r < graph.roles.size(); ++r) {
    std::int64_t ops = 0;
    const plan::Role& role = graph.roles[r];
    for (plan::ProgramCursor c(role, static_cast<int>(r), role.program.body, plan::first_body_instance(role.program));
         c; c.next()) {
      ++ops;
    }
    longest = std::max(longest, ops);
  }
  for (plan::Rank rank = 0; rank < graph.mesh.ranks(); ++rank) {
    const int r = plan::role_of(graph, rank);
    const plan::Role& role = graph.roles[static_cast<std::size_t>(r)];
    if (by_role && rank != plan::first_rank(graph.mesh, role.ranks)) {
      continue;
    }
    const auto multiplicity = by_role ? static_cast<std::int32_t>(plan::count(graph.mesh, role.ranks)) : 1;
    for (int step = 0; step < steps; ++step) {
      Time now{step * longest * op_time.value};
      for (plan::ProgramCursor c(role, r, role.program.body, plan::first_body_instance(role.program), step); c;
           c.next()) {
        const Time end = now + op_time;
        timeline.spans.push_back({c.id(), step, c.op().stream, multiplicity, rank, now, end});
        now = end;
      }
    }
  }
  for (int step = 1; step <= steps; ++step) {
    timeline.step_ends.push_back({step * longest * op_time.value});
  }
  return timeline;
}

}  // namespace foretrain::reports
