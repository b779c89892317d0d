// Tokens from a data source into a rank's buffers: inputs, and what is to be told.
#pragma once

#include <cstdint>
#include <span>

#include "exec/op_call.h"
#include "plan/ops.h"

namespace foretrain::exec {

// load_inputs, load_targets: this rank's share of the sequences of the call's microbatch.
void load_tokens(const OpCall& call, const plan::Host& op);

// The first sequence of this rank's in the call's microbatch.
std::int64_t first_sequence(const OpCall& call, const plan::Host& op);

// In place: tokens of sequence `index` of step `step` as the model reads them, or as it is to tell them (-1 where it is
// not asked). Which are masked, and what stands there, depends on step and index alone.
void mask_inputs(const plan::Masking& masking, std::int64_t step, std::int64_t index, std::span<std::int32_t> ids);
void mask_targets(const plan::Masking& masking, std::int64_t step, std::int64_t index, std::span<std::int32_t> ids);

}  // namespace foretrain::exec
