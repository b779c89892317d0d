// The attention half of a layer: x_mid = x + out(attention(rotary(qkv(norm1(x))))), and its backward; with norms behind
// x_mid = norm1(x + out(attention(rotary(qkv(x))))).
#include "plan/build_context_parallel.h"

namespace foretrain::plan {

namespace {

using workloads::AttentionKind;

struct AttentionEmitter : LayerEmitter {
  Attention attention(AttentionStep step) const {
    const std::int64_t n = c.all_to_all ? c.job.strategy.cp : 1;
    return {step,
            c.job.workload.attention,
            c.n.batch,
            c.n.seq * n,
            c.n.heads / n,
            c.n.kv_heads / n,
            c.n.head_dim,
            c.is_causal(),
            c.type.activation,
            c.n.v_dim,
            layer_kind.window,
            c.job.workload.document_length,
            0,
            is_biased(),
            c.model.scaled_scores,
            c.model.is_classifier()};
  }
  bool is_biased() const { return c.model.positions == workloads::Positions::relative; }
  AttentionSinks sinks(Direction direction) const {
    const std::int64_t n = c.all_to_all ? c.job.strategy.cp : 1;
    return {direction,        c.n.batch, c.n.seq * n, c.n.heads / n, c.n.v_dim, c.all_to_all ? c.groups.cp : kNoGroup,
            c.type.activation};
  }
  // What attention wrote, with the sinks; their gradients, from what it wrote then.
  void sink(Phase phase, Operand context) {
    if (c.model.attention_sinks) {
      b.emit(sinks(Direction::forward), kCompute, phase, {weight("attention.sinks"), context, all(t.core)},
             {context, all(t.core)});
    }
  }
  void sink_backward(Operand d_context, Operand context) {
    if (c.model.attention_sinks) {
      const Operand sum = grad("attention.sinks");
      b.emit(sinks(Direction::backward_weight), kCompute, Phase::backward_weight,
             {d_context, context, all(t.core), weight("attention.sinks"), sum}, {sum});
    }
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
      const Rotary r{direction,    c.n.batch,          c.n.seq,        c.n.heads,         c.n.kv_heads,
                     c.n.head_dim, c.model.rotary_dim, c.model.rotary, c.type.activation, c.groups.cp};
      b.emit(r, kCompute, phase, {all(qkv)}, {all(qkv)});
    }
  }

  HeadNorm head_norm(Direction direction) const {
    return {direction, c.n.rows, c.n.heads, c.n.kv_heads, c.n.head_dim, c.model.norm_eps, c.type.activation};
  }

  // The gains' gradients first: the input's takes the place of what they read.
  void head_norm_backward(Operand d_qkv) {
    const Operand raw = all(t.qk_raw);
    const Operand dq = grad("attention.q_norm.gain"), dk = grad("attention.k_norm.gain");
    b.emit(head_norm(Direction::backward_weight), kCompute, Phase::backward_weight, {d_qkv, raw, dq, dk}, {dq, dk});
    b.emit(head_norm(Direction::backward_input), kCompute, Phase::backward_input,
           {raw, weight("attention.q_norm.gain"), weight("attention.k_norm.gain"), d_qkv}, {d_qkv});
  }

  // This rank's share of packed q, k and v: what attention itself reads where heads are not dealt out.
  BufferId share() {
    return c.all_to_all ? c.temporary("attention.qkv_share", c.type.activation, c.n.rows * c.n.qkv) : t.qkv;
  }
  HeadColumns columns() const { return {c.n.q, c.n.kv, c.n.qkv - c.n.q - c.n.kv}; }

  void enter(Phase phase) {
    if (c.all_to_all) {
      to_whole_sequences(*this, phase, all(share()), all(t.qkv), columns(), "attention.qkv_to_heads");
    }
  }

  // From what is entered to t.context; and from its gradient to that of the share.
  void attend_share(Phase phase) {
    if (c.all_to_all) {
      core_forward(phase, whole_context());
      to_shares(*this, phase, whole_context(), all(t.context), {c.n.context}, "attention.context_to_shares");
    } else if (c.groups.cp != kNoGroup) {
      share_forward(*this, phase);
      sink(phase, all(t.context));
    } else {
      core_forward(phase, all(t.context));
    }
  }
  void attend_share_backward(Operand d_context, Operand d_qkv) {
    const Dtype a = c.type.activation;
    const Phase phase = Phase::backward_input;
    if (c.all_to_all) {
      const Operand d_whole = all(c.temporary("attention.d_context_whole", a, d_context.elements));
      const Operand d_qkv_whole = all(c.temporary("attention.d_qkv_whole", a, c.n.rows * c.n.qkv));
      to_whole_sequences(*this, phase, d_context, d_whole, {c.n.context}, "attention.d_context_to_heads");
      core_backward(d_whole, whole_context(), d_qkv_whole);
      to_shares(*this, phase, d_qkv_whole, d_qkv, columns(), "attention.d_qkv_to_shares");
    } else if (c.groups.cp != kNoGroup) {
      sink_backward(d_context, all(t.context));
      share_backward(*this, d_context, d_qkv);
    } else {
      core_backward(d_context, all(t.context), d_qkv);
    }
  }

  void branch(Phase phase, Operand h, Operand out, bool accumulate) {
    const BufferId qkv = share();
    linear(phase, h, "attention.qkv", c.model.attention_bias, all(qkv), c.n.qkv, c.n.hidden);
    if (c.model.qk_norm) {
      b.emit(head_norm(Direction::forward), kCompute, phase,
             {weight("attention.q_norm.gain"), weight("attention.k_norm.gain"), all(qkv)}, {all(qkv), all(t.qk_raw)});
    }
    rotary(Direction::forward, phase, qkv);
    enter(phase);
    attend_share(phase);
    linear_partial(phase, all(t.context), "attention.out", out, accumulate, c.n.hidden, c.n.context);
  }

  Operand branch_backward(BackwardPart part, Operand dy) {
    const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
    const Dtype a = c.type.activation;
    const Operand d_context = all(c.temporary("attention.d_context", a, c.n.rows * c.n.context));
    if (inputs) {
      linear_input(dy, "attention.out", d_context, c.n.hidden, c.n.context);
    }
    if (weights) {
      linear_weight(dy, all(t.context), "attention.out", c.n.hidden, c.n.context);
    }
    const BufferId d_qkv = c.kept("attention.d_qkv", a, c.n.rows * c.n.qkv);
    if (inputs) {
      attend_share_backward(d_context, all(d_qkv));
      rotary(Direction::backward_input, Phase::backward_input, d_qkv);
      if (c.model.qk_norm) {
        head_norm_backward(all(d_qkv));
      }
    }
    return all(d_qkv);
  }

  // With norms behind x itself; the later half of a backward in two reads it when its slot is another's: a copy.
  Operand branch_input() const { return c.model.norms_behind() && !c.splits ? input() : all(t.norm1); }

  void forward(Phase phase) {
    const Operand x = input();
    if (!c.model.norms_behind()) {
      norm_forward(phase, x, "norm1", all(t.norm1), t.stats1);
    } else if (c.splits) {
      const Copy op{CopyKind::device_to_device, size_bytes(c.type.activation, x.elements)};
      b.emit(op, kCompute, phase, {x}, {all(t.norm1)});
    }
    const Operand h1 = gather_rows(c, b, phase, branch_input(), "attention.input");
    const Operand partial1 = all(c.temporary("attention.partial", c.type.activation, c.n.rows * c.n.hidden));
    branch(phase, h1, partial1, false);
    const Operand out1 = reduce_rows(c, b, phase, partial1, "attention.output");
    add_half(phase, x, out1, "attention.out.bias", c.model.output_bias, t.sum1, "norm1", t.stats1, all(t.x_mid));
  }

  void backward(BackwardPart part, const ResidualGradients& d) {
    const bool inputs = part != BackwardPart::weight;
    if (inputs) {
      attention_again(*this);
    }
    const Operand d_out = half_gradient(part, d.mid, t.sum1, t.stats1, "norm1", "attention");
    if (inputs && c.model.output_bias) {
      bias_gradient(d_out, "attention.out.bias", c.n.shard_rows, c.n.hidden);
    }
    const Operand dy = full_gradient(part, d_out, "attention.output_gradient");
    const Operand x = inputs ? Operand{} : input_again("attention", branch_input());
    const Operand d_qkv = branch_backward(part, dy);
    const Operand d_branch =
        through_input(part, "attention", "attention.qkv", d_qkv, c.n.qkv, branch_input(), x, c.model.attention_bias);
    if (inputs) {
      add_half_gradient(d_branch, d_out, input(), t.stats1, "norm1", d.in);
    }
  }

  // Where heads are dealt out, what attention itself writes, and its backward reads.
  Operand whole_context() {
    return all(c.saved("context.whole", c.type.activation, c.n.rows * c.n.context, again.all));
  }

  void flash_forward(Phase phase, Operand context) {
    std::vector<Operand> reads{all(t.qkv)};
    if (is_biased()) {
      reads.push_back(position_bias(c));
    }
    if (c.model.is_classifier()) {
      reads.push_back(loaded(c, Loaded::lengths));
    }
    attend(AttentionStep::flash_forward, phase, std::move(reads), {context, all(t.core)});
  }

  void core_forward(Phase phase, Operand context) {
    if (workloads::is_flash(c.job.workload.attention)) {
      flash_forward(phase, context);
      sink(phase, context);
    } else {
      probabilities(phase);
      attend(AttentionStep::context, phase, {all(t.core), all(t.qkv)}, {context});
    }
  }

  void core_backward(Operand d_context, Operand context, Operand d_qkv) {
    const Phase phase = Phase::backward_input;
    const bool core_again = again.core && !again.all;
    if (workloads::is_flash(c.job.workload.attention)) {
      if (core_again) {  // frameworks run the whole of it, though the output is kept
        const Operand output = all(c.temporary("context.again", c.type.activation, c.n.rows * c.n.context));
        flash_forward(Phase::recompute, output);
        sink(Phase::recompute, output);
      }
      sink_backward(d_context, context);
      std::vector<Operand> reads{d_context, all(t.qkv), context, all(t.core)}, writes{d_qkv};
      if (is_biased()) {
        reads.insert(reads.end(), {position_bias(c), position_bias_gradient(c)});
        writes.push_back(position_bias_gradient(c));
      }
      if (c.model.is_classifier()) {
        reads.push_back(loaded(c, Loaded::lengths));
      }
      attend(AttentionStep::flash_backward, phase, std::move(reads), std::move(writes));
      return;
    }
    if (core_again) {
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

BufferId attention_share(const LayerEmitter& e) {
  return AttentionEmitter{e}.share();
}

void attention_enter(const LayerEmitter& e, Phase phase) {
  AttentionEmitter{e}.enter(phase);
}

void attention_core(const LayerEmitter& e, Phase phase) {
  AttentionEmitter{e}.attend_share(phase);
}

void attention_core_backward(const LayerEmitter& e, Operand d_context, Operand d_qkv) {
  AttentionEmitter{e}.attend_share_backward(d_context, d_qkv);
}

void attention_again(const LayerEmitter& e) {
  if (e.again.norms && !e.again.all) {
    LayerEmitter emitter = e;
    emitter.norm_forward(Phase::recompute, e.input(), "norm1", e.all(e.t.norm1), e.t.stats1);
  }
}

void attention_forward(const LayerEmitter& e, Phase phase) {
  if (e.layer_kind.ssm) {
    state_space_forward(e, phase);
    return;
  }
  if (e.c.model.has_mla()) {
    latent_attention_forward(e, phase);
    return;
  }
  AttentionEmitter{e}.forward(phase);
}

void attention_backward(const LayerEmitter& e, BackwardPart part, const ResidualGradients& d) {
  if (e.layer_kind.ssm) {
    state_space_backward(e, part, d);
    return;
  }
  if (e.c.model.has_mla()) {
    latent_attention_backward(e, part, d);
    return;
  }
  AttentionEmitter{e}.backward(part, d);
}

}  // namespace foretrain::plan
