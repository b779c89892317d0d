// What the alternatives of Work are called in a graph's JSON. Used by graph_fields.h only.
#pragma once

#include <iterator>
#include <string_view>
#include <variant>

#include "plan/ops.h"

namespace foretrain::plan {

// The alternatives of Work, by index.
inline constexpr std::string_view kWorkWords[] = {"join",
                                                  "matmul",
                                                  "attention",
                                                  "norm",
                                                  "activation",
                                                  "residual_add",
                                                  "bias_gradient",
                                                  "rotary",
                                                  "embedding",
                                                  "position_add",
                                                  "cross_entropy",
                                                  "squared_norm",
                                                  "clip_coefficient",
                                                  "optimizer_step",
                                                  "fill",
                                                  "accumulate",
                                                  "collective",
                                                  "exchange",
                                                  "copy",
                                                  "host",
                                                  "put",
                                                  "take",
                                                  "head_norm",
                                                  "latent_heads",
                                                  "split_columns",
                                                  "ring_attention",
                                                  "reshard",
                                                  "gate",
                                                  "route",
                                                  "permute",
                                                  "grouped_matmul",
                                                  "expert_activation",
                                                  "attention_sinks",
                                                  "state_space",
                                                  "expert_bias",
                                                  "output_loss",
                                                  "lamb_update",
                                                  "loss_scale",
                                                  "relative_bias",
                                                  "cast",
                                                  "encode",
                                                  "decode",
                                                  "outer_step",
                                                  "first_tokens"};
static_assert(std::size(kWorkWords) == std::variant_size_v<Work>);

}  // namespace foretrain::plan
