#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

template <class T, class P>
void forward(const EmbeddingShape& s, const std::int32_t* ids, const P* wte, const P* wpe, T* out) {
  using W = Wide<T>;
  for (int64_t t = 0; t < s.tokens; ++t) {
    const int64_t row = ids[t] - s.vocab_start;
    const P* word = row >= 0 && row < s.vocab_rows ? wte + row * s.cols : nullptr;
    const P* position = wpe != nullptr ? wpe + (s.position_offset + t % s.seq) * s.cols : nullptr;
    for_vectors<W>(s.cols, [&](int64_t i, auto access) {
      const Vec<W> a = word != nullptr ? access.load(word + i) : Vec<W>{};
      const Vec<W> b = position != nullptr ? access.load(position + i) : Vec<W>{};
      access.store(out + t * s.cols + i, a + b);
    });
  }
}

template <class T>
void add_row(int64_t cols, const T* src, Wide<T>* dst) {
  for_vectors<Wide<T>>(
      cols, [&](int64_t i, auto access) { access.store(dst + i, access.load(dst + i) + access.load(src + i)); });
}

template <class T>
void backward(const EmbeddingShape& s, const std::int32_t* ids, const T* dout, Wide<T>* dwte, Wide<T>* dwpe) {
  for (int64_t t = 0; t < s.tokens; ++t) {
    const int64_t row = ids[t] - s.vocab_start;
    if (dwte != nullptr && row >= 0 && row < s.vocab_rows) {
      add_row(s.cols, dout + t * s.cols, dwte + row * s.cols);
    }
    if (dwpe != nullptr) {
      add_row(s.cols, dout + t * s.cols, dwpe + (s.position_offset + t % s.seq) * s.cols);
    }
  }
}

}  // namespace

void embedding_forward(const EmbeddingShape& s, const std::int32_t* ids, ConstTensor wte, ConstTensor wpe, Tensor out) {
  with_types(out.dtype, wte.dtype, [&](auto t, auto p) {
    using T = typename decltype(t)::type;
    using P = typename decltype(p)::type;
    forward<T, P>(s, ids, as<P>(wte), as<P>(wpe), as<T>(out));
  });
}

void embedding_backward(const EmbeddingShape& s, const std::int32_t* ids, ConstTensor dout, Tensor dwte, Tensor dwpe) {
  with_type(dout.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    backward<T>(s, ids, as<T>(dout), as<Wide<T>>(dwte), as<Wide<T>>(dwpe));
  });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
