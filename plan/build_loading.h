// How what is trained on comes to a rank: it reads by itself, or a rank behind those that train reads for it and sends
// it. Used by build_*.cpp only.
#pragma once

#include "plan/build_context.h"

namespace foretrain::plan {

// What a chunk's forward needs of the data.
struct LoadedHere {
  bool first = false, last = false;  // the model's first chunk, its last
  bool has_read = false;             // the rank, for an earlier chunk, what it needs of each sequence
};

// At the begin of a forward: what is read, or comes. Behind the block's first join on the compute stream what came is
// taken to where the forward reads it.
void emit_loads(RoleContext& c, BlockBuilder& b, const LoadedHere& here);
void take_loads(RoleContext& c, BlockBuilder& b, const LoadedHere& here);

// A loader rank: of each microbatch it reads its workers' sequences, one worker after the other, and sends them.
void build_loader(const Job& job, PlanGraph& g, Role& role, const Groups& groups, std::int32_t index);

}  // namespace foretrain::plan
