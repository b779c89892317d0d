// A role's program written out once for all of its ranks: its ops by stream, and what each waits for as places in the
// program. Ranks then hold nothing but how far each of their streams has come. Used by engine.cpp only.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "sim/role_model.h"

namespace foretrain::sim {

// Place of an op in a rank's program, counted over all steps.
using Sequence = std::int64_t;
inline constexpr Sequence kProgramEnd = std::numeric_limits<Sequence>::max();

// An earlier op of another stream. In the prologue `op` is its sequence; from there on, if `moves`, its distance from
// the first op of the step (negative: in the step before; epilogue: of the last step).
struct Dependency {
  std::int32_t op = 0;
  std::int16_t stream = -1;
  bool moves = false;
};

struct LoweredOp {
  const OpModel* model = nullptr;
  std::int32_t instance = -1, position = -1;  // of plan::OpId
  std::int32_t microbatch = -1, layer = -1;   // of the match key; the layer is global
};

// Where a stream stands. An op's sequence is `first` of its part and step, plus `op`.
struct StreamPlace {
  std::int32_t part = 0;  // LoweredRole::kPrologue, …
  std::int32_t step = 0;
  std::int32_t next = -1;  // index in the part's list of the stream's ops
  std::int32_t op = -1;    // index in the part's ops
  Sequence sequence = 0;
};

class LoweredRole {
 public:
  static constexpr std::int32_t kPrologue = 0, kBody = 1, kEpilogue = 2;

  LoweredRole(const RoleModel& model, int role, int steps);

  // Moves to the stream's next op; false, with sequence kProgramEnd, after the last.
  bool advance(int stream, StreamPlace& place) const;
  const LoweredOp& op(const StreamPlace& place) const { return parts_[index(place.part)].ops[index(place.op)]; }

  struct Range {
    const Dependency *begin, *end;
  };
  Range dependencies(const StreamPlace& place) const;
  // Sequence of a dependency of the op at `place`.
  Sequence resolve(const StreamPlace& place, const Dependency& d) const {
    return d.moves ? first(kBody, place.step) + d.op : d.op;
  }
  // What the rank's host takes to submit all ops to this one, if it never waits.
  Time submitted(const StreamPlace& place) const {
    const Part& part = parts_[index(place.part)];
    return submitted_before(place.part, place.step) + part.submitted[index(place.op)];
  }
  // Sequence of the last op before this one that the host waits for; -1: none.
  Sequence held_by(const StreamPlace& place) const;
  std::int64_t ops_per_step() const { return static_cast<std::int64_t>(parts_[kBody].ops.size()); }

 private:
  // Dependencies of all ops in a row; those of op i are [from[i], from[i + 1]).
  struct Waits {
    std::vector<Dependency> all;
    std::vector<std::uint32_t> from;
  };
  struct Part {
    std::vector<LoweredOp> ops;
    std::vector<std::vector<std::int32_t>> by_stream;
    std::vector<Time> submitted;        // by op, since the part began
    std::vector<std::int32_t> held_by;  // by op, and one more: the last op before it that the host waits for, or -1
  };
  struct Walk;

  static std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }
  Sequence first(std::int32_t part, std::int32_t step) const {
    return part == kPrologue ? 0
                             : static_cast<Sequence>(parts_[kPrologue].ops.size()) +
                                   (part == kBody ? step : steps_) * static_cast<Sequence>(parts_[kBody].ops.size());
  }

  Time submitted_before(std::int32_t part, std::int32_t step) const {
    const auto of = [this](std::int32_t p) {
      return parts_[p].submitted.empty() ? Time{} : parts_[p].submitted.back();
    };
    return part == kPrologue ? Time{} : of(kPrologue) + Time{of(kBody).value * (part == kBody ? step : steps_)};
  }

  int steps_;
  Part parts_[3];
  // Of the prologue, the body's first step, its later ones, the epilogue. What an op waits for is the latest record of
  // an event: in the first step that may lie in the prologue, later in the step before, the same for every later step.
  Waits waits_[4];
};

}  // namespace foretrain::sim
