// Op ids back to ops: what stands at (role, instance, position).
#pragma once

#include "plan/cursor.h"
#include "plan/graph.h"

namespace foretrain::plan {

struct Place {
  const Op* op = nullptr;
  BlockId block = -1;
  int op_in_block = 0;
  std::int32_t iteration = 0;  // of the block call
  std::int32_t layer = -1;     // role-local; -1: none
  Binding binding;
};

// nullptr when the role has no such instance. Instances count prologue, body, epilogue and evaluation in a row.
const Instance* instance_at(const Role& role, std::int32_t instance);

// Place::op is nullptr when there is no such op. Costs the segment's block calls, not its ops.
Place locate(const PlanGraph& graph, OpId id);

}  // namespace foretrain::plan
