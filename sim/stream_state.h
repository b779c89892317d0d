// How far a stream of a class of ranks has come. Used by engine.cpp only.
#pragma once

#include <cstdint>

#include "sim/lowered_role.h"

namespace foretrain::sim {

struct StreamState {
  enum class State : std::uint8_t { waiting, with_host, wants_core, under_way, finished };
  StreamPlace place;
  const LoweredOp* op = nullptr;
  std::uint32_t met = 0;      // dependencies that have ended: the first ones
  std::int32_t awaited = -1;  // the stream that the next one is on, if it has not ended when last looked at
  Sequence until = 0;         // its place there
  State state = State::waiting;
  bool held_by_host = false;
  std::uint32_t open_meetings = 0;
  std::int32_t sender = -1;  // of a take
  Time start;
};

}  // namespace foretrain::sim
