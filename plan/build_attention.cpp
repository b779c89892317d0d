// The attention half of a layer: x_mid = x + out(attention(rotary(qkv(norm1(x))))), and its backward.
#include "plan/layer_emitter.h"

namespace foretrain::plan {

namespace {

using workloads::AttentionKind;

struct AttentionEmitter : LayerEmitter {
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
      const Rotary r{direction,          c.n.batch,           c.n.seq,          c.n.heads, c.n.kv_heads, c.n.head_dim,
                     c.model.rotary_dim, c.model.rotary_base, c.type.activation};
      b.emit(r, kCompute, phase, {all(qkv)}, {all(qkv)});
    }
  }

  void branch(Phase phase, Operand h, Operand out, bool accumulate) {
    linear(phase, h, "attention.qkv", c.model.attention_bias, all(t.qkv), c.n.qkv, c.n.hidden);
    rotary(Direction::forward, phase, t.qkv);
    if (workloads::is_flash(c.job.workload.attention)) {
      attend(AttentionStep::flash_forward, phase, {all(t.qkv)}, {all(t.context), all(t.core)});
    } else {
      probabilities(phase);
      attend(AttentionStep::context, phase, {all(t.core), all(t.qkv)}, {all(t.context)});
    }
    linear_partial(phase, all(t.context), "attention.out", out, accumulate, c.n.hidden, c.n.q);
  }

  Operand branch_backward(BackwardPart part, Operand dy) {
    const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
    const Dtype a = c.type.activation;
    const Operand d_context = all(c.temporary("attention.d_context", a, c.n.rows * c.n.q));
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
    return all(d_qkv);
  }

  void forward(Phase phase) {
    const Operand x = all(c.residual());
    norm_forward(phase, x, "norm1", t.norm1, t.stats1);
    const Operand h1 = gather_rows(c, b, phase, all(t.norm1), "attention.input");
    const Operand partial1 = all(c.temporary("attention.partial", c.type.activation, c.n.rows * c.n.hidden));
    branch(phase, h1, partial1, false);
    const Operand out1 = reduce_rows(c, b, phase, partial1, "attention.output");
    residual_add(phase, x, out1, "attention.out.bias", c.model.output_bias, all(t.x_mid));
  }

  void backward(BackwardPart part, const ResidualGradients& d) {
    const bool inputs = part != BackwardPart::weight;
    if (inputs && c.model.output_bias) {
      bias_gradient(d.mid, "attention.out.bias", c.n.shard_rows, c.n.hidden);
    }
    const Operand dy = full_gradient(part, d.mid, "attention.output_gradient");
    const Operand x = inputs ? Operand{} : input_again("attention", t.norm1);
    const Operand d_qkv = branch_backward(part, dy);
    const Operand d_sum =
        through_input(part, "attention", "attention.qkv", d_qkv, c.n.qkv, t.norm1, x, c.model.attention_bias);
    if (inputs) {
      norm_backward(d_sum, all(c.residual()), t.stats1, "norm1", d.mid, d.in);
    }
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

}  // namespace

void attention_branch(const LayerEmitter& e, Phase phase, Operand h, Operand out, bool accumulate) {
  AttentionEmitter{e}.branch(phase, h, out, accumulate);
}

Operand attention_branch_backward(const LayerEmitter& e, BackwardPart part, Operand dy) {
  return AttentionEmitter{e}.branch_backward(part, dy);
}

void attention_forward(const LayerEmitter& e, Phase phase) {
  AttentionEmitter{e}.forward(phase);
}

void attention_backward(const LayerEmitter& e, BackwardPart part, const ResidualGradients& d) {
  AttentionEmitter{e}.backward(part, d);
}

}  // namespace foretrain::plan
