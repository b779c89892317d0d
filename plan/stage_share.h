// What the ranks of a pipeline stage are parted in, each a role. Used by build.cpp only.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/build_context.h"
#include "plan/schedule.h"
#include "plan/strategy.h"

namespace foretrain::plan {

// Ranks of a pipeline stage that do the same.
struct StageShare {
  Part part = Part::whole;
  int first = 0, count = 0;       // along dp, where ranks differ
  std::int32_t microbatches = 0;  // the last ones of a step's
  int cp = 0, tp = 0, tps = 0;    // who is sent what it trains on: along cp, and so many of tp; 0: all of both
};

std::vector<StageShare> shares_of(const Strategy& s, std::int32_t microbatches);
// Of a share of all ranks of a stage where loaders send what they train on: each that is sent it by itself, and the
// others of its tp group together, which have it from that one.
std::vector<StageShare> receivers(const Strategy& s, const StageShare& all);
// Of the last so many of all microbatches of the step, so that all ranks end with the same one.
Schedule schedule_of(const Strategy& s, std::int32_t microbatches, std::int32_t all);
// The role's name and ranks.
void place_ranks(const Strategy& s, int stage, const StageShare& share, Role& role);

}  // namespace foretrain::plan
