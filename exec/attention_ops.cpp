#include "exec/attention_ops.h"

#include "base/error.h"

namespace foretrain::exec {

namespace {

// Calls f(shape, token, position) for each run of neighbouring positions: the shape is cut to it, and its first token
// is the rank's `token` and stands at `position` of its sequence.
template <class Op, class Shape, class F>
void each_run(const OpCall& call, const Op& op, Shape shape, const F& f) {
  const plan::SequenceShare share = call.rank->share_in(op.seq_group, op.seq);
  if (share.size > 1) {
    shape.batch = 1;
    shape.seq = share.run();
  }
  for (std::int64_t token = 0; token < op.batch * op.seq; token += shape.tokens()) {
    f(shape, token, share.position(token % op.seq));
  }
}

// Queries, keys and values where they stand: apart, or in packed rows.
void attention_rows(const kernels::Launchers& launch, const OpCall& call, const plan::Attention& op,
                    const kernels::AttentionShape& shape) {
  const bool apart = op.key_seq != 0, forward = op.step == plan::AttentionStep::flash_forward;
  const std::int64_t ld_q = apart ? shape.q_cols() : shape.qkv_cols(), behind = apart ? 0 : shape.q_cols();
  const kernels::AttentionRows rows{op.keys(), ld_q, apart ? shape.kv_cols() : ld_q};
  std::size_t next = forward ? 0 : 1;
  const kernels::Tensor q = call.reads[next++], kv = apart ? call.reads[next++] : advanced(q, behind);
  if (forward) {
    launch.attention_rows_forward(shape, rows, q, kv, op.biased ? call.reads[next] : kernels::Tensor{}, call.writes[0],
                                  call.writes[1]);
    return;
  }
  const kernels::Tensor o = call.reads[next++], lse = call.reads[next++];
  const kernels::Tensor dq = call.writes[0], dkv = apart ? call.writes[1] : advanced(dq, behind);
  launch.attention_rows_backward(shape, rows, q, kv, op.biased ? call.reads[next] : kernels::Tensor{}, o, lse,
                                 call.reads[0], dq, dkv, op.biased ? call.writes.back() : kernels::Tensor{});
}

// Sequence by sequence, of packed rows: every query sees the first of its sequence's keys, and the others' gradients
// are 0.
void padded_attention(const kernels::Launchers& launch, const OpCall& call, const plan::Attention& op,
                      kernels::AttentionShape shape) {
  const bool forward = op.step == plan::AttentionStep::flash_forward;
  const auto* const lengths = static_cast<const std::int32_t*>(call.reads.back().data);
  const std::int64_t ld = shape.qkv_cols(), behind = shape.q_cols();
  shape.batch = 1;
  for (std::int64_t s = 0; s < op.batch; ++s) {
    const std::int64_t row = s * op.seq, keys = lengths[s];
    CHECK(keys > 0 && keys <= op.seq, "a sequence of {} tokens in rows of {}", keys, op.seq);
    const kernels::AttentionRows rows{keys, ld, ld};
    const auto qkv = [&](const kernels::Tensor& t) { return advanced(t, row * ld); };
    const auto out = [&](const kernels::Tensor& t) { return advanced(t, row * shape.out_cols()); };
    const auto lse = [&](const kernels::Tensor& t) { return advanced(t, row * op.heads); };
    if (forward) {
      const kernels::Tensor q = qkv(call.reads[0]);
      launch.attention_rows_forward(shape, rows, q, advanced(q, behind), {}, out(call.writes[0]), lse(call.writes[1]));
      continue;
    }
    const kernels::Tensor q = qkv(call.reads[1]), dq = qkv(call.writes[0]);
    launch.attention_rows_backward(shape, rows, q, advanced(q, behind), {}, out(call.reads[2]), lse(call.reads[3]),
                                   out(call.reads[0]), dq, advanced(dq, behind), {});
    for (std::int64_t key = keys; key < op.seq; ++key) {
      launch.fill(advanced(dq, key * ld + behind), shape.kv_cols(), 0.0);
    }
  }
}

}  // namespace

void attention(const kernels::Launchers& launch, const OpCall& call, const plan::Attention& op) {
  kernels::AttentionShape shape = attention_shape(op);
  shape.causal = op.causal;
  shape.value_dim = op.value_dim;
  shape.window = op.window;
  shape.document = op.document;
  shape.scale = op.scaled ? 0.0 : 1.0;
  if (op.padded) {
    padded_attention(launch, call, op, shape);
    return;
  }
  if (op.key_seq != 0 || op.biased) {
    attention_rows(launch, call, op, shape);
    return;
  }
  const std::vector<kernels::Tensor>&reads = call.reads, &writes = call.writes;
  switch (op.step) {
    case plan::AttentionStep::flash_forward: launch.attention_forward(shape, reads[0], writes[0], writes[1]); break;
    case plan::AttentionStep::flash_backward:
      launch.attention_backward(shape, reads[1], reads[2], reads[3], reads[0], writes[0]);
      break;
    case plan::AttentionStep::scores: launch.attention_scores(shape, reads[0], writes[0]); break;
    case plan::AttentionStep::scale_mask: launch.attention_scale_mask(shape, writes[0]); break;
    case plan::AttentionStep::softmax: launch.attention_softmax(shape, reads[0], writes[0]); break;
    case plan::AttentionStep::scale_mask_softmax:
      launch.attention_scale_mask_softmax(shape, reads[0], writes[0]);
      break;
    case plan::AttentionStep::context: launch.attention_context(shape, reads[0], reads[1], writes[0]); break;
    case plan::AttentionStep::context_backward:
      launch.attention_context_backward(shape, reads[1], reads[2], reads[0], writes[0], writes[1]);
      break;
    case plan::AttentionStep::softmax_backward:
      launch.attention_softmax_backward(shape, reads[0], reads[1], writes[0]);
      break;
    case plan::AttentionStep::scale_backward: launch.attention_scale_mask_backward(shape, writes[0]); break;
    case plan::AttentionStep::softmax_scale_backward:
      launch.attention_scale_mask_softmax_backward(shape, reads[0], reads[1], writes[0]);
      break;
    case plan::AttentionStep::scores_backward:
      launch.attention_scores_backward(shape, reads[0], reads[1], writes[0]);
      break;
  }
}

void attention_sinks(const kernels::Launchers& launch, const OpCall& call, const plan::AttentionSinks& op) {
  kernels::AttentionShape shape;
  shape.batch = op.batch;
  shape.seq = op.seq;
  shape.heads = shape.kv_heads = op.heads;
  shape.head_dim = op.v_dim;
  const std::int64_t first = call.rank->index_in(op.head_group) * op.heads;
  if (op.direction == plan::Direction::forward) {
    launch.attention_sinks_forward(shape, advanced(call.reads[0], first), call.writes[0], call.writes[1]);
  } else {
    launch.attention_sinks_backward(shape, advanced(call.reads[3], first), call.reads[1], call.reads[2], call.reads[0],
                                    advanced(call.writes[0], first));
  }
}

void relative_bias(const kernels::Launchers& launch, const OpCall& call, const plan::RelativeBias& op) {
  const kernels::RelativeBiasShape shape{op.heads, op.seq, op.seq, op.buckets, op.max_distance, op.bidirectional};
  if (op.direction == plan::Direction::forward) {
    launch.relative_bias_forward(shape, call.reads[0], call.writes[0]);
  } else {
    launch.relative_bias_backward(shape, call.reads[0], call.writes[0]);
  }
}

void latent_heads(const kernels::Launchers& launch, const OpCall& call, const plan::LatentHeads& op) {
  using Shape = kernels::LatentHeadsShape;
  const Shape whole{op.batch, op.seq, op.heads, op.nope_dim, op.rope_dim, op.v_dim};
  each_run(call, op, whole, [&](Shape shape, std::int64_t token, std::int64_t position) {
    shape.position_offset = position;
    const auto read = [&](std::size_t i, std::int64_t cols) { return advanced(call.reads[i], token * cols); };
    const auto write = [&](std::size_t i, std::int64_t cols) { return advanced(call.writes[i], token * cols); };
    if (op.direction == plan::Direction::forward) {
      launch.latent_heads_forward(shape, op.frequencies, read(0, shape.q_cols()), read(1, shape.kv_cols()),
                                  read(2, op.rope_dim), write(0, shape.qkv_cols()));
    } else {
      launch.latent_heads_backward(shape, op.frequencies, read(0, shape.qkv_cols()), write(0, shape.q_cols()),
                                   write(1, shape.kv_cols()), write(2, op.rope_dim));
    }
  });
}

void rotary(const kernels::Launchers& launch, const OpCall& call, const plan::Rotary& op) {
  using Shape = kernels::AttentionShape;
  each_run(call, op, attention_shape(op), [&](const Shape& shape, std::int64_t token, std::int64_t position) {
    const kernels::Tensor qkv = advanced(call.writes[0], token * shape.qkv_cols());
    if (op.direction == plan::Direction::forward) {
      launch.rotary_forward(shape, op.rotary_dim, op.frequencies, position, qkv);
    } else {
      launch.rotary_backward(shape, op.rotary_dim, op.frequencies, position, qkv);
    }
  });
}

}  // namespace foretrain::exec
