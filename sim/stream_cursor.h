// One stream of a role on its way through the program, over all steps: its next op and what that waits for. Used by
// engine.cpp only.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "plan/cursor.h"
#include "sim/role_model.h"

namespace foretrain::sim {

// Place of an op in a rank's program, over all steps: (instance counted over the steps, position).
using Sequence = std::int64_t;
inline constexpr Sequence kProgramEnd = std::numeric_limits<Sequence>::max();

// An earlier op of another stream.
struct Dependency {
  int stream = -1;
  Sequence op = -1;
};

class StreamCursor {
 public:
  // Stands before the stream's first op; seek() goes there.
  StreamCursor(const RoleModel& model, int role, int stream, int steps);

  // Moves on to the stream's next op, noting what other streams record on the way; `left` gets the steps that the
  // stream left behind. From an op: past it, its own records noted.
  void seek(std::vector<int>& left);
  void leave(std::vector<int>& left);

  bool at_end() const { return head_ == kProgramEnd; }
  const OpModel& op() const { return *op_; }
  plan::OpId id() const { return cursor_.id(); }
  const plan::Binding& binding() const { return cursor_.binding(); }
  int step() const { return step_; }
  bool in_epilogue() const { return part_ == 2; }
  // All earlier ops of the stream are complete; kProgramEnd at the end.
  Sequence head() const { return head_; }
  // Of the op; the engine takes out what is complete.
  std::vector<Dependency>& dependencies() { return dependencies_; }

 private:
  bool next_part(std::vector<int>& left);
  Sequence place() const;
  void note_records(const OpModel& op, Sequence at);
  void find_dependencies();

  const RoleModel* model_;
  plan::ProgramCursor cursor_;
  int role_, stream_, steps_;
  int part_ = 0;  // prologue, body, epilogue
  int step_ = 0;
  Sequence head_ = 0;
  const OpModel* op_ = nullptr;
  std::vector<Dependency> dependencies_;
  std::vector<Dependency> latest_record_;  // by event copy, as of this place in the program
};

}  // namespace foretrain::sim
