#include "plan/work_of.h"

namespace foretrain::plan {

// Each product over the full square is 2 b h s s d, d the width of a key's head or of a value's: one of either in a
// forward, and in a flash backward three and two (the scores are computed again). Flash touches its operands only,
// and computes of a window what it shows; the unfused steps read and write the b h s s scores.
void WorkOf::operator()(const Attention& x) {
  const bool flash = x.step == AttentionStep::flash_forward || x.step == AttentionStep::flash_backward;
  const double shown = flash ? workloads::visible_share(x.window, x.document, x.seq) : 1;
  const double with_keys = 2 * product(x.batch, x.heads, x.seq, x.keys(), x.head_dim) * shown;
  const double with_values = 2 * product(x.batch, x.heads, x.seq, x.keys(), x.v_dim()) * shown;
  const std::int64_t tokens = x.batch * x.seq, key_tokens = x.batch * x.keys();
  const std::int64_t score_count = tokens * x.heads * x.seq;
  const Bytes square = size(x.dtype, score_count);
  const Bytes q = size(x.dtype, tokens * x.heads * x.head_dim);         // also dq
  const Bytes o = size(x.dtype, tokens * x.heads * x.v_dim());          // also do
  const Bytes k = size(x.dtype, key_tokens * x.kv_heads * x.head_dim);  // also dk
  const Bytes v = size(x.dtype, key_tokens * x.kv_heads * x.v_dim());   // also dv
  const Bytes qkv = q + k + v;
  const Bytes lse = size(wide(x.dtype), tokens * x.heads);
  const Bytes lengths = x.padded ? size(Dtype::i32, x.batch) : Bytes{};
  const Bytes bias = x.biased ? size(wide(x.dtype), x.heads * (x.seq + x.keys() - 1)) : Bytes{};
  const auto products = [&](double keys, double values) {
    w.flops = keys * with_keys + values * with_values;
    w.is_matmul = true;
  };
  const auto pointwise = [&](double per_score) { w.flops = per_score * static_cast<double>(score_count); };
  switch (x.step) {
    case AttentionStep::flash_forward:
      products(1, 1);
      w.read = qkv + bias + lengths;
      w.written = o + lse;
      break;
    case AttentionStep::flash_backward:
      products(3, 2);
      w.read = o + qkv + o + lse + bias + bias + lengths;
      w.written = qkv + bias;
      break;
    case AttentionStep::scores:
      products(1, 0);
      w.read = q + k;
      w.written = square;
      break;
    case AttentionStep::context:
      products(0, 1);
      w.read = square + v;
      w.written = o;
      break;
    case AttentionStep::context_backward:
      products(0, 2);
      w.read = o + square + v;
      w.written = square + v;
      break;
    case AttentionStep::scores_backward:
      products(2, 0);
      w.read = square + q + k;
      w.written = q + k;
      break;
    case AttentionStep::scale_mask:
    case AttentionStep::scale_backward:
      pointwise(1);
      w.read = w.written = square;
      break;
    case AttentionStep::softmax:
      pointwise(kSoftmax);
      w.read = w.written = square;
      break;
    case AttentionStep::scale_mask_softmax:
      pointwise(kSoftmax + 1);
      w.read = w.written = square;
      break;
    case AttentionStep::softmax_backward:
      pointwise(kSoftmaxBackward);
      w.read = square + square;
      w.written = square;
      break;
    case AttentionStep::softmax_scale_backward:
      pointwise(kSoftmaxBackward + 1);
      w.read = square + square;
      w.written = square;
      break;
  }
}

void WorkOf::operator()(const RelativeBias& x) {
  const Bytes bias = size(wide(x.dtype), x.heads * (2 * x.seq - 1));
  if (x.direction == Direction::forward) {
    w.read = size(x.dtype, x.heads * x.buckets);
    w.written = bias;
  } else {
    w.flops = product(x.heads, 2 * x.seq - 1);
    w.written = size(wide(x.dtype), x.heads * x.buckets);
    w.read = bias + w.written;
  }
}

// The kernels of mamba_ssm's ssd_combined.py: convolution (reads and writes x, B, C); states of each chunk (reads x
// and B, writes them); their passing on (reads and writes them); C B^T in the chunks; the scan (reads both, x, C and
// z, writes y); the gated norm (reads y and z, writes y). Per token and head 2 chunk·head_dim for the scan within a
// chunk and 4 head_dim·state to and from states, per group 2 chunk·state. The backward computes all again and then
// twice as much, on as many operands.
void WorkOf::operator()(const StateSpace& x) {
  const std::int64_t tokens = x.batch * x.seq, inner = x.heads * x.head_dim, bc = x.groups * x.state;
  const std::int64_t chunks = (x.seq + x.chunk - 1) / x.chunk * x.batch;
  const Bytes states = size(wide(x.dtype), chunks * x.heads * x.head_dim * x.state);
  const Bytes products = size(wide(x.dtype), tokens * x.groups * x.chunk);
  const std::int64_t times = x.direction == Direction::forward ? 1 : 3;
  const Bytes read = size(x.dtype, tokens * (6 * inner + 5 * bc + x.heads)) + states + states + products;
  const Bytes written = size(x.dtype, tokens * (3 * inner + 2 * bc)) + states + states + products;
  w.flops = static_cast<double>(times) * (2 * product(tokens, x.heads, x.chunk, x.head_dim) +
                                          4 * product(tokens, inner, x.state) + 2 * product(tokens, x.chunk, bc));
  w.read = Bytes{times * read.value};
  w.written = Bytes{times * written.value};
}

void WorkOf::operator()(const AttentionSinks& x) {
  const Bytes o = size(x.dtype, x.batch * x.seq * x.heads * x.v_dim);
  const Bytes lse = size(wide(x.dtype), x.batch * x.seq * x.heads);
  const double values = product(x.batch * x.seq, x.heads, x.v_dim);
  if (x.direction == Direction::forward) {
    w.flops = values;
    w.read = w.written = o + lse;
  } else {
    w.flops = 2 * values;
    w.read = o + o + lse;
    w.written = size(wide(x.dtype), x.heads);
  }
}

// Everything once; the shared columns are written to every head, and come back as one sum.
void WorkOf::operator()(const LatentHeads& x) {
  const std::int64_t tokens = x.batch * x.seq;
  const std::int64_t q = x.heads * (x.nope_dim + x.rope_dim), kv = x.heads * (x.nope_dim + x.v_dim);
  const Bytes apart = size(x.dtype, tokens * (q + kv + x.rope_dim));
  const Bytes packed = size(x.dtype, tokens * (2 * q + x.heads * x.v_dim));
  w.flops = 3 * product(tokens, x.heads + 1, x.rope_dim);
  const bool forward = x.direction == Direction::forward;
  w.read = forward ? apart : packed;
  w.written = forward ? packed : apart;
}

// q and k are read and written with a copy; the backward's weight half reads them again.
void WorkOf::operator()(const HeadNorm& x) {
  const double values = product(x.rows, x.heads + x.kv_heads, x.head_dim);
  const Bytes heads = size(x.dtype, x.rows * (x.heads + x.kv_heads) * x.head_dim);
  const Bytes gains = size(x.dtype, 2 * x.head_dim);
  switch (x.direction) {
    case Direction::forward:
      w.flops = kNormForward * values;
      w.read = heads + gains;
      w.written = heads + heads;
      break;
    case Direction::backward_input:
      w.flops = kNormBackward * values;
      w.read = heads + heads + gains;
      w.written = heads;
      break;
    case Direction::backward_weight:
      w.flops = kNormWeight * values;
      w.written = size(wide(x.dtype), 2 * x.head_dim);
      w.read = heads + heads + w.written;
      break;
  }
}

// q and k parts only: v is not touched. Sines and cosines are computed or come from cache.
void WorkOf::operator()(const Rotary& x) {
  const std::int64_t rotated = x.batch * x.seq * (x.heads + x.kv_heads) * x.rotary_dim;
  w.flops = 3 * static_cast<double>(rotated);
  w.read = w.written = size(x.dtype, rotated);
}

// Of every step of a causal ring half of the share's square is visible. Against another's keys either half of the
// queries or half of the keys take part, on ranks that go on together: in the mean three quarters. Over all keys at
// once a share has its part of the whole sequence's pairs, its late piece nearly all keys.
void WorkOf::operator()(const RingAttention& x) {
  const std::int64_t tokens = x.batch * x.seq;
  const Bytes q = size(x.dtype, tokens * x.heads * x.head_dim);  // also dq
  const Bytes o = size(x.dtype, tokens * x.heads * x.v_dim);     // also do
  const Bytes kv = size(x.dtype, tokens * x.kv_heads * (x.head_dim + x.v_dim));
  const Bytes lse = size(wide(x.dtype), tokens * x.heads);
  const auto seen = [&x](Bytes all) { return Bytes{x.distance == 0 || !x.causal ? all.value : all.value * 3 / 4}; };
  const Bytes all_kv{kv.value * x.parts};
  const double with_keys = 2 * product(x.batch, x.heads, x.seq, x.seq, x.head_dim);
  const double with_values = 2 * product(x.batch, x.heads, x.seq, x.seq, x.v_dim);
  const double share_of_all = x.parts * workloads::visible_share(x.window, x.document, x.seq * x.parts);
  switch (x.step) {
    case RingStep::pack:
    case RingStep::unpack: w.read = w.written = kv; break;
    case RingStep::attend:
      w.flops = with_keys + with_values;
      w.is_matmul = true;
      w.read = seen(q + kv);
      w.written = seen(o + lse);
      break;
    case RingStep::merge:
      w.flops = 3 * product(tokens, x.heads, x.v_dim, x.parts);
      for (std::int32_t p = 0; p < x.parts; ++p) {
        w.read += o + lse;
      }
      w.written = o + lse;
      break;
    case RingStep::attend_backward:
      w.flops = 3 * with_keys + 2 * with_values;
      w.is_matmul = true;
      w.read = seen(o + o + q + kv + lse);
      w.written = seen(q) + kv;
      if (x.accumulate) {
        w.read += seen(q);
      }
      break;
    case RingStep::attend_all:
      w.flops = (with_keys + with_values) * share_of_all;
      w.is_matmul = true;
      w.read = q + all_kv;
      w.written = o + lse;
      break;
    case RingStep::attend_all_backward:
      w.flops = (3 * with_keys + 2 * with_values) * share_of_all;
      w.is_matmul = true;
      w.read = o + o + q + all_kv + lse;
      w.written = q + all_kv;
      break;
  }
}

void WorkOf::operator()(const Reshard& x) {
  w.read = w.written = size(x.dtype, x.batch * x.seq * (x.q + x.k + x.v));
}

}  // namespace foretrain::plan
