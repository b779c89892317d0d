// Between an encoder and a decoder: attention of the decoder's layers to what the encoder makes of its sequence, and
// what all layers of a side read and add to.
#include "plan/layer_emitter.h"

namespace foretrain::plan {

namespace {

bool is_relative(const RoleContext& c) {
  return c.model.positions == workloads::Positions::relative;
}

Operand shared(RoleContext& c, const std::string& name, Dtype dtype, std::int64_t elements, Lifetime lifetime) {
  return c.builder.whole(c.builder.buffer(name, dtype, elements, BufferKind::activation, lifetime));
}

std::int64_t encoded_elements(const RoleContext& c) {
  const std::int64_t rows = c.job.strategy.micro_batch * c.job.workload.seq_len;
  return rows / (c.sequence_parallel ? c.tp : 1) * c.n.hidden;
}

struct CrossEmitter : LayerEmitter {
  std::int64_t kv() const { return c.n.qkv - c.n.q; }

  void attend(AttentionStep step, Phase phase, std::vector<Operand> reads, std::vector<Operand> writes) {
    Attention op{step,  c.job.workload.attention, c.n.batch, c.n.seq, c.n.heads, c.n.kv_heads, c.n.head_dim,
                 false, c.type.activation};
    op.key_seq = c.job.workload.seq_len;
    op.scaled = c.model.scaled_scores;
    b.emit(op, kCompute, phase, std::move(reads), std::move(writes));
  }

  void forward(Phase phase) {
    norm_forward(phase, all(t.x_mid), "cross.norm", all(t.cross_norm), t.cross_stats);
    const Operand h = gather_rows(c, b, phase, all(t.cross_norm), "cross.input");
    linear(phase, h, "cross.q", c.model.attention_bias, all(t.cross_q), c.n.q, c.n.hidden);
    c.enter(Side::encoder);  // the rows of its sequences
    const Operand read = gather_rows(c, b, phase, encoded(c), "cross.encoded");
    linear(phase, read, "cross.kv", c.model.attention_bias, all(t.cross_kv), kv(), c.n.hidden);
    c.enter(Side::decoder);
    attend(AttentionStep::flash_forward, phase, {all(t.cross_q), all(t.cross_kv)},
           {all(t.cross_context), all(t.cross_core)});
    const Operand partial = all(c.temporary("cross.partial", c.type.activation, c.n.rows * c.n.hidden));
    linear_partial(phase, all(t.cross_context), "cross.out", partial, false, c.n.hidden, c.n.context);
    const Operand out = reduce_rows(c, b, phase, partial, "cross.output");
    residual_add(phase, all(t.x_mid), out, "cross.out.bias", c.model.output_bias, all(t.cross_x));
  }

  void compute_again() {
    if (again.norms) {
      norm_forward(Phase::recompute, all(t.x_mid), "cross.norm", all(t.cross_norm), t.cross_stats);
    }
    if (again.core) {
      const Operand output = all(c.temporary("cross.context.again", c.type.activation, c.n.rows * c.n.context));
      attend(AttentionStep::flash_forward, Phase::recompute, {all(t.cross_q), all(t.cross_kv)},
             {output, all(t.cross_core)});
    }
  }

  void backward(const ResidualGradients& d) {
    const Dtype a = c.type.activation;
    const BackwardPart whole = BackwardPart::whole;
    if (!again.all) {
      compute_again();
    }
    if (c.model.output_bias) {
      bias_gradient(d.mid, "cross.out.bias", c.n.shard_rows, c.n.hidden);
    }
    const Operand dy = full_gradient(whole, d.mid, "cross.output_gradient");
    const Operand d_context = all(c.temporary("cross.d_context", a, c.n.rows * c.n.context));
    linear_input(dy, "cross.out", d_context, c.n.hidden, c.n.context);
    linear_weight(dy, all(t.cross_context), "cross.out", c.n.hidden, c.n.context);
    const Operand d_q = all(c.temporary("cross.d_q", a, c.n.rows * c.n.q));
    const Operand d_kv = all(c.temporary("cross.d_kv", a, all(t.cross_kv).elements));
    attend(AttentionStep::flash_backward, Phase::backward_input,
           {d_context, all(t.cross_q), all(t.cross_kv), all(t.cross_context), all(t.cross_core)}, {d_q, d_kv});
    const bool bias = c.model.attention_bias;
    const Operand d_norm = through_input(whole, "cross", "cross.q", d_q, c.n.q, all(t.cross_norm), {}, bias);
    c.enter(Side::encoder);
    const Operand d_read = through_input(whole, "cross.encoded", "cross.kv", d_kv, kv(), encoded(c), {}, bias);
    const Operand sum = encoded_gradient(c);
    b.emit(Accumulate{sum.elements, a, a}, kCompute, Phase::backward_input, {d_read, sum}, {sum});
    c.enter(Side::decoder);
    norm_backward(d_norm, all(t.x_mid), t.cross_stats, "cross.norm", d.mid, d.mid);
  }
};

RelativeBias relative_bias(const RoleContext& c, Direction direction) {
  return {direction,
          c.n.heads,
          c.n.seq,
          c.model.relative_buckets,
          c.model.relative_distance,
          !c.is_causal(),
          direction == Direction::forward ? c.type.parameter : c.type.statistic};
}

std::string bias_table(const RoleContext& c) {
  return c.side == Side::decoder ? "embedding.decoder_bias" : "embedding.encoder_bias";
}

}  // namespace

Operand encoded(RoleContext& c) {
  return shared(c, "encoded", c.type.activation, encoded_elements(c), Lifetime::slot);
}

Operand encoded_gradient(RoleContext& c) {
  return shared(c, "d_encoded", c.type.activation, encoded_elements(c), Lifetime::ring);
}

Operand position_bias(RoleContext& c) {
  return shared(c, c.named("position_bias"), c.type.statistic, c.n.heads * (2 * c.n.seq - 1), Lifetime::slot);
}

Operand position_bias_gradient(RoleContext& c) {
  return shared(c, c.named("d_position_bias"), c.type.statistic, c.n.heads * (2 * c.n.seq - 1), Lifetime::ring);
}

void clear_sums(RoleContext& c, BlockBuilder& b) {
  if (!c.model.is_encoder_decoder()) {
    return;
  }
  if (c.side == Side::decoder) {
    const Operand sum = encoded_gradient(c);
    b.emit(Fill{sum.elements, c.type.activation}, kCompute, Phase::backward_input, {}, {sum});
  }
  if (is_relative(c)) {
    const Operand sum = position_bias_gradient(c);
    b.emit(Fill{sum.elements, c.type.statistic}, kCompute, Phase::backward_input, {}, {sum});
  }
}

void relative_bias_forward(RoleContext& c, BlockBuilder& b) {
  if (is_relative(c)) {
    b.emit(relative_bias(c, Direction::forward), kCompute, Phase::forward, {c.parameter(kEmbedding, bias_table(c))},
           {position_bias(c)});
  }
}

void relative_bias_backward(RoleContext& c, BlockBuilder& b) {
  if (is_relative(c)) {
    const Operand sum = c.gradient(kEmbedding, bias_table(c));
    b.emit(relative_bias(c, Direction::backward_weight), kCompute, Phase::backward_weight,
           {position_bias_gradient(c), sum}, {sum});
  }
}

void cross_attention_forward(const LayerEmitter& e, Phase phase) {
  CrossEmitter{e}.forward(phase);
}

void cross_attention_backward(const LayerEmitter& e, const ResidualGradients& d) {
  CrossEmitter{e}.backward(d);
}

}  // namespace foretrain::plan
