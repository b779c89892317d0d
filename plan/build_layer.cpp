// One transformer layer: forward, and backward with what is recomputed first. The backward of each op is written here
// by hand; the executor knows no autograd.
//
//   x_mid = x + out(attention(rotary(qkv(norm1(x)))))        x' = x_mid + down(act(up(norm2(x_mid))))
//
// or both halves side by side (build_parallel_layer.cpp).
//
// Recompute: `full` keeps only x and runs the layer's forward again before its backward (all of it, as the field's
// frameworks do); `selective` keeps all but the seq x seq probabilities and runs the attention core again (with flash
// attention there are none, and the two words mean the same as none).
#include "plan/layer_emitter.h"

namespace foretrain::plan {

namespace {

// As the forward writes them, or as the backward reads them: those that are recomputed are not the same.
LayerBuffers layer_buffers(RoleContext& c, bool experts, bool in_backward) {
  const Extents& n = c.n;
  const Dtype a = c.type.activation, s = c.type.statistic;
  const bool full = c.job.strategy.recompute == Recompute::full;
  const bool flash = workloads::is_flash(c.job.workload.attention);
  const bool core_again = full || (!flash && c.job.strategy.recompute == Recompute::selective);
  LayerBuffers t{};
  // Recomputed by the input gradient, weight gradients read it again.
  const auto read_by_weights = [&](const std::string& name, std::int64_t elements) {
    return c.read_by_weights(name, a, elements, full, in_backward);
  };
  t.norm1 = read_by_weights("norm1", n.shard_rows * n.hidden);
  t.stats1 = c.saved("norm1.stats", s, n.shard_rows * 2, full);
  t.qkv = c.saved("qkv", a, n.rows * n.qkv, full);
  t.core = flash ? c.saved("log_sum_exp", s, n.rows * n.heads, core_again)
                 : c.saved("probabilities", a, n.rows * n.heads * n.seq, core_again);
  t.context = read_by_weights("context", n.rows * n.q);
  if (!c.model.parallel_residual) {
    t.x_mid = c.saved("x_mid", a, n.shard_rows * n.hidden, full);
  }
  if (!c.model.shared_norm) {
    t.norm2 = read_by_weights("norm2", n.shard_rows * n.hidden);
    t.stats2 = c.saved("norm2.stats", s, n.shard_rows * 2, full);
  }
  if (!experts) {
    t.up = c.saved("up", a, n.rows * n.ffn_in, full, c.mlp_copies());
    t.act = c.read_by_weights("act", a, n.rows * n.ffn, full, in_backward, c.mlp_copies());
  }
  return t;
}

void emit_forward(const LayerEmitter& e, bool experts, Phase phase) {
  if (e.c.model.parallel_residual) {
    parallel_forward(e, phase);
    return;
  }
  attention_forward(e, phase);
  if (experts) {
    moe_forward(e, phase);
  } else {
    mlp_forward(e, phase);
  }
}

std::string layer_name(bool experts) {
  return experts ? "moe_layer" : "layer";
}

void emit_backward(LayerEmitter& e, bool experts, BackwardPart part) {
  if (e.c.model.parallel_residual) {
    parallel_backward(e, part);
    return;
  }
  const ResidualGradients d = e.residual_gradients();
  if (experts) {
    moe_backward(e, part, d);
  } else {
    mlp_backward(e, part, d);
  }
  attention_backward(e, part, d);
}

}  // namespace

BlockId layer_forward(RoleContext& c, bool experts) {
  BlockBuilder b(c.role(), layer_name(experts) + ".forward");
  await_unit(c, b, kLayer, Phase::forward);
  emit_forward(LayerEmitter{c, b, layer_buffers(c, experts, false)}, experts, Phase::forward);
  b.join_open(Phase::forward);
  return c.builder.add(b.take());
}

BlockId layer_backward(RoleContext& c, bool experts, BackwardPart part, bool last_microbatch) {
  BlockBuilder b(c.role(),
                 layer_name(experts) + ".backward" + std::string(suffix(part)) + (last_microbatch ? ".last" : ""));
  LayerEmitter e{c, b, layer_buffers(c, experts, true)};
  await_unit(c, b, kLayer, Phase::backward_input);
  clear_unit(c, b, kLayer);
  if (c.job.strategy.recompute == Recompute::full && part != BackwardPart::weight) {
    emit_forward(e, experts, Phase::recompute);
  }
  emit_backward(e, experts, part);
  if (last_microbatch || c.uses[kLayer].reduces) {
    reduce_replicated(c, b, kLayer, "norm1.gain");
    if (experts) {
      reduce_routers(c, b);
    }
  }
  b.join_open(Phase::backward_input);
  return c.builder.add(b.take());
}

}  // namespace foretrain::plan
