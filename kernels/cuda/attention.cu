// Attention without scores in memory: the launchers of its two versions.
#include <algorithm>
#include <cmath>

#include "kernels/arguments.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_view.h"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/limits.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kRowsOfBlock = kThreads / kWarp;

int counted(std::int64_t size) {
  return as_int("attention", size);
}

// One warp per query and head: dots = sum of d_o o.
template <class T>
__global__ void __launch_bounds__(kThreads) dots_kernel(AttentionBackward<T> a) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kRowsOfBlock + threadIdx.x / kWarp;
  const int group = a.heads.group();
  if (at >= std::int64_t{a.pairs} * group * a.heads.seq) {
    return;
  }
  const int query = static_cast<int>(at % a.heads.seq);
  const std::int64_t head = at / a.heads.seq + std::int64_t{a.first_pair} * group;
  const int sequence = static_cast<int>(head / a.heads.heads), in_sequence = static_cast<int>(head % a.heads.heads);
  const T* const o = a.heads.out(a.o, sequence, in_sequence).row(query);
  const T* const d_o = a.heads.out(a.d_o, sequence, in_sequence).row(query);
  Wide<T> sum = 0;
  for (int c = static_cast<int>(threadIdx.x % kWarp); c < a.heads.v_dim; c += static_cast<int>(kWarp)) {
    sum += widen(o[c]) * widen(d_o[c]);
  }
  for (unsigned offset = kWarp / 2; offset > 0; offset /= 2) {
    sum += shuffle_xor(sum, offset);
  }
  if (threadIdx.x % kWarp == 0) {
    a.dots[at] = sum;
  }
}

// One thread per head and distance: what blocks of queries have of it, in their order.
template <class T>
__global__ void __launch_bounds__(kThreads) add_sums_kernel(AttentionBackward<T> a, int tiles) {
  const int at = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (at >= a.heads.heads * a.heads.distances()) {
    return;
  }
  const int head = at / a.heads.distances(), distance = at % a.heads.distances(), group = a.heads.group();
  const int past_pair = a.first_pair + a.pairs;
  Wide<T> sum = 0;
  for (int sequence = a.first_pair / a.heads.kv_heads; sequence * a.heads.kv_heads < past_pair; ++sequence) {
    const int pair = sequence * a.heads.kv_heads + head / group;
    if (pair < a.first_pair || pair >= past_pair) {
      continue;
    }
    const std::int64_t block = (std::int64_t{pair - a.first_pair} * group + head % group) * tiles;
    for (int tile = 0; tile < tiles; ++tile) {
      const int in_block = distance - (a.heads.seq - 1) + (tile + 1) * kTileRows - 1;
      if (in_block >= 0 && in_block < a.heads.block_distances()) {
        sum += a.sums[(block + tile) * a.heads.block_distances() + in_block];
      }
    }
  }
  a.d_bias[at] += sum;
}

bool on_tensor_cores(const Heads& heads, bool biased) {
  const int most = biased ? kMostBiasedColumns : kMostTensorColumns;
  return heads.head_dim <= most && heads.v_dim <= most;
}

template <class T>
void forward(const Stream& stream, const AttentionForward<T>& a) {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (on_tensor_cores(a.heads, a.bias != nullptr)) {
      tensor_forward(stream, a);
      return;
    }
  }
  plain_forward(stream, a);
}

template <class T>
void backward_of_pairs(const Stream& stream, const AttentionBackward<T>& a) {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (on_tensor_cores(a.heads, a.bias != nullptr)) {
      tensor_backward(stream, a);
      return;
    }
  }
  plain_backward(stream, a);
}

// As many key/value heads at a time as the workspace has room for: for their dots, and with a bias for the sums of
// their blocks.
template <class T>
void backward(const Stream& stream, AttentionBackward<T> a) {
  const int group = a.heads.group(), pairs = a.heads.batch * a.heads.kv_heads;
  const int tiles = ceil_div(a.heads.seq, kTileRows);
  const std::int64_t dots = std::int64_t{group} * a.heads.seq;
  const std::int64_t sums = a.bias != nullptr ? std::int64_t{group} * tiles * a.heads.block_distances() : 0;
  const std::size_t bytes = sizeof(Wide<T>) * static_cast<std::size_t>(dots + sums);
  check_workspace("attention_backward", bytes);
  const int fit = bytes == 0 ? pairs : static_cast<int>(std::min(kWorkspaceBytes / bytes, std::size_t(pairs)));
  a.dots = static_cast<Wide<T>*>(stream.workspace);
  a.sums = a.bias != nullptr ? a.dots + fit * dots : nullptr;
  for (a.first_pair = 0; a.first_pair < pairs; a.first_pair += fit) {
    a.pairs = std::min(fit, pairs - a.first_pair);
    const std::int64_t rows = std::int64_t{a.pairs} * group * a.heads.seq;
    launch(&dots_kernel<T>, {static_cast<unsigned>(ceil_div(rows, std::int64_t{kRowsOfBlock}))}, {kThreads}, stream, a);
    backward_of_pairs(stream, a);
    if (a.bias != nullptr) {
      const int distances = a.heads.heads * a.heads.distances();
      launch(&add_sums_kernel<T>, {static_cast<unsigned>(ceil_div(distances, static_cast<int>(kThreads)))}, {kThreads},
             stream, a, tiles);
    }
  }
}

// Where queries, keys and values begin: all packed, or keys and values on their own.
template <class T>
struct Parts {
  T *q, *k, *v;
};
template <class T>
Parts<T> packed(const AttentionShape& s, T* qkv) {
  return {qkv, qkv + s.q_cols(), qkv + s.q_cols() + s.kv_heads * s.head_dim};
}
template <class T>
Parts<T> apart(const AttentionShape& s, T* qkv, T* kv) {
  return {qkv, kv, kv + s.kv_heads * s.head_dim};
}

AttentionPart all_keys(const AttentionShape& s, const AttentionRows& rows) {
  return {.queries = s.seq, .keys = rows.key_seq, .causal = s.causal, .key_seq = rows.key_seq};
}

bool is_empty(const AttentionShape& s) {
  return s.batch == 0 || s.heads == 0;
}

}  // namespace

Sight sight_of(const AttentionPart& p) {
  return {.first_query = counted(p.first_query),
          .past_query = counted(p.first_query + p.queries),
          .first_key = counted(p.first_key),
          .past_key = counted(p.first_key + p.keys),
          .causal = p.causal,
          .diagonal = counted(p.diagonal),
          .window = counted(p.window),
          .document = counted(p.document),
          .jump_at = counted(p.jump_at),
          .jump = counted(p.jump)};
}

Sight sight_of(const AttentionShape& s) {
  return sight_of(AttentionPart{0, s.seq, 0, s.seq, s.causal, 0, s.window, s.document});
}

Heads heads_of(const AttentionShape& s) {
  return {.batch = counted(s.batch),
          .seq = counted(s.seq),
          .key_seq = counted(s.seq),
          .heads = counted(s.heads),
          .kv_heads = counted(s.kv_heads),
          .head_dim = counted(s.head_dim),
          .v_dim = counted(s.v_dim()),
          .ld_q = s.qkv_cols(),
          .ld_kv = s.qkv_cols(),
          .ld_o = s.out_cols(),
          .scale = s.scale != 0.0 ? s.scale : 1.0 / std::sqrt(static_cast<double>(s.head_dim))};
}

Heads heads_of(const AttentionShape& s, const AttentionPart& part) {
  Heads heads = heads_of(s);
  heads.key_seq = counted(part.keys_of(s));
  heads.ld_kv = s.kv_cols();
  return heads;
}

Heads heads_of(const AttentionShape& s, const AttentionRows& rows) {
  Heads heads = heads_of(s);
  heads.key_seq = counted(rows.key_seq);
  heads.ld_q = rows.ld_q;
  heads.ld_kv = rows.ld_kv;
  return heads;
}

void attention_forward(const Stream& stream, const AttentionShape& s, ConstTensor qkv, Tensor o, Tensor lse) {
  arguments::attention_forward(s, qkv, o, lse);
  if (is_empty(s) || (stream.libraries != nullptr && stream.libraries->attention_forward(stream, s, qkv, o, lse))) {
    return;
  }
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Parts<const T> from = packed(s, as<T>(qkv));
    forward<T>(stream, {heads_of(s), sight_of(s), from.q, from.k, from.v, as<T>(o), as<Wide<T>>(lse)});
  });
}

void attention_backward(const Stream& stream, const AttentionShape& s, ConstTensor qkv, ConstTensor o, ConstTensor lse,
                        ConstTensor d_o, Tensor dqkv) {
  arguments::attention_backward(s, qkv, o, lse, d_o, dqkv);
  if (is_empty(s) ||
      (stream.libraries != nullptr && stream.libraries->attention_backward(stream, s, qkv, o, lse, d_o, dqkv))) {
    return;
  }
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Parts<const T> from = packed(s, as<T>(qkv));
    const Parts<T> to = packed(s, as<T>(dqkv));
    backward<T>(stream, {.heads = heads_of(s),
                         .sight = sight_of(s),
                         .q = from.q,
                         .k = from.k,
                         .v = from.v,
                         .o = as<T>(o),
                         .lse = as<Wide<T>>(lse),
                         .d_o = as<T>(d_o),
                         .dq = to.q,
                         .dk = to.k,
                         .dv = to.v});
  });
}

void attention_part_forward(const Stream& stream, const AttentionShape& s, const AttentionPart& part, ConstTensor qkv,
                            ConstTensor kv, Tensor o, Tensor lse) {
  arguments::attention_part_forward(s, part, qkv, kv, o, lse);
  if (is_empty(s)) {
    return;
  }
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Parts<const T> from = apart(s, as<T>(qkv), as<T>(kv));
    forward<T>(stream, {heads_of(s, part), sight_of(part), from.q, from.k, from.v, as<T>(o), as<Wide<T>>(lse)});
  });
}

void attention_part_backward(const Stream& stream, const AttentionShape& s, const AttentionPart& part, ConstTensor qkv,
                             ConstTensor kv, ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dqkv, Tensor dkv,
                             bool add_to_dq) {
  arguments::attention_part_backward(s, part, qkv, kv, o, lse, d_o, dqkv, dkv, add_to_dq);
  if (is_empty(s)) {
    return;
  }
  with_type(qkv.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Parts<const T> from = apart(s, as<T>(qkv), as<T>(kv));
    const Parts<T> to = apart(s, as<T>(dqkv), as<T>(dkv));
    backward<T>(stream, {.heads = heads_of(s, part),
                         .sight = sight_of(part),
                         .q = from.q,
                         .k = from.k,
                         .v = from.v,
                         .o = as<T>(o),
                         .lse = as<Wide<T>>(lse),
                         .d_o = as<T>(d_o),
                         .dq = to.q,
                         .dk = to.k,
                         .dv = to.v,
                         .add_to_dq = add_to_dq});
  });
}

void attention_rows_forward(const Stream& stream, const AttentionShape& s, const AttentionRows& rows, ConstTensor q,
                            ConstTensor kv, ConstTensor bias, Tensor o, Tensor lse) {
  arguments::attention_rows_forward(s, rows, q, kv, bias, o, lse);
  if (is_empty(s)) {
    return;
  }
  with_type(q.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Parts<const T> from = apart(s, as<T>(q), as<T>(kv));
    forward<T>(stream, {heads_of(s, rows), sight_of(all_keys(s, rows)), from.q, from.k, from.v, as<T>(o),
                        as<Wide<T>>(lse), as<Wide<T>>(bias)});
  });
}

void attention_rows_backward(const Stream& stream, const AttentionShape& s, const AttentionRows& rows, ConstTensor q,
                             ConstTensor kv, ConstTensor bias, ConstTensor o, ConstTensor lse, ConstTensor d_o,
                             Tensor dq, Tensor dkv, Tensor d_bias) {
  arguments::attention_rows_backward(s, rows, q, kv, bias, o, lse, d_o, dq, dkv, d_bias);
  if (is_empty(s)) {
    return;
  }
  with_type(q.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const Parts<const T> from = apart(s, as<T>(q), as<T>(kv));
    const Parts<T> to = apart(s, as<T>(dq), as<T>(dkv));
    backward<T>(stream, {.heads = heads_of(s, rows),
                         .sight = sight_of(all_keys(s, rows)),
                         .q = from.q,
                         .k = from.k,
                         .v = from.v,
                         .o = as<T>(o),
                         .lse = as<Wide<T>>(lse),
                         .d_o = as<T>(d_o),
                         .dq = to.q,
                         .dk = to.k,
                         .dv = to.v,
                         .bias = as<Wide<T>>(bias),
                         .d_bias = as<Wide<T>>(d_bias)});
  });
}

}  // namespace foretrain::kernels::cuda
