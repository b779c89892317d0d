// A pipeline schedule as a picture, one row per pipeline rank and time from left to right.
#pragma once

#include <string>

#include "plan/schedule.h"

namespace foretrain::reports {

// A schedule text (plan/schedule.h) whose comments are the picture, with F, I and W one unit of time long and B two,
// and what each rank holds and how long it waits:
//   # schedule 1f1b: 2 pipeline ranks, 2 microbatches; F, I, W last 1, B 2
//   # unit    0              5
//   # rank 0  F0 F1 .  B0--- B1---
//   …
//   0F0 0F1 0B0 0B1
// Cells are actions without their virtual stage where each rank has one; a dot is a unit without work. Long schedules
// go on in further pictures below.
// `ways`: as in plan::check. REQUIRES: a checked schedule.
std::string to_text(const std::string& name, const plan::Schedule& schedule, int ways = 1);

}  // namespace foretrain::reports
