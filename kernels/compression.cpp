// Plain loops: what counts is the memory that they go through.
#include "kernels/compression.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

#include "base/error.h"
#include "kernels/arguments.h"
#include "kernels/bf16.h"
#include "kernels/fp16.h"
#include "kernels/scratch.h"

namespace foretrain::kernels {

namespace {

using std::int64_t;

template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Adding it rounds to an integer.
template <class W>
constexpr W kRound = sizeof(W) == 8 ? 0x1.8p52 : 0x1.8p23;

// The magnitude as an integer of the same order, which that of a NaN is the end of.
template <class W>
auto rank_of(W x) {
  using I = std::conditional_t<sizeof(W) == 8, std::int64_t, std::int32_t>;
  return std::bit_cast<I>(std::abs(x));
}

// By ranks: the compiler makes vectors of integers, and a NaN comes out as one.
template <class W>
W scale_of(const W* v, int64_t n) {
  auto largest = rank_of(W{});
  for (int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, rank_of(v[i]));
  }
  return std::bit_cast<W>(largest) / 127;
}

template <class T, class W>
void add(const T* x, int64_t n, W* residual) {
  for (int64_t i = 0; i < n; ++i) {
    residual[i] += static_cast<W>(x[i]);
  }
}

// Bytes may be anything's: the compiler is told that these are nobody else's.
template <class W>
void encode_block(W scale, int64_t n, W* __restrict v, std::int8_t* __restrict multiples) {
  const W inverse = scale > 0 ? 1 / scale : 0;
  for (int64_t i = 0; i < n; ++i) {
    const W exact = v[i] * inverse, least = exact > -127 ? exact : -127;
    const W multiple = ((least < 127 ? least : 127) + kRound<W>)-kRound<W>;
    multiples[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(multiple));
    v[i] -= scale * multiple;
  }
}

template <class T, class W>
void encode_int8(const Code& code, const T* x, W* v, const CodeArrays<W, std::byte>& out) {
  for (int64_t block = 0; block < code.blocks(); ++block) {
    const int64_t begin = block * Code::kBlock, size = std::min(Code::kBlock, code.elements - begin);
    add(x + begin, size, v + begin);
    out.wide[block] = scale_of(v + begin, size);
    encode_block(out.wide[block], size, v + begin, out.multiples + begin);
  }
}

// The kept-th largest rank, digit by digit from the top; and how many of that rank are kept.
template <class W>
auto smallest_kept(const Code& code, const W* v, int64_t* equal) {
  using U = std::make_unsigned_t<decltype(rank_of(W{}))>;
  constexpr int kDigit = 16, kDigits = 1 << kDigit;
  auto* const count = static_cast<int64_t*>(scratch(Scratch::op, kDigits * sizeof(int64_t)));
  const int64_t n = code.elements;
  U prefix = 0;
  int64_t left = code.kept;
  for (int shift = 8 * static_cast<int>(sizeof(U)) - kDigit; shift >= 0; shift -= kDigit) {
    std::fill(count, count + kDigits, 0);
    for (int64_t i = 0; i < n; ++i) {
      const U rank = static_cast<U>(rank_of(v[i]));
      // Twice, as a shift by all bits has no meaning.
      if ((rank >> shift >> (kDigit - 1) >> 1) == prefix) {
        ++count[(rank >> shift) % kDigits];
      }
    }
    U digit = kDigits - 1;
    for (; left > count[digit]; --digit) {
      left -= count[digit];
    }
    prefix = static_cast<U>(prefix << (kDigit - 1) << 1) | digit;
  }
  *equal = left;
  return prefix;
}

template <class W>
void encode_top_k(const Code& code, W* v, const CodeArrays<W, std::byte>& out) {
  if (code.kept == 0) {
    return;
  }
  int64_t equal = 0;
  const auto smallest = smallest_kept(code, v, &equal);
  int64_t above = 0, among = code.kept - equal;
  for (int64_t i = 0; i < code.elements; ++i) {
    const auto rank = static_cast<decltype(smallest)>(rank_of(v[i]));
    if (rank < smallest || (rank == smallest && among == code.kept)) {
      continue;
    }
    const int64_t at = rank > smallest ? above++ : among++;
    out.wide[at] = v[i];
    out.places[at] = static_cast<std::uint32_t>(i);
    v[i] = 0;
  }
}

template <class T, class W>
void encode_typed(const Code& code, const T* x, W* residual, std::byte* coded) {
  const CodeArrays<W, std::byte> out(code, coded);
  if (code.kind == Coding::int8) {
    encode_int8(code, x, residual, out);
  } else {
    add(x, code.elements, residual);
    encode_top_k(code, residual, out);
  }
}

template <class T, class W>
void decode_int8(const Code& code, int64_t parts, const std::byte* coded, T* x) {
  W sum[Code::kBlock];
  for (int64_t block = 0; block < code.blocks(); ++block) {
    const int64_t begin = block * Code::kBlock, size = std::min(Code::kBlock, code.elements - begin);
    std::fill(sum, sum + size, W{0});
    for (int64_t part = 0; part < parts; ++part) {
      const CodeArrays<W, const std::byte> in(code, coded + part * code.bytes());
      const W scale = in.wide[block];
      for (int64_t i = 0; i < size; ++i) {
        sum[i] += scale * static_cast<W>(in.multiples[begin + i]);
      }
    }
    std::transform(sum, sum + size, x + begin, [](W value) { return static_cast<T>(value); });
  }
}

template <class T, class W>
void decode_top_k(const Code& code, int64_t parts, const std::byte* coded, T* x) {
  std::fill(x, x + code.elements, T(W{0}));
  for (int64_t part = 0; part < parts; ++part) {
    const CodeArrays<W, const std::byte> in(code, coded + part * code.bytes());
    for (int64_t k = 0; k < code.kept; ++k) {
      T& to = x[in.places[k]];
      to = static_cast<T>(static_cast<W>(to) + in.wide[k]);
    }
  }
}

template <class F>
void with_element(Dtype d, F f) {
  switch (d) {
    case Dtype::fp64: f(double{}); break;
    case Dtype::fp32: f(float{}); break;
    case Dtype::fp16: f(Fp16{}); break;
    default: f(Bf16{}); break;
  }
}

}  // namespace

void encode(const Code& code, ConstTensor x, Tensor residual, void* coded) {
  arguments::encode(code, x, residual, coded);
  with_element(x.dtype, [&](auto t) {
    using T = decltype(t);
    encode_typed(code, static_cast<const T*>(x.data), static_cast<Wide<T>*>(residual.data),
                 static_cast<std::byte*>(coded));
  });
}

void decode(const Code& code, int64_t parts, const void* coded, Tensor x) {
  arguments::decode(code, parts, coded, x);
  const auto* const bytes = static_cast<const std::byte*>(coded);
  with_element(x.dtype, [&](auto t) {
    using T = decltype(t);
    auto* const out = static_cast<T*>(x.data);
    code.kind == Coding::int8 ? decode_int8<T, Wide<T>>(code, parts, bytes, out)
                              : decode_top_k<T, Wide<T>>(code, parts, bytes, out);
  });
}

}  // namespace foretrain::kernels
