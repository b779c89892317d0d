// What the host does for an op of the plan.
#pragma once

#include "plan/ops.h"

namespace foretrain::sim {

// In ops of a dense layer, whose `submit` a profile has: each is about 4.5 framework ops (as the profile of A100 counts
// them: 90 us, of about 20 us each). Routing is many small kernels, counted in github:NVIDIA/Megatron-LM@core_v0.17.1
// megatron/core/transformer/moe, permutations fused, the router not: router.py and moe_utils.py 14 for scores, choices
// and their maps and 18 for the balancing loss, 20 backward; token_dispatcher.py 4 for the counts, 15 for the tables
// and their way to the host; experts.py 3 and one per expert for a grouped product.
double host_ops(const plan::Work& work);

// The host needs the tables of rows to size what is exchanged (cuda_sync_point "before_ep_alltoall" there).
bool host_waits_for(const plan::Work& work);

}  // namespace foretrain::sim
