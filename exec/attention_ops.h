// Ops over heads as kernels: attention on one rank, and what turns heads by their tokens' positions. Attention over
// several ranks: exec/context_parallel.h.
#pragma once

#include "exec/op_call.h"
#include "kernels/kernels.h"
#include "kernels/launchers.h"

namespace foretrain::exec {

// Of an op over heads, what all of them have.
template <class Op>
kernels::AttentionShape attention_shape(const Op& op) {
  kernels::AttentionShape shape;
  shape.batch = op.batch;
  shape.seq = op.seq;
  shape.heads = op.heads;
  shape.kv_heads = op.kv_heads;
  shape.head_dim = op.head_dim;
  return shape;
}

void attention(const kernels::Launchers& launch, const OpCall& call, const plan::Attention& op);
void attention_sinks(const kernels::Launchers& launch, const OpCall& call, const plan::AttentionSinks& op);
void relative_bias(const kernels::Launchers& launch, const OpCall& call, const plan::RelativeBias& op);
void latent_heads(const kernels::Launchers& launch, const OpCall& call, const plan::LatentHeads& op);
void rotary(const kernels::Launchers& launch, const OpCall& call, const plan::Rotary& op);

}  // namespace foretrain::exec
