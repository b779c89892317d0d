// Rounds of a schedule: most of a step is the same few instances again and again, for the next microbatches. A walk of
// a program without most of these rounds has the times of the whole one, once each round is as the one before it:
//
// What runs after an instant follows from what has ended by then, what is under way and how much of it is left. If all
// ops of a round, on all ranks, start and end one period T after their like in the round before, for so long that at
// two instants a period apart nothing else is under way, and nothing that ends earlier or starts later plays a part,
// then the state at the later instant is that at the earlier one, of the next microbatches. So is everything that
// follows, as long as the programs go on alike: n more rounds put off what comes after them by n T and change nothing
// else. Copies of buffers take turns from round to round; what comes later is renamed accordingly.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/graph.h"

namespace foretrain::sim {

// Of one role.
struct RoundCut {
  std::vector<std::vector<plan::Instance>> bodies;  // by step, at least two: what is left of it
  std::size_t cut = 0;                              // so many instances of it lie before the rounds that are left out
  std::size_t length = 0;                           // instances of a round
  std::vector<std::int32_t> slots, rings;           // by copy: which one takes its place in the next round
  std::vector<std::size_t> events;  // the same of copies of events, in a row as plan::event_copy has them
};

struct Rounds {
  std::int32_t left_out = 0, kept = 0;  // kept: those before the cut
  std::vector<RoundCut> roles;
};

// With few kept, and with more of them, for stages that take longer until they keep step. Nothing where a role has no
// such rounds, or leaving them out is not worth it.
std::vector<Rounds> find_rounds(const plan::PlanGraph& graph, int steps);

}  // namespace foretrain::sim
