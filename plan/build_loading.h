// How what is trained on comes to a rank: it reads by itself, or a rank beside those that train reads for it and sends
// it. Used by build_*.cpp only.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/build_context.h"
#include "plan/schedule.h"

namespace foretrain::plan {

// What a chunk's forward needs of the data.
struct LoadedHere {
  std::int32_t virtual_stage = 0;
  bool first = false, last = false;  // the model's first chunk, its last
  bool has_read = false;             // the rank, for an earlier chunk, what it needs of each sequence
};

// At the begin of a forward: what is read, or comes. Behind the block's first join on the compute stream what came is
// taken to where the forward reads it.
void emit_loads(RoleContext& c, BlockBuilder& b, const LoadedHere& here);
void take_loads(RoleContext& c, BlockBuilder& b, const LoadedHere& here);

// A virtual stage whose forwards are sent something of the data: on a pipeline rank, in this order of microbatches.
struct Chain {
  int stage = 0;
  LoadedHere here;
  std::vector<std::int32_t> microbatches;
};
// None without loader ranks.
std::vector<Chain> loaded_chains(const Job& job, const Schedule& schedule,
                                 const std::vector<std::int32_t>& rank_of_stage);

// A loader rank: of each microbatch it reads its workers' sequences, one worker after the other, and sends every rank
// that needs a part of them that part, of a tp group the first rank. Chains do not wait for each other: the model's end
// may be many microbatches behind its beginning.
void build_loader(const Job& job, PlanGraph& g, Role& role, const Groups& groups, std::int32_t index,
                  const std::vector<Chain>& chains);

}  // namespace foretrain::plan
