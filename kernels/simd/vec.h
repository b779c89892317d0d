// Portable vectors: one width per build of this directory (16, 32 or 64 bytes: SSE2, AVX2, AVX-512), written with GCC
// vector extensions. Every .cpp here is compiled once per instruction set, into the namespace FORETRAIN_ISA; nothing
// of it may have external linkage outside that namespace, nor be an inline function shared with the rest of the
// program, or the linker could hand AVX-512 code to a processor without it.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/bf16.h"
#include "kernels/fp16.h"
#include "kernels/tensor.h"

namespace foretrain::kernels::FORETRAIN_ISA {

using std::int64_t;

#define FORETRAIN_INLINE [[gnu::always_inline]] inline

// The type of arithmetic of a stored type.
template <class T>
struct WideOf {
  using type = T;
};
template <>
struct WideOf<Bf16> {
  using type = float;
};
template <>
struct WideOf<Fp16> {
  using type = float;
};
template <class T>
using Wide = typename WideOf<T>::type;

template <class W>
struct VecOf;
template <>
struct VecOf<float> {
  typedef float type __attribute__((vector_size(FORETRAIN_VECTOR_BYTES)));
  typedef std::int32_t integer __attribute__((vector_size(FORETRAIN_VECTOR_BYTES)));
};
template <>
struct VecOf<double> {
  typedef double type __attribute__((vector_size(FORETRAIN_VECTOR_BYTES)));
  typedef std::int64_t integer __attribute__((vector_size(FORETRAIN_VECTOR_BYTES)));
};
template <class W>
using Vec = typename VecOf<W>::type;
template <class W>
using IntVec = typename VecOf<W>::integer;

typedef std::uint32_t UintVec __attribute__((vector_size(FORETRAIN_VECTOR_BYTES)));
typedef std::uint16_t HalfUintVec __attribute__((vector_size(FORETRAIN_VECTOR_BYTES / 2)));

// Lanes of a vector of the arithmetic type of T.
template <class T>
inline constexpr int kLanes = FORETRAIN_VECTOR_BYTES / sizeof(Wide<T>);

template <class To, class From>
FORETRAIN_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

template <class W>
FORETRAIN_INLINE Vec<W> broadcast(W x) {
  return x - Vec<W>{};
}

FORETRAIN_INLINE float widen(Bf16 x) {
  return bits_as<float>(static_cast<std::uint32_t>(x.bits) << 16);
}
// As float(Fp16).
FORETRAIN_INLINE float widen(Fp16 x) {
  const std::uint32_t a = x.bits & 0x7fffu;
  const auto subnormal = bits_as<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(a)) * 0x1p-24f);
  const std::uint32_t normal = (a << 13) + (a >= 0x7c00u ? 0x70000000u : 0x38000000u);
  return bits_as<float>((a < 0x400u ? subnormal : normal) | (static_cast<std::uint32_t>(x.bits & 0x8000u) << 16));
}
FORETRAIN_INLINE float widen(float x) {
  return x;
}
FORETRAIN_INLINE double widen(double x) {
  return x;
}

// ---- loads and stores, with conversion from and to the stored type ----

template <class W>
FORETRAIN_INLINE Vec<W> load(const W* p) {
  Vec<W> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
// GCC 12 takes five instructions for __builtin_convertvector where the processor has one: hence the intrinsics.
FORETRAIN_INLINE Vec<float> load(const Bf16* p) {
  if constexpr (FORETRAIN_VECTOR_BYTES == 64) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return bits_as<Vec<float>>(bits_as<UintVec>(_mm512_maskz_cvtepu16_epi32(0xffff, half)) << 16);
  } else if constexpr (FORETRAIN_VECTOR_BYTES == 32) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return bits_as<Vec<float>>(bits_as<UintVec>(_mm256_cvtepu16_epi32(half)) << 16);
  } else {
    HalfUintVec half;
    __builtin_memcpy(&half, p, sizeof(half));
    return bits_as<Vec<float>>(__builtin_convertvector(half, UintVec) << 16);
  }
}

// As float(Fp16), but for what is no number.
FORETRAIN_INLINE Vec<float> load(const Fp16* p) {
  if constexpr (FORETRAIN_VECTOR_BYTES == 64) {
    return bits_as<Vec<float>>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
  } else if constexpr (FORETRAIN_VECTOR_BYTES == 32) {
    return bits_as<Vec<float>>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  } else {
    HalfUintVec half;
    __builtin_memcpy(&half, p, sizeof(half));
    const UintVec bits = __builtin_convertvector(half, UintVec), a = bits & 0x7fffu;
    const Vec<float> whole = __builtin_convertvector(bits_as<IntVec<float>>(a), Vec<float>);
    const auto subnormal = bits_as<UintVec>(whole * 0x1p-24f);
    const UintVec bias = a >= 0x7c00u ? UintVec{} + 0x70000000u : UintVec{} + 0x38000000u;
    const UintVec magnitude = a < 0x400u ? subnormal : (a << 13) + bias;
    return bits_as<Vec<float>>(magnitude | (bits & 0x8000u) << 16);
  }
}

template <class W>
FORETRAIN_INLINE void store(W* p, Vec<W> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}
// Round to nearest, ties to even, as Fp16(float).
FORETRAIN_INLINE void store(Fp16* p, Vec<float> v) {
  if constexpr (FORETRAIN_VECTOR_BYTES == 64) {
    const __m256i half = _mm512_cvtps_ph(bits_as<__m512>(v), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), half);
  } else if constexpr (FORETRAIN_VECTOR_BYTES == 32) {
    const __m128i half = _mm256_cvtps_ph(bits_as<__m256>(v), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), half);
  } else {
    const auto u = bits_as<UintVec>(v);
    const UintVec a = u & 0x7fffffffu;
    const UintVec normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
    const UintVec subnormal = bits_as<UintVec>(bits_as<Vec<float>>(a) + 0.5f) - 0x3f000000u;
    const UintVec large = a > 0x7f800000u ? UintVec{} + 0x7e00u : UintVec{} + 0x7c00u;
    const UintVec small = a < 0x38800000u ? subnormal : normal;
    const UintVec bits = ((u >> 16) & 0x8000u) | (a >= 0x47800000u ? large : small);
    const auto half = __builtin_convertvector(bits, HalfUintVec);
    __builtin_memcpy(static_cast<void*>(p), &half, sizeof(half));
  }
}
// Round to nearest, ties to even, as Bf16(float).
FORETRAIN_INLINE void store(Bf16* p, Vec<float> v) {
  const auto u = bits_as<UintVec>(v);
  const UintVec rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const UintVec quiet = (u >> 16) | 0x40u;
  const UintVec bits = v == v ? rounded : quiet;
  if constexpr (FORETRAIN_VECTOR_BYTES == 32) {
    const auto whole = bits_as<__m256i>(bits);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(whole, whole), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  } else {
    const auto half = __builtin_convertvector(bits, HalfUintVec);
    __builtin_memcpy(static_cast<void*>(p), &half, sizeof(half));
  }
}

// AVX-512 has masks: no loop over the lanes of a partial vector.
inline constexpr bool kHasMasks = FORETRAIN_VECTOR_BYTES == 64;

// A bit for each of the first n lanes.
FORETRAIN_INLINE std::uint16_t first_lanes(int64_t n) {
  return static_cast<std::uint16_t>((1u << n) - 1);
}

// The first n < kLanes elements; the other lanes read as `rest` and are not written.
template <class T>
FORETRAIN_INLINE Vec<Wide<T>> load_partial(const T* p, int64_t n, Wide<T> rest = 0) {
  Vec<Wide<T>> v = broadcast<Wide<T>>(rest);
  if constexpr (kHasMasks && std::is_same_v<T, float>) {
    return bits_as<Vec<T>>(_mm512_mask_loadu_ps(bits_as<__m512>(v), first_lanes(n), p));
  } else if constexpr (kHasMasks && std::is_same_v<T, double>) {
    return bits_as<Vec<T>>(_mm512_mask_loadu_pd(bits_as<__m512d>(v), static_cast<__mmask8>(first_lanes(n)), p));
  } else if constexpr (kHasMasks && std::is_same_v<T, Fp16>) {
    const __m256i half = _mm256_maskz_loadu_epi16(first_lanes(n), p);
    return bits_as<Vec<float>>(_mm512_mask_cvtph_ps(bits_as<__m512>(v), first_lanes(n), half));
  } else if constexpr (kHasMasks) {
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), p));
    return bits_as<Vec<float>>(_mm512_mask_slli_epi32(bits_as<__m512i>(v), first_lanes(n), bits, 16));
  } else {
    for (int64_t i = 0; i < n; ++i) {
      v[i] = widen(p[i]);
    }
    return v;
  }
}
template <class T>
FORETRAIN_INLINE void store_partial(T* p, Vec<Wide<T>> v, int64_t n) {
  if constexpr (kHasMasks && std::is_same_v<T, float>) {
    _mm512_mask_storeu_ps(p, first_lanes(n), bits_as<__m512>(v));
  } else if constexpr (kHasMasks && std::is_same_v<T, double>) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first_lanes(n)), bits_as<__m512d>(v));
  } else {
    T whole[kLanes<T>];
    store(whole, v);
    for (int64_t i = 0; i < n; ++i) {
      p[i] = whole[i];
    }
  }
}
// v with 0 in the other lanes.
template <class V>
FORETRAIN_INLINE V only_first(int64_t n, V v) {
  if constexpr (kHasMasks && std::is_same_v<V, Vec<float>>) {
    return bits_as<V>(_mm512_maskz_mov_ps(first_lanes(n), bits_as<__m512>(v)));
  } else if constexpr (kHasMasks && std::is_same_v<V, Vec<double>>) {
    return bits_as<V>(_mm512_maskz_mov_pd(static_cast<__mmask8>(first_lanes(n)), bits_as<__m512d>(v)));
  } else {
    for (auto i = n; i < static_cast<int64_t>(sizeof(V) / sizeof(v[0])); ++i) {
      v[i] = 0;
    }
    return v;
  }
}

// How for_vectors hands its body a whole vector or the partial one at the end: load and store at a pointer (lanes past
// the end read as 0 and are not written), and only(v), which is v with 0 in the lanes past the end. One body for both,
// so an element's value never depends on where in a range it stands.
struct WholeAccess {
  template <class T>
  FORETRAIN_INLINE Vec<Wide<T>> load(const T* p) const {
    return FORETRAIN_ISA::load(p);
  }
  template <class T>
  FORETRAIN_INLINE void store(T* p, Vec<Wide<T>> v) const {
    FORETRAIN_ISA::store(p, v);
  }
  template <class V>
  FORETRAIN_INLINE V only(V v) const {
    return v;
  }
};
struct PartialAccess {
  int64_t n;
  template <class T>
  FORETRAIN_INLINE Vec<Wide<T>> load(const T* p) const {
    return load_partial(p, n);
  }
  template <class T>
  FORETRAIN_INLINE void store(T* p, Vec<Wide<T>> v) const {
    store_partial(p, v, n);
  }
  template <class V>
  FORETRAIN_INLINE V only(V v) const {
    return only_first(n, v);
  }
};
// Calls f(offset, access) for every vector of n elements.
template <class W, class F>
FORETRAIN_INLINE void for_vectors(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes<W> <= n; i += kLanes<W>) {
    f(i, WholeAccess{});
  }
  if (i < n) {
    f(i, PartialAccess{n - i});
  }
}

// ---- reductions, in a fixed order ----

// Folds a vector in halves: lane i with lane i + half, until one is left.
template <class V, class F, int... I>
FORETRAIN_INLINE auto fold(V v, F f, std::integer_sequence<int, I...>) {
  constexpr int half = sizeof...(I);
  const auto folded = f(__builtin_shufflevector(v, v, I...), __builtin_shufflevector(v, v, (I + half)...));
  if constexpr (half == 1) {
    return folded[0];
  } else {
    return fold(folded, f, std::make_integer_sequence<int, half / 2>{});
  }
}
template <class V, class F>
FORETRAIN_INLINE auto fold(V v, F f) {
  return fold(v, f, std::make_integer_sequence<int, static_cast<int>(sizeof(V) / sizeof(v[0])) / 2>{});
}

template <class V>
FORETRAIN_INLINE V max(V a, V b) {
  return a > b ? a : b;
}

template <class V>
FORETRAIN_INLINE auto horizontal_sum(V v) {
  return fold(v, [](auto a, auto b) { return a + b; });
}
template <class V>
FORETRAIN_INLINE auto horizontal_max(V v) {
  return fold(v, [](auto a, auto b) { return max(a, b); });
}

// Sums f(offset, access) over n elements; four partial sums, so that additions overlap. f gives 0 in lanes past the
// end.
template <class W, class F>
FORETRAIN_INLINE W sum_vectors(int64_t n, F f) {
  constexpr int64_t lanes = kLanes<W>;
  Vec<W> s0{}, s1{}, s2{}, s3{};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 += f(i, WholeAccess{});
    s1 += f(i + lanes, WholeAccess{});
    s2 += f(i + 2 * lanes, WholeAccess{});
    s3 += f(i + 3 * lanes, WholeAccess{});
  }
  for (; i + lanes <= n; i += lanes) {
    s0 += f(i, WholeAccess{});
  }
  if (i < n) {
    s0 += f(i, PartialAccess{n - i});
  }
  return horizontal_sum((s0 + s1) + (s2 + s3));
}

// ---- functions ----

// x = n ln2 + r with |r| <= ln2/2; exp(r) = 1 + r + r^2 q(r), q of degree 4 by the Remez algorithm (relative error
// 3e-9), evaluated in pairs, since the processor waits for the chain, not for the count; 2^n by exponent. Error about 1
// ulp. Below the smallest normal number (x < -87.34) the result is 0; from 2^127.5 on (x > 88.37) it is infinity.
FORETRAIN_INLINE Vec<float> exp(Vec<float> x) {
  constexpr float kRound = 12582912.0f;   // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
  constexpr float kLowest = -87.336544f;  // ln of the smallest normal number
  constexpr float kHighest = 89.0f;       // n = 128, whose exponent bits are those of infinity
  const Vec<float> clamped = kHighest < x ? broadcast(kHighest) : x;
  const Vec<float> shifted = clamped * 1.44269504f + kRound;
  const Vec<float> n = shifted - kRound;
  const Vec<float> r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  const Vec<float> square = r * r;
  const Vec<float> low = r * 0.16666520399f + 0.49999993432f;
  const Vec<float> high = square * 0.00138145402f + (r * 0.00836874511f + 0.04166839078f);
  const Vec<float> p = square * (square * high + low) + (r + 1.0f);
  const auto power = bits_as<Vec<float>>((bits_as<UintVec>(shifted) << 23) + std::bit_cast<std::uint32_t>(1.0f));
  const auto below = bits_as<IntVec<float>>(x < kLowest);
  return bits_as<Vec<float>>(bits_as<IntVec<float>>(p * power) & ~below);
}

template <class V>
FORETRAIN_INLINE V sqrt(V v) {
  constexpr int lanes = sizeof(V) / sizeof(v[0]);
  decltype(v[0] + v[0]) lane[lanes];
  __builtin_memcpy(lane, &v, sizeof(v));
  for (int i = 0; i < lanes; ++i) {
    lane[i] = std::sqrt(lane[i]);
  }
  __builtin_memcpy(&v, lane, sizeof(v));
  return v;
}

FORETRAIN_INLINE Vec<double> exp(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) {
    x[i] = ::exp(x[i]);
  }
  return x;
}

// ---- element types at run time ----

template <class T>
struct Type {
  using type = T;
};

// Calls f(Type<T>{}) with the stored type; the launcher has checked that it is one of the four.
template <class F>
FORETRAIN_INLINE void with_type(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::fp64: f(Type<double>{}); break;
    case Dtype::fp32: f(Type<float>{}); break;
    case Dtype::fp16: f(Type<Fp16>{}); break;
    default: f(Type<Bf16>{}); break;
  }
}

// Calls f(Type<T>{}, Type<P>{}): an op's element type and that of its parameters, T or wide(T).
template <class F>
FORETRAIN_INLINE void with_types(Dtype dtype, Dtype parameter, F f) {
  switch (dtype) {
    case Dtype::fp64: f(Type<double>{}, Type<double>{}); break;
    case Dtype::fp32: f(Type<float>{}, Type<float>{}); break;
    case Dtype::fp16:
      if (parameter == Dtype::fp16) {
        f(Type<Fp16>{}, Type<Fp16>{});
      } else {
        f(Type<Fp16>{}, Type<float>{});
      }
      break;
    default:
      if (parameter == Dtype::bf16) {
        f(Type<Bf16>{}, Type<Bf16>{});
      } else {
        f(Type<Bf16>{}, Type<float>{});
      }
      break;
  }
}

// Calls f(Type<T>{}) with the stored type of an operand whose arithmetic type is known to be W.
template <class W, class F>
FORETRAIN_INLINE void with_stored(Dtype d, F f) {
  if constexpr (std::is_same_v<W, double>) {
    f(Type<double>{});
  } else if (d == Dtype::bf16) {
    f(Type<Bf16>{});
  } else if (d == Dtype::fp16) {
    f(Type<Fp16>{});
  } else {
    f(Type<float>{});
  }
}

template <class T>
FORETRAIN_INLINE const T* as(ConstTensor t) {
  return static_cast<const T*>(t.data);
}
template <class T>
FORETRAIN_INLINE T* as(Tensor t) {
  return static_cast<T*>(t.data);
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
