// The backward sorts the tokens by word, as radix sort does: byte by byte from the lowest, each time keeping the order.
// Then a block has all rows of a word, in token order.
#include "kernels/arguments.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/order.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr int kDigitBits = 8;
constexpr int64_t kDigits = 1 << kDigitBits;
constexpr int64_t kMostTokens = int64_t{1} << 21;  // at a time: three tables of them fit in the workspace
static_assert(sizeof(int32_t) * (2 * kMostTokens + KeyCounts::elements(kMostTokens, kDigits)) <= kWorkspaceBytes);

template <class T, class P>
__global__ void forward(EmbeddingShape s, const int32_t* ids, const P* wte, const P* wpe, T* out) {
  using W = Wide<T>;
  each_element(
      s.tokens * s.cols,
      [=](int64_t i) {
        const Place at = place_of(i, s.cols);
        const int64_t row = ids[at.row] - s.vocab_start;
        const W word = row >= 0 && row < s.vocab_rows ? static_cast<W>(widen(wte[row * s.cols + at.col])) : W{0};
        if (wpe == nullptr) {
          return word;
        }
        const int64_t position = s.position_offset + at.row % s.seq;
        return word + static_cast<W>(widen(wpe[position * s.cols + at.col]));
      },
      [=](int64_t i, W x) { out[i] = narrow<T>(x); });
}

// The row of a token's word; vocab_rows, the last, for all words of other shards.
struct RowOf {
  const int32_t* ids;
  int64_t vocab_start, vocab_rows;

  __device__ int64_t operator()(int64_t token) const {
    const int64_t row = ids[token] - vocab_start;
    return row >= 0 && row < vocab_rows ? row : vocab_rows;
  }
};

// A digit of the i-th token of an order; without an order, of token i.
struct DigitOf {
  RowOf row;
  const int32_t* order;
  int shift;

  __device__ int32_t operator()(int64_t i) const {
    return static_cast<int32_t>(row(order == nullptr ? i : order[i]) >> shift & (kDigits - 1));
  }
};

struct PutToken {
  const int32_t* order;
  int32_t* sorted;

  __device__ void operator()(int64_t i, int32_t place) const {
    sorted[place] = order == nullptr ? static_cast<int32_t>(i) : order[i];
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    add_words(int64_t tokens, int64_t cols, RowOf row_of, const int32_t* sorted, const T* dout, Wide<T>* dwte) {
  const int64_t first = blockIdx.x;
  const int64_t row = row_of(sorted[first]);
  if (row == row_of.vocab_rows || (first > 0 && row_of(sorted[first - 1]) == row)) {
    return;
  }
  int64_t past = first + 1;
  for (int64_t most = tokens; past < most;) {
    const int64_t middle = past + (most - past) / 2;
    if (row_of(sorted[middle]) == row) {
      past = middle + 1;
    } else {
      most = middle;
    }
  }
  const int64_t c = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (c < cols) {
    Wide<T> sum = dwte[row * cols + c];
    for (int64_t i = first; i < past; ++i) {
      sum += widen(dout[sorted[i] * cols + c]);
    }
    dwte[row * cols + c] = sum;
  }
}

template <class T>
__global__ void add_positions(EmbeddingShape s, const T* dout, Wide<T>* dwpe) {
  const int64_t c = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (c < s.cols) {
    const int64_t position = s.position_offset + blockIdx.x;
    Wide<T> sum = dwpe[position * s.cols + c];
    for (int64_t t = blockIdx.x; t < s.tokens; t += s.seq) {
      sum += widen(dout[t * s.cols + c]);
    }
    dwpe[position * s.cols + c] = sum;
  }
}

const int32_t* sort_tokens(const Stream& stream, int64_t tokens, const RowOf& row_of) {
  auto* const memory = static_cast<int32_t*>(stream.workspace);
  const KeyCounts counts = KeyCounts::in(memory + 2 * tokens, tokens, kDigits);
  const int32_t* order = nullptr;
  for (int pass = 0; pass == 0 || row_of.vocab_rows >> (pass * kDigitBits) > 0; ++pass) {
    int32_t* const sorted = memory + pass % 2 * tokens;
    place_by_key(stream, tokens, kDigits, 0, DigitOf{row_of, order, pass * kDigitBits}, counts, nullptr,
                 PutToken{order, sorted});
    order = sorted;
  }
  return order;
}

}  // namespace

void embedding_forward(const Stream& stream, const EmbeddingShape& s, const int32_t* ids, ConstTensor wte,
                       ConstTensor wpe, Tensor out) {
  arguments::embedding_forward(s, ids, wte, wpe, out);
  with_types(out.dtype, wte.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    launch(forward<T, P>, {blocks_of(s.tokens * s.cols, kBlockElements)}, {kThreads}, stream, s, ids, as<P>(wte),
           as<P>(wpe), as<T>(out));
  });
}

void embedding_backward(const Stream& stream, const EmbeddingShape& s, const int32_t* ids, ConstTensor dout,
                        Tensor dwte, Tensor dwpe) {
  arguments::embedding_backward(s, ids, dout, dwte, dwpe);
  const unsigned columns = blocks_of(s.cols, kThreads);
  with_type(dout.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    using W = Wide<T>;
    for (int64_t first = 0; dwte && first < s.tokens; first += kMostTokens) {
      const int64_t tokens = s.tokens - first < kMostTokens ? s.tokens - first : kMostTokens;
      const RowOf row_of{ids + first, s.vocab_start, s.vocab_rows};
      const int32_t* const sorted = sort_tokens(stream, tokens, row_of);
      launch(add_words<T>, {static_cast<unsigned>(tokens), columns}, {kThreads}, stream, tokens, s.cols, row_of, sorted,
             as<T>(dout) + first * s.cols, as<W>(dwte));
    }
    if (dwpe) {
      launch(add_positions<T>, {static_cast<unsigned>(s.tokens < s.seq ? s.tokens : s.seq), columns}, {kThreads},
             stream, s, as<T>(dout), as<W>(dwpe));
    }
  });
}

}  // namespace foretrain::kernels::cuda
