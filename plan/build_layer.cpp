// One transformer layer: forward, and backward with what is recomputed first. The backward of each op is written here
// by hand; the executor knows no autograd.
//
//   x_mid = x + out(attention(rotary(qkv(norm1(x)))))        x' = x_mid + down(act(up(norm2(x_mid))))
//
// Recompute: `full` keeps only x and runs the layer's forward again before its backward (all of it, as the field's
// frameworks do); `selective` keeps all but the seq x seq probabilities and runs the attention core again (with flash
// attention there are none, and the two words mean the same as none).
#include "plan/build_context.h"

namespace foretrain::plan {

namespace {

using workloads::AttentionKind;

// Buffers of one layer's activations.
struct LayerBuffers {
  BufferId norm1, stats1, qkv, core, context, x_mid, norm2, stats2, up, act;
};

struct Emitter {
  RoleContext& c;
  BlockBuilder& b;
  LayerBuffers t;

  Operand all(BufferId buffer) const { return c.builder.whole(buffer); }
  Operand weight(const std::string& name) { return c.parameter(kLayer, name); }
  Operand grad(const std::string& name) { return c.gradient(kLayer, name); }

  // y[rows, out] = x[rows, in] W[out, in]^T (+ bias)
  void linear(Phase phase, Operand x, const std::string& w, bool bias, Operand y, std::int64_t out, std::int64_t in) {
    Matmul mm{c.n.rows, out, in, false, true, bias, false, c.type.matmul, c.type.activation};
    std::vector<Operand> reads{x, weight(w + ".weight")};
    if (bias) {
      reads.push_back(weight(w + ".bias"));
    }
    b.emit(mm, kCompute, phase, std::move(reads), {y});
  }

  // dx[rows, in] = dy[rows, out] W[out, in]
  void linear_input(Operand dy, const std::string& w, Operand dx, std::int64_t out, std::int64_t in) {
    Matmul mm{c.n.rows, in, out, false, false, false, false, c.type.matmul, c.type.activation};
    b.emit(mm, kCompute, Phase::backward_input, {dy, weight(w + ".weight")}, {dx});
  }

  // dW[out, in] += dy[rows, out]^T x[rows, in]
  void linear_weight(Operand dy, Operand x, const std::string& w, std::int64_t out, std::int64_t in) {
    Matmul mm{out, in, c.n.rows, true, false, false, true, c.type.matmul, c.type.gradient};
    const Operand dw = grad(w + ".weight");
    b.emit(mm, kCompute, Phase::backward_weight, {dy, x, dw}, {dw});
  }

  void bias_gradient(Operand dy, const std::string& name, std::int64_t rows, std::int64_t cols) {
    const Operand db = grad(name);
    b.emit(BiasGradient{rows, cols, c.type.activation}, kCompute, Phase::backward_weight, {dy, db}, {db});
  }

  Norm norm(Direction d) const {
    return {d, c.model.norm, c.n.shard_rows, c.n.hidden, c.model.norm_eps, c.type.activation};
  }
  bool norm_bias() const { return c.model.norm == workloads::Norm::layernorm; }

  void norm_forward(Phase phase, Operand x, const std::string& name, BufferId y, BufferId stats) {
    std::vector<Operand> reads{x, weight(name + ".gain")};
    if (norm_bias()) {
      reads.push_back(weight(name + ".bias"));
    }
    b.emit(norm(Direction::forward), kCompute, phase, std::move(reads), {all(y), all(stats)});
  }

  // dx = base + …
  void norm_backward(Operand dy, Operand x, BufferId stats, const std::string& name, Operand base, Operand dx) {
    b.emit(norm(Direction::backward_input), kCompute, Phase::backward_input,
           {dy, x, weight(name + ".gain"), all(stats), base}, {dx});
    std::vector<Operand> sums{grad(name + ".gain")};
    if (norm_bias()) {
      sums.push_back(grad(name + ".bias"));
    }
    std::vector<Operand> reads{dy, x, all(stats)};
    reads.insert(reads.end(), sums.begin(), sums.end());
    b.emit(norm(Direction::backward_weight), kCompute, Phase::backward_weight, std::move(reads), std::move(sums));
  }

  Attention attention(AttentionStep step) const {
    return {step, c.job.workload.attention, c.n.batch, c.n.seq, c.n.heads, c.n.kv_heads, c.n.head_dim,
            true, c.type.activation};
  }
  void attend(AttentionStep step, Phase phase, std::vector<Operand> reads, std::vector<Operand> writes) {
    b.emit(attention(step), kCompute, phase, std::move(reads), std::move(writes));
  }

  // Scores to probabilities in t.core; the part that selective recompute runs again.
  void probabilities(Phase phase) {
    const Operand p = all(t.core);
    attend(AttentionStep::scores, phase, {all(t.qkv)}, {p});
    if (c.job.workload.attention == AttentionKind::unfused) {
      attend(AttentionStep::scale_mask, phase, {p}, {p});
      attend(AttentionStep::softmax, phase, {p}, {p});
    } else {
      attend(AttentionStep::scale_mask_softmax, phase, {p}, {p});
    }
  }

  void rotary(Direction direction, Phase phase, BufferId qkv) {
    if (c.model.positions == workloads::Positions::rotary) {
      const Rotary r{direction,    c.n.batch,           c.n.seq,          c.n.heads, c.n.kv_heads,
                     c.n.head_dim, c.model.rotary_base, c.type.activation};
      b.emit(r, kCompute, phase, {all(qkv)}, {all(qkv)});
    }
  }

  void forward(Phase phase) {
    const Operand x = all(c.residual());
    const Dtype a = c.type.activation;
    norm_forward(phase, x, "norm1", t.norm1, t.stats1);
    const Operand h1 = gather_rows(c, b, phase, all(t.norm1), "attention.input");
    linear(phase, h1, "attention.qkv", c.model.attention_bias, all(t.qkv), c.n.qkv, c.n.hidden);
    rotary(Direction::forward, phase, t.qkv);
    if (workloads::is_flash(c.job.workload.attention)) {
      attend(AttentionStep::flash_forward, phase, {all(t.qkv)}, {all(t.context), all(t.core)});
    } else {
      probabilities(phase);
      attend(AttentionStep::context, phase, {all(t.core), all(t.qkv)}, {all(t.context)});
    }
    const Operand partial1 = all(c.temporary("attention.partial", a, c.n.rows * c.n.hidden));
    linear(phase, all(t.context), "attention.out", false, partial1, c.n.hidden, c.n.q);
    const Operand out1 = reduce_rows(c, b, phase, partial1, "attention.output");
    residual_add(phase, x, out1, "attention.out.bias", c.model.output_bias, all(t.x_mid));

    norm_forward(phase, all(t.x_mid), "norm2", t.norm2, t.stats2);
    const Operand h2 = gather_rows(c, b, phase, all(t.norm2), "mlp.input");
    linear(phase, h2, "mlp.up", c.model.mlp_bias, all(t.up), c.n.ffn_in, c.n.hidden);
    b.emit(Activation{Direction::forward, c.model.activation, c.n.rows, c.n.ffn, a}, kCompute, phase, {all(t.up)},
           {all(t.act)});
    const Operand partial2 = all(c.temporary("mlp.partial", a, c.n.rows * c.n.hidden));
    linear(phase, all(t.act), "mlp.down", false, partial2, c.n.hidden, c.n.ffn);
    const Operand out2 = reduce_rows(c, b, phase, partial2, "mlp.output");
    if (phase == Phase::forward) {  // recomputation needs what leads to the output, not the output
      residual_add(phase, all(t.x_mid), out2, "mlp.down.bias", c.model.mlp_bias, c.builder.whole(c.residual(), 1));
    }
  }

  void residual_add(Phase phase, Operand x, Operand y, const std::string& bias, bool has_bias, Operand out) {
    std::vector<Operand> reads{x, y};
    if (has_bias) {
      reads.push_back(weight(bias));
    }
    b.emit(ResidualAdd{c.n.shard_rows, c.n.hidden, has_bias, c.type.activation}, kCompute, phase, std::move(reads),
           {out});
  }

  // The output gradient as the matmul's backward takes it: all rows. Split, a gathered one is kept for the weights.
  Operand full_gradient(BackwardPart part, Operand shard, const std::string& name) {
    if (!c.splits || !c.sequence_parallel) {
      return gather_rows(c, b, Phase::backward_input, shard, name);
    }
    const Operand full = all(c.kept(name + ".full", c.type.activation, c.n.rows * c.n.hidden));
    if (part != BackwardPart::weight) {
      gather_rows_into(c, b, Phase::backward_input, shard, full, name);
    }
    return full;
  }

  // The gradients of x', x_mid and x: one buffer from top to bottom, or three where weight gradients read them later.
  struct ResidualGradients {
    Operand out, mid, in;
  };
  ResidualGradients residual_gradients() {
    const Operand dy = all(c.residual_gradient());
    if (!c.keeps_residual_gradients()) {
      return {dy, dy, dy};
    }
    const BufferId mid = c.kept("d_x_mid", c.type.activation, c.n.shard_rows * c.n.hidden);
    return {c.builder.whole(c.residual_gradient(), 1), all(mid), dy};
  }

  void backward(BackwardPart part) {
    const ResidualGradients d = residual_gradients();
    mlp_backward(part, d);
    attention_backward(part, d);
  }

  void mlp_backward(BackwardPart part, const ResidualGradients& d) {
    const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
    const Dtype a = c.type.activation;
    if (inputs && c.model.mlp_bias) {
      bias_gradient(d.out, "mlp.down.bias", c.n.shard_rows, c.n.hidden);
    }
    const Operand dy = full_gradient(part, d.out, "mlp.output_gradient");
    const Operand d_act = all(c.temporary("mlp.d_act", a, c.n.rows * c.n.ffn));
    const Operand x = inputs ? Operand{} : input_again("mlp", t.norm2);
    if (inputs) {
      linear_input(dy, "mlp.down", d_act, c.n.hidden, c.n.ffn);
    }
    if (weights) {
      linear_weight(dy, all(t.act), "mlp.down", c.n.hidden, c.n.ffn);
    }
    const Operand d_up = all(c.kept("mlp.d_up", a, c.n.rows * c.n.ffn_in));
    if (inputs) {
      b.emit(Activation{Direction::backward_input, c.model.activation, c.n.rows, c.n.ffn, a}, kCompute,
             Phase::backward_input, {d_act, all(t.up)}, {d_up});
    }
    const Operand d_sum = through_input(part, "mlp", "mlp.up", d_up, c.n.ffn_in, t.norm2, x, c.model.mlp_bias);
    if (inputs) {
      norm_backward(d_sum, all(t.x_mid), t.stats2, "norm2", d.out, d.mid);
    }
  }

  void attention_backward(BackwardPart part, const ResidualGradients& d) {
    const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
    const Dtype a = c.type.activation;
    if (inputs && c.model.output_bias) {
      bias_gradient(d.mid, "attention.out.bias", c.n.shard_rows, c.n.hidden);
    }
    const Operand dy = full_gradient(part, d.mid, "attention.output_gradient");
    const Operand d_context = all(c.temporary("attention.d_context", a, c.n.rows * c.n.q));
    const Operand x = inputs ? Operand{} : input_again("attention", t.norm1);
    if (inputs) {
      linear_input(dy, "attention.out", d_context, c.n.hidden, c.n.q);
    }
    if (weights) {
      linear_weight(dy, all(t.context), "attention.out", c.n.hidden, c.n.q);
    }
    const BufferId d_qkv = c.kept("attention.d_qkv", a, c.n.rows * c.n.qkv);
    if (inputs) {
      core_backward(d_context, all(d_qkv));
      rotary(Direction::backward_input, Phase::backward_input, d_qkv);
    }
    const Operand d_sum =
        through_input(part, "attention", "attention.qkv", all(d_qkv), c.n.qkv, t.norm1, x, c.model.attention_bias);
    if (inputs) {
      norm_backward(d_sum, all(c.residual()), t.stats1, "norm1", d.mid, d.in);
    }
  }

  // A norm's output, all rows: gathered while the matmul emitted next runs.
  Operand input_again(const std::string& block, BufferId norm) {
    return gather_rows(c, b, Phase::backward_weight, all(norm), block + ".input_again");
  }

  // The column-parallel matmul behind a norm: from the gradient of its output to that of the norm's output. `x` is the
  // norm's output, all rows, where there is no input gradient to gather it behind.
  Operand through_input(BackwardPart part, const std::string& block, const std::string& w, Operand dy, std::int64_t out,
                        BufferId norm, Operand x, bool bias) {
    const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
    Operand dx = all(c.temporary(block + ".d_input", c.type.activation, c.n.rows * c.n.hidden));
    if (part == BackwardPart::whole) {
      x = input_again(block, norm);
    }
    if (inputs) {
      linear_input(dy, w, dx, out, c.n.hidden);
      dx = reduce_rows(c, b, Phase::backward_input, dx, block + ".input_gradient");
    }
    if (weights) {  // while the input gradient is summed over the tp group
      linear_weight(dy, x, w, out, c.n.hidden);
    }
    if (inputs && bias) {
      bias_gradient(dy, w + ".bias", c.n.rows, out);
    }
    return dx;
  }

  void core_backward(Operand d_context, Operand d_qkv) {
    const Phase phase = Phase::backward_input;
    if (workloads::is_flash(c.job.workload.attention)) {
      attend(AttentionStep::flash_backward, phase, {d_context, all(t.qkv), all(t.context), all(t.core)}, {d_qkv});
      return;
    }
    if (c.job.strategy.recompute == Recompute::selective) {
      probabilities(Phase::recompute);
    }
    const Operand p = all(t.core);
    const Operand dp = all(c.temporary("attention.d_probabilities", c.type.activation, p.elements));
    attend(AttentionStep::context_backward, phase, {d_context, p, all(t.qkv)}, {dp, d_qkv});
    if (c.job.workload.attention == AttentionKind::unfused) {
      attend(AttentionStep::softmax_backward, phase, {p, dp}, {dp});
      attend(AttentionStep::scale_backward, phase, {dp}, {dp});
    } else {
      attend(AttentionStep::softmax_scale_backward, phase, {p, dp}, {dp});
    }
    attend(AttentionStep::scores_backward, phase, {dp, all(t.qkv)}, {d_qkv});
  }
};

// As the forward writes them, or as the backward reads them: those that are recomputed are not the same.
LayerBuffers layer_buffers(RoleContext& c, bool in_backward) {
  const Extents& n = c.n;
  const Dtype a = c.type.activation, s = c.type.statistic;
  const bool full = c.job.strategy.recompute == Recompute::full;
  const bool flash = workloads::is_flash(c.job.workload.attention);
  const bool core_again = full || (!flash && c.job.strategy.recompute == Recompute::selective);
  LayerBuffers t{};
  // Recomputed by the input gradient, weight gradients read it again.
  const auto read_by_weights = [&](const std::string& name, std::int64_t elements) {
    return full && c.splits && in_backward ? c.kept(name + ".again", a, elements)
                                           : c.saved_for_weights(name, a, elements, full);
  };
  t.norm1 = read_by_weights("norm1", n.shard_rows * n.hidden);
  t.stats1 = c.saved("norm1.stats", s, n.shard_rows * 2, full);
  t.qkv = c.saved("qkv", a, n.rows * n.qkv, full);
  t.core = flash ? c.saved("log_sum_exp", s, n.rows * n.heads, core_again)
                 : c.saved("probabilities", a, n.rows * n.heads * n.seq, core_again);
  t.context = read_by_weights("context", n.rows * n.q);
  t.x_mid = c.saved("x_mid", a, n.shard_rows * n.hidden, full);
  t.norm2 = read_by_weights("norm2", n.shard_rows * n.hidden);
  t.stats2 = c.saved("norm2.stats", s, n.shard_rows * 2, full);
  t.up = c.saved("up", a, n.rows * n.ffn_in, full);
  t.act = read_by_weights("act", n.rows * n.ffn);
  return t;
}

}  // namespace

BlockId layer_forward(RoleContext& c) {
  BlockBuilder b(c.role(), "layer.forward");
  Emitter{c, b, layer_buffers(c, false)}.forward(Phase::forward);
  b.join_open(Phase::forward);
  return c.builder.add(b.take());
}

BlockId layer_backward(RoleContext& c, BackwardPart part, bool last_microbatch) {
  BlockBuilder b(c.role(), "layer.backward" + std::string(suffix(part)) + (last_microbatch ? ".last" : ""));
  Emitter e{c, b, layer_buffers(c, true)};
  if (c.job.strategy.recompute == Recompute::full && part != BackwardPart::weight) {
    e.forward(Phase::recompute);
  }
  e.backward(part);
  if (last_microbatch) {
    reduce_replicated(c, b, kLayer, "norm1.gain");
  }
  b.join_open(Phase::backward_input);
  return c.builder.add(b.take());
}

}  // namespace foretrain::plan
