// What a launch of attention works on, given to its kernels by value: which keys a query sees, and where heads stand.
// Queries and keys are numbered within their sequence, those outside the part too.
#pragma once

#include "kernels/cuda/device_code.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

struct Range {
  int first = 0, past = 0;
};

// AttentionPart, for any query and key of a sequence.
struct Sight {
  int first_query = 0, past_query = 0, first_key = 0, past_key = 0;
  bool causal = false;
  int diagonal = 0, window = 0, document = 0, jump_at = 0, jump = 0;

  // The keys that a query of the part sees: a range whose ends never go back from one query to the next.
  __device__ Range of_query(int query) const {
    if (!causal) {
      return {first_key, past_key};
    }
    const int i = query - first_query;
    const int end = i + 1 + diagonal + (i >= jump_at ? jump : 0);
    int begin = window > 0 && end > window ? end - window : 0;
    if (document > 0 && (end - 1) / document * document > begin) {
      begin = (end - 1) / document * document;
    }
    return {first_key + begin, first_key + end};
  }
  __device__ bool sees(int query, int key) const {
    const Range keys = of_query(query);
    return query >= first_query && query < past_query && key >= keys.first && key < keys.past;
  }
  // Each of these queries sees each of these keys: nothing is masked.
  __device__ bool see_all(int query, int past, Range keys) const {
    return query >= first_query && past <= past_query && of_query(past - 1).first <= keys.first &&
           of_query(query).past >= keys.past;
  }
  // The keys that any of these queries sees.
  __device__ Range keys_of(int query, int past) const {
    const int first = query > first_query ? query : first_query;
    const int last = (past < past_query ? past : past_query) - 1;
    return first > last ? Range{} : Range{of_query(first).first, of_query(last).past};
  }
  // The queries that see any of these keys.
  __device__ Range queries_of(int key, int past) const {
    const int first = key > first_key ? key : first_key;
    const int last = (past < past_key ? past : past_key) - 1;
    if (first > last) {
      return {};
    }
    return causal ? Range{first_query_where([&](Range keys) { return keys.past > first; }),
                          first_query_where([&](Range keys) { return keys.first > last; })}
                  : Range{first_query, past_query};
  }

 private:
  // By halving: `holds` is false for some first queries and true from there on.
  template <class F>
  __device__ int first_query_where(F holds) const {
    int low = first_query, high = past_query;
    while (low < high) {
      const int middle = low + (high - low) / 2;
      if (holds(of_query(middle))) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }
};

Sight sight_of(const AttentionShape& shape);
Sight sight_of(const AttentionPart& part);

constexpr int kTileRows = 64;  // of a block

// The rows of one head: [·][cols], `ld` elements apart.
template <class T>
struct HeadRows {
  T* at;
  std::int64_t ld;
  int cols;

  __device__ T* row(int r) const { return at + r * ld; }
};

// Heads of queries (and their gradients), of keys and of values, of every sequence, and of outputs.
struct Heads {
  int batch = 0, seq = 0, key_seq = 0, heads = 0, kv_heads = 0, head_dim = 0, v_dim = 0;
  std::int64_t ld_q = 0, ld_kv = 0, ld_o = 0;
  double scale = 1.0;

  __host__ __device__ int group() const { return heads / kv_heads; }
  template <class T>
  __device__ HeadRows<T> query(T* q, int sequence, int head) const {
    return {q + std::int64_t{sequence} * seq * ld_q + std::int64_t{head} * head_dim, ld_q, head_dim};
  }
  template <class T>
  __device__ HeadRows<T> key(T* k, int sequence, int kv_head) const {
    return {k + std::int64_t{sequence} * key_seq * ld_kv + std::int64_t{kv_head} * head_dim, ld_kv, head_dim};
  }
  template <class T>
  __device__ HeadRows<T> value(T* v, int sequence, int kv_head) const {
    return {v + std::int64_t{sequence} * key_seq * ld_kv + std::int64_t{kv_head} * v_dim, ld_kv, v_dim};
  }
  template <class T>
  __device__ HeadRows<T> out(T* o, int sequence, int head) const {
    return {o + std::int64_t{sequence} * seq * ld_o + std::int64_t{head} * v_dim, ld_o, v_dim};
  }
  // A bias by distance has for each head distances() elements, and for its query and key this one (AttentionRows).
  __host__ __device__ int distances() const { return seq + key_seq - 1; }
  __device__ std::int64_t distance(int head, int query, int key) const {
    return std::int64_t{head} * distances() + key - query + seq - 1;
  }
  // What a block of kTileRows queries has of them: first that of its last query and the first key.
  __host__ __device__ int block_distances() const { return key_seq + kTileRows - 1; }
  // The first of a head's `seq` statistics.
  __device__ std::int64_t statistics(int sequence, int head) const {
    return (std::int64_t{sequence} * heads + head) * seq;
  }
};

// Of queries, keys and values packed together, and of keys and values on their own.
Heads heads_of(const AttentionShape& shape);
Heads heads_of(const AttentionShape& shape, const AttentionPart& part);
Heads heads_of(const AttentionShape& shape, const AttentionRows& rows);

// To a block's sums by distance those of a tile of ds, kTileRows queries against the keys from `key` on; its last
// column is not of it. Each diagonal is added up by one thread; all threads are behind a barrier, and come to one.
template <class W, int kColumns>
__device__ void add_diagonals(const Heads& heads, const W (&ds)[kTileRows][kColumns], int key, W* sums) {
  constexpr int kOthers = kColumns - 1;
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows + kOthers - 1; i += static_cast<int>(blockDim.x)) {
    if (key + i >= heads.block_distances()) {
      return;
    }
    W sum = 0;
    for (int row = 0; row < kTileRows; ++row) {
      const int other = row + i - (kTileRows - 1);
      sum += other >= 0 && other < kOthers ? ds[row][other] : W{0};
    }
    sums[key + i] += sum;
  }
}

// One launch, forward: tensors of T start at their first row of the first sequence.
template <class T>
struct AttentionForward {
  Heads heads;
  Sight sight;
  const T *q, *k, *v;
  T* o;
  Wide<T>* lse;
  const Wide<T>* bias = nullptr;  // by distance, where there is one
};

// Backward, of the key/value heads [first_pair, first_pair + pairs), counted over all sequences. `dots`: of each query
// of each of their query heads, the sum of d_o o. `sums`: where there is a bias, of each block of the pass for dq its
// block_distances() sums of ds.
template <class T>
struct AttentionBackward {
  Heads heads;
  Sight sight;
  const T *q, *k, *v, *o;
  const Wide<T>* lse;
  const T* d_o;
  Wide<T>* dots;
  T *dq, *dk, *dv;
  bool add_to_dq = false;
  const Wide<T>* bias = nullptr;
  Wide<T>*d_bias = nullptr, *sums = nullptr;
  int first_pair = 0, pairs = 0;
};

// The sums of a block of the pass for dq, set to 0; none where there is no bias. A barrier stands before their use.
template <class T>
__device__ Wide<T>* sums_of_block(const AttentionBackward<T>& a) {
  if (a.sums == nullptr) {
    return nullptr;
  }
  Wide<T>* const sums = a.sums + std::int64_t{blockIdx.x} * a.heads.block_distances();
  for (int i = static_cast<int>(threadIdx.x); i < a.heads.block_distances(); i += static_cast<int>(blockDim.x)) {
    sums[i] = 0;
  }
  return sums;
}

// What a block of the plain backward computes: one tile of rows of one of the three gradients.
enum class Gradient : std::uint8_t { q, k, v };

// Of head_dim and v_dim up to this, bf16 runs on the tensor cores; with a bias up to that.
constexpr int kMostTensorColumns = 256, kMostBiasedColumns = 128;
void tensor_forward(const Stream& stream, const AttentionForward<Bf16>& call);
void tensor_backward(const Stream& stream, const AttentionBackward<Bf16>& call);  // dots are given

template <class T>
void plain_forward(const Stream& stream, const AttentionForward<T>& call);
template <class T>
void plain_backward(const Stream& stream, const AttentionBackward<T>& call);

}  // namespace foretrain::kernels::cuda
