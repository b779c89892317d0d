// How what is trained on comes to a rank: it reads by itself, or a rank behind those that train reads for it and sends
// it. Used by build_*.cpp only.
#pragma once

#include "plan/build_context.h"

namespace foretrain::plan {

// At the begin of a forward of the model's first chunk, its last, or both: what is read, or comes. Behind the block's
// first join on the compute stream what came is taken to where the forward reads it.
void emit_loads(RoleContext& c, BlockBuilder& b, bool first, bool last);
void take_loads(RoleContext& c, BlockBuilder& b, bool first, bool last);

// A loader rank: of each microbatch it reads its workers' sequences, one worker after the other, and sends them.
void build_loader(const Job& job, PlanGraph& g, Role& role, const Groups& groups, std::int32_t index);

}  // namespace foretrain::plan
