// One transformer layer: forward, and backward with what is recomputed first. The backward of each op is written here
// by hand; the executor knows no autograd.
//
//   x_mid = x + out(attention(rotary(qkv(norm1(x)))))        x' = x_mid + down(act(up(norm2(x_mid))))
//
// or both halves side by side (build_parallel_layer.cpp), or with the norms behind:
//
//   x_mid = norm1(x + out(attention(rotary(qkv(x)))))            x' = norm2(x_mid + down(act(up(x_mid))))
//
// Recompute: `full` keeps only x and runs the layer's forward again before its backward: all of it, as Megatron-LM and
// PyTorch's reentrant checkpoints do, or (recompute_early_stop) up to the MLP's activation, the last that the backward
// reads, as PyTorch's others since 2.1 (torch/utils/checkpoint.py, set_checkpoint_early_stop). With recompute_layers
// only the first layers of a chunk do so, and the others keep everything. `selective` keeps all
// but the seq x seq probabilities and runs the attention core again (with flash attention there are none, and the two
// words mean the same as none). A list of modules runs those again, each before the backward of its half: what they
// write lives in the block only, or until the weight gradients.
#include <algorithm>

#include "base/error.h"
#include "plan/build_dense.h"
#include "plan/layer_emitter.h"

namespace foretrain::plan {

namespace {

// Of experts not the products: modules of a list that name an MLP's mean that of layers with one.
Recomputed recomputed(const RoleContext& c, LayerKind kind) {
  if (!kind.recomputes) {
    return {};
  }
  const Strategy& s = c.job.strategy;
  const bool all = s.recompute == Recompute::full;
  const bool probabilities = s.recompute == Recompute::selective && !workloads::is_flash(c.job.workload.attention);
  const bool mlp = all || (!kind.experts && s.recomputes(RecomputeModule::mlp));
  return {all,
          all || probabilities || s.recomputes(RecomputeModule::attention_core),
          all || s.recomputes(RecomputeModule::norm),
          mlp || s.recomputes(RecomputeModule::activation),
          mlp,
          all || s.recomputes(RecomputeModule::mla_up)};
}

// Of latent attention; what the shared key columns are recomputed from is kept only for that.
void add_latents(RoleContext& c, const Recomputed& again, LayerBuffers& t) {
  const workloads::Mla& mla = c.model.mla;
  const std::int64_t rows = c.n.shard_rows;
  const auto latent = [&](const std::string& name, std::int64_t rank, BufferId& x, BufferId& stats, BufferId& norm) {
    x = c.saved(name, c.type.activation, rows * rank, again.all);
    stats = c.saved(name + ".stats", c.type.statistic, rows * 2, again.all);
    norm = c.saved(name + ".norm", c.type.activation, rows * rank, again.all);
  };
  if (mla.q_rank > 0) {
    latent("q_latent", mla.q_rank, t.q_latent, t.q_stats, t.q_latent_norm);
  }
  latent("kv_latent", mla.kv_rank, t.kv_latent, t.kv_stats, t.kv_latent_norm);
  t.k_rope = c.saved("k_rope", c.type.activation, rows * mla.rope_dim, again.all || !again.mla_up);
}

// As the forward writes them, or as the backward reads them: those that are recomputed are not the same.
LayerBuffers layer_buffers(RoleContext& c, const Recomputed& again, LayerKind kind, bool in_backward) {
  const Extents& n = c.n;
  const Dtype a = c.type.activation, s = c.type.statistic;
  const bool full = again.all;
  const bool flash = workloads::is_flash(c.job.workload.attention);
  LayerBuffers t{};
  // Recomputed by the input gradient, weight gradients read it again.
  const auto read_by_weights = [&](const std::string& name, std::int64_t elements, bool recomputed) {
    return c.read_by_weights(name, a, elements, recomputed, in_backward);
  };
  const bool behind = c.model.norms_behind();
  if (!behind || c.splits) {
    t.norm1 = read_by_weights("norm1", n.shard_rows * n.hidden, again.norms);
  }
  t.stats1 = c.saved("norm1.stats", s, n.shard_rows * 2, again.norms);
  t.qkv = c.saved("qkv", a, n.rows * n.mixer_in, again.mla_up);
  if (c.model.qk_norm) {
    t.qk_raw = c.saved("qk_raw", a, n.rows * (n.q + n.kv), full);
  }
  t.core = flash ? c.saved("log_sum_exp", s, n.rows * n.heads, again.core)
                 : c.saved("probabilities", a, n.rows * n.heads * c.job.workload.seq_len, again.core);
  t.context = read_by_weights("context", n.rows * n.mixer_out, full);
  if (c.model.has_mla()) {
    add_latents(c, again, t);
  }
  if (behind) {
    t.sum1 = c.saved("sum1", a, n.shard_rows * n.hidden, full);
    t.x_mid = read_by_weights("x_mid", n.shard_rows * n.hidden, full);
    t.sum2 = c.saved("sum2", a, n.shard_rows * n.hidden, full);
  } else if (!c.model.parallel_residual) {
    t.x_mid = c.saved("x_mid", a, n.shard_rows * n.hidden, full);
  }
  if (!c.model.shared_norm) {
    if (!behind) {
      t.norm2 = read_by_weights("norm2", n.shard_rows * n.hidden, again.norms);
    }
    t.stats2 = c.saved("norm2.stats", s, n.shard_rows * 2, again.norms);
  }
  if (!kind.experts) {
    t.up = c.saved("up", a, n.rows * n.ffn_in, again.mlp, c.mlp_list());
    t.act = c.read_by_weights("act", a, n.rows * n.ffn, again.activation, in_backward, c.mlp_list());
  }
  if (kind.decoder) {
    const std::int64_t keys = c.job.strategy.micro_batch * c.job.workload.seq_len;
    t.cross_norm = c.saved("cross.norm", a, n.shard_rows * n.hidden, again.norms);
    t.cross_stats = c.saved("cross.norm.stats", s, n.shard_rows * 2, again.norms);
    t.cross_q = c.saved("cross.q", a, n.rows * n.q, full);
    t.cross_kv = c.saved("cross.kv", a, keys * (n.qkv - n.q), full);
    t.cross_core = c.saved("cross.log_sum_exp", s, n.rows * n.heads, again.core);
    t.cross_context = c.saved("cross.context", a, n.rows * n.context, full);
    t.cross_x = c.saved("cross.x", a, n.shard_rows * n.hidden, full);
  }
  return t;
}

LayerEmitter behind_cross_attention(LayerEmitter e) {
  e.t.x_mid = e.t.cross_x;
  return e;
}

void emit_forward(const LayerEmitter& e, Phase phase) {
  if (e.c.model.parallel_residual) {
    parallel_forward(e, phase);
    return;
  }
  attention_forward(e, phase);
  if (e.layer_kind.decoder) {
    cross_attention_forward(e, phase);
    mlp_forward(behind_cross_attention(e), phase);
  } else if (e.layer_kind.experts) {
    moe_forward(e, phase);
  } else {
    mlp_forward(e, phase);
  }
}

std::string layer_name(const RoleContext& c, LayerKind kind) {
  return std::string(kind.experts   ? "moe_layer"
                     : kind.decoder ? "decoder_layer"
                                    : "layer") +
         (kind.ssm          ? ".state_space"
          : kind.window > 0 ? ".window"
                            : "") +
         (kind.recomputes && c.mixes_recompute() ? ".recomputed" : "") + (kind.offloads ? ".offloaded" : "");
}

void emit_backward(LayerEmitter& e, BackwardPart part) {
  if (e.c.model.parallel_residual) {
    parallel_backward(e, part);
    return;
  }
  const ResidualGradients d = e.residual_gradients();
  if (e.layer_kind.decoder) {
    mlp_backward(behind_cross_attention(e), part, d);
    cross_attention_backward(e, d);
  } else if (e.layer_kind.experts) {
    moe_backward(e, part, d);
  } else {
    mlp_backward(e, part, d);
  }
  attention_backward(e, part, d);
}

// What tells that a part's tokens are there.
EventId exchanged(RoleContext& c, bool forward) {
  return c.builder.event(forward ? "moe.tokens_there" : "moe.gradients_there", Replicas::once);
}

// Begins a part of a layer with what the part before it sent, and ends it with what it sends itself.
void await_exchange(RoleContext& c, BlockBuilder& b, MoePart part, bool forward) {
  if (part != MoePart::before) {
    b.join(forward ? Phase::forward : Phase::backward_input, {exchanged(c, forward)});
  }
}
BlockId end_part(RoleContext& c, BlockBuilder& b, MoePart part, bool forward) {
  if (part == MoePart::after) {
    b.join_open(forward ? Phase::forward : Phase::backward_input);
    return c.builder.add(b.take());
  }
  Block block = b.take();
  const auto last =
      std::find_if(block.ops.rbegin(), block.ops.rend(), [&](const Op& op) { return op.stream == c.ep_stream(); });
  CHECK(last != block.ops.rend(), "role {}: {} exchanges nothing", c.role().name, block.name);
  last->records.push_back(exchanged(c, forward));
  return c.builder.add(std::move(block));
}

std::string part_name(MoePart part) {
  return "." + std::to_string(static_cast<int>(part) + 1);
}

// At the end of a backward that completes its layer's gradients.
void complete_gradients(RoleContext& c, BlockBuilder& b, LayerKind kind) {
  reduce_replicated(c, b, kLayer, "norm1.gain");
  if (kind.decoder) {
    reduce_replicated(c, b, kCross, "cross.norm.gain");
  }
  if (kind.experts) {
    reduce_routers(c, b);
  }
}

}  // namespace

std::vector<BlockId> layer_forward_parts(RoleContext& c, LayerKind kind) {
  std::vector<BlockId> parts;
  for (const MoePart part : kMoeParts) {
    BlockBuilder b(c.role(), layer_name(c, kind) + ".forward" + part_name(part));
    const Recomputed again = recomputed(c, kind);
    const LayerEmitter e{c, b, layer_buffers(c, again, kind, false), again, kind};
    await_exchange(c, b, part, true);
    if (part == MoePart::before) {
      attention_forward(e, Phase::forward);
    }
    moe_forward(e, Phase::forward, part);
    parts.push_back(end_part(c, b, part, true));
  }
  return parts;
}

std::vector<BlockId> layer_backward_parts(RoleContext& c, LayerKind kind, bool last_microbatch) {
  std::vector<BlockId> parts;
  for (const MoePart part : kMoeParts) {
    BlockBuilder b(c.role(), layer_name(c, kind) + ".backward" + part_name(part) + (last_microbatch ? ".last" : ""));
    const Recomputed again = recomputed(c, kind);
    LayerEmitter e{c, b, layer_buffers(c, again, kind, true), again, kind};
    await_exchange(c, b, part, false);
    const ResidualGradients d = e.residual_gradients();
    moe_backward(e, BackwardPart::whole, part, d);
    if (part == MoePart::after) {
      attention_backward(e, BackwardPart::whole, d);
      if (last_microbatch) {
        complete_gradients(c, b, kind);
      }
    }
    parts.push_back(end_part(c, b, part, false));
  }
  return parts;
}

BlockId layer_forward(RoleContext& c, LayerKind kind) {
  if (c.model.is_dense()) {
    return dense_layer_forward(c);
  }
  BlockBuilder b(c.role(), layer_name(c, kind) + ".forward");
  c.enter(kind.decoder ? Side::decoder : Side::encoder);
  c.emitted = kind;
  await_unit(c, b, kLayer, Phase::forward);
  const Recomputed again = recomputed(c, kind);
  emit_forward(LayerEmitter{c, b, layer_buffers(c, again, kind, false), again, kind}, Phase::forward);
  b.join_open(Phase::forward);
  return c.builder.add(b.take());
}

BlockId layer_backward(RoleContext& c, LayerKind kind, BackwardPart part, bool last_microbatch) {
  if (c.model.is_dense()) {
    return dense_layer_backward(c);
  }
  BlockBuilder b(c.role(),
                 layer_name(c, kind) + ".backward" + std::string(suffix(part)) + (last_microbatch ? ".last" : ""));
  c.enter(kind.decoder ? Side::decoder : Side::encoder);
  c.emitted = kind;
  const Recomputed again = recomputed(c, kind);
  LayerEmitter e{c, b, layer_buffers(c, again, kind, true), again, kind};
  await_fetched(c, b, kind);
  await_unit(c, b, kLayer, Phase::backward_input);
  for (const Family f : layer_unit(c, kind.experts || kind.decoder)) {
    clear_unit(c, b, f);
  }
  if (again.all && part != BackwardPart::weight) {
    emit_forward(e, Phase::recompute);
  }
  emit_backward(e, part);
  if (last_microbatch || c.uses[kLayer].reduces) {
    complete_gradients(c, b, kind);
  }
  b.join_open(Phase::backward_input);
  return c.builder.add(b.take());
}

}  // namespace foretrain::plan
