// One op in words, for dumps and messages.
#pragma once

#include <string>

#include "plan/graph.h"

namespace foretrain::plan {

// Kind and shapes: "matmul 512x384x1536 bf16 -> fp32, B transposed", "all_reduce 4096 fp32 over tp",
// "send 8192 bf16 to pp 1 as act".
std::string op_text(const PlanGraph& graph, const Op& op);

// "qkv[0,4096)", "weight(layer+1)[128,256)", "shard[0,64)+512*dp": elements of the layer's copy.
std::string operand_text(const PlanGraph& graph, const Role& role, const Operand& operand);

}  // namespace foretrain::plan
