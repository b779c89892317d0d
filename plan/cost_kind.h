// The name under which an op's speed is measured and modelled: finer than kind_name where kernels differ.
#pragma once

#include <string>

#include "plan/ops.h"

namespace foretrain::plan {

// "norm.layernorm.forward", "activation.gelu.backward_input", "residual_add", "residual_add.bias", "bias_gradient",
// "rotary", "embedding.forward", "position_add.forward", "cross_entropy.stats", "squared_norm", "clip_coefficient",
// "optimizer.adamw", "fill", "accumulate", "copy.device_to_device", "attention.softmax", "matmul", …
std::string cost_kind(const Work& work);
// Element type that goes with it in a profile (Dtype::u8 where there is none).
Dtype cost_dtype(const Work& work);

}  // namespace foretrain::plan
