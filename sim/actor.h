// How far a class of ranks has come. Used by engine.cpp only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "plan/reading.h"
#include "sim/lowered_role.h"
#include "sim/stream_state.h"

namespace foretrain::sim {

struct Actor {
  const LoweredRole* program = nullptr;
  const plan::Role* role = nullptr;
  std::int32_t first_stream = 0, streams = 0;
  bool is_touched = false;
  bool core_taken = false;
  plan::Reads reads;
  Sequence held_by = -1;               // the last op that the host waited for
  Time late;                           // of the host then, behind one that never waits
  std::ptrdiff_t share = -1;           // the meeting that the core is at work for
  std::vector<std::size_t> startable;  // meetings that all have reached and that need a share of this actor
};

// The ops at which streams of the actors stand, for people; "" where all are at their ends.
std::string unfinished(const std::vector<Actor>& actors, const std::vector<StreamState>& streams);

}  // namespace foretrain::sim
