// FLOPs and bytes of an op, in one place, for simulator, executor and reports alike.
#pragma once

#include "base/units.h"
#include "plan/graph.h"

namespace foretrain::plan {

struct OpWork {
  double flops = 0;        // multiply and add count as two; attention: full square also when causal
  Bytes read, written;     // of the memory next to the device, each operand once
  Bytes sent;              // communication: payload of one rank (elements x size)
  bool is_matmul = false;  // flops run on the matrix units
};
OpWork work(const Op& op);

// What matmuls of one step do on all ranks, recomputed ones included (hardware FLOPs): walks programs, not ranks.
double matmul_flops_per_step(const PlanGraph& graph);

}  // namespace foretrain::plan
