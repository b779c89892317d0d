// Initial values by vectors of double. This file is compiled without contraction to fused multiply-add: additions,
// products, quotients and roots are then the same on every processor, and so are the weights that replicas on unlike
// machines start from.
#include "kernels/simd/declare.h"
#include "kernels/simd/vec.h"

namespace foretrain::kernels::FORETRAIN_ISA {

namespace {

constexpr int kPairs = 32;  // of elements, drawn together

// Philox4x32-10 (philox.h) for the counters first, first + 1, …: the two uniforms of each.
struct UniformPairs {
  double first[kPairs];
  double second[kPairs];
};

// 52 random bits as a number in [0, 1): as the fraction of a number in [1, 2).
FORETRAIN_INLINE double to_unit(std::uint32_t low, std::uint32_t high) {
  const std::uint64_t fraction = (std::uint64_t{high} << 32 | low) >> 12;
  return bits_as<double>(fraction | 0x3ff0000000000000u) - 1.0;
}

UniformPairs draw(std::uint64_t seed, std::uint64_t tensor, std::uint64_t first) {
  std::uint32_t x[4][kPairs];
  for (int i = 0; i < kPairs; ++i) {
    const std::uint64_t counter = first + static_cast<std::uint64_t>(i);
    x[0][i] = static_cast<std::uint32_t>(counter);
    x[1][i] = static_cast<std::uint32_t>(counter >> 32);
    x[2][i] = static_cast<std::uint32_t>(tensor);
    x[3][i] = static_cast<std::uint32_t>(tensor >> 32);
  }
  auto k0 = static_cast<std::uint32_t>(seed);
  auto k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kPairs; ++i) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * x[0][i];
      const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * x[2][i];
      x[0][i] = static_cast<std::uint32_t>(p1 >> 32) ^ x[1][i] ^ k0;
      x[1][i] = static_cast<std::uint32_t>(p1);
      x[2][i] = static_cast<std::uint32_t>(p0 >> 32) ^ x[3][i] ^ k1;
      x[3][i] = static_cast<std::uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  UniformPairs u;
  for (int i = 0; i < kPairs; ++i) {
    u.first[i] = to_unit(x[0][i], x[1][i]);
    u.second[i] = to_unit(x[2][i], x[3][i]);
  }
  return u;
}

using VecD = Vec<double>;
typedef std::uint64_t UintVec64 __attribute__((vector_size(FORETRAIN_VECTOR_BYTES)));

// ln x for x in (0, 1]: x = 2^e m with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh(s) with s = (m - 1) / (m + 1). The
// series of atanh to s^21; |s| <= 0.172 leaves 1e-18.
FORETRAIN_INLINE VecD log(VecD x) {
  constexpr std::int64_t kRootHalf = 0x3fe6a09e667f3bcd;  // sqrt(1/2)
  const auto shifted = bits_as<IntVec<double>>(x) - kRootHalf;
  const auto e = shifted & ~std::int64_t{0xfffffffffffff};  // the exponent, in place
  const auto m = bits_as<VecD>(bits_as<IntVec<double>>(x) - e);
  // To double: the exponent as the low bits of 1.5 * 2^52 + e. Arithmetic shift by 52, spelled without a 64-bit one.
  constexpr double kRound = 6755399441055744.0;
  const auto biased = bits_as<UintVec64>(e + (std::int64_t{1024} << 52)) >> 52;
  const auto exponent =
      bits_as<VecD>(biased + static_cast<std::uint64_t>(bits_as<std::int64_t>(kRound))) - (kRound + 1024);
  const VecD s = (m - 1) / (m + 1);
  const VecD z = s * s;
  VecD p = z * (1.0 / 21) + 1.0 / 19;
  p = p * z + 1.0 / 17;
  p = p * z + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  constexpr double kLn2 = 0.69314718055994530942;
  return exponent * kLn2 + 2 * (s + s * z * p);
}

struct CosSin {
  VecD cos, sin;
};

// cos and sin of 2 pi u, u in [0, 1): of the rest r in [-pi/4, pi/4] by Taylor series, turned by whole quarters.
FORETRAIN_INLINE CosSin turn(VecD u) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  const VecD shifted = u * 4 + kRound;
  const VecD r = (u * 4 - (shifted - kRound)) * 1.57079632679489661923;
  const VecD z = r * r;
  VecD s = z * (1.0 / 355687428096000) - 1.0 / 1307674368000;
  s = s * z + 1.0 / 6227020800;
  s = s * z - 1.0 / 39916800;
  s = s * z + 1.0 / 362880;
  s = s * z - 1.0 / 5040;
  s = s * z + 1.0 / 120;
  s = s * z - 1.0 / 6;
  s = s * z * r + r;
  VecD c = z * (1.0 / 20922789888000) - 1.0 / 87178291200;
  c = c * z + 1.0 / 479001600;
  c = c * z - 1.0 / 3628800;
  c = c * z + 1.0 / 40320;
  c = c * z - 1.0 / 720;
  c = c * z + 1.0 / 24;
  c = c * z - 0.5;
  c = c * z + 1;
  const auto quarter = bits_as<IntVec<double>>(shifted) & 3;
  const auto odd = (quarter & 1) != 0;
  const VecD cos = odd ? s : c;
  const VecD sin = odd ? c : s;
  return {((quarter == 1) | (quarter == 2)) != 0 ? -cos : cos, quarter >= 2 ? -sin : sin};
}

template <class T>
FORETRAIN_INLINE void put(T* p, double x) {
  if constexpr (std::is_same_v<T, Bf16>) {
    const auto u = bits_as<std::uint32_t>(static_cast<float>(x));
    p->bits = static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  } else if constexpr (std::is_same_v<T, Fp16>) {
    store_partial(p, broadcast(static_cast<float>(x)), 1);
  } else {
    *p = static_cast<T>(x);
  }
}

// Turns pairs of uniforms into pairs of values by `transform` and stores those of each row. Element e has the first
// value of pair e / 2 when even, the second when odd.
template <class T, class F>
void fill_rows(const InitShape& s, T* x, F transform) {
  for (int64_t r = 0; r < s.rows; ++r) {
    const int64_t first = (s.row_offset + r) * s.global_cols + s.col_offset;
    const int64_t last = first + s.cols;
    T* row = x + r * s.cols;
    for (int64_t pair = first / 2; 2 * pair < last; pair += kPairs) {
      UniformPairs u = draw(s.seed, s.tensor, static_cast<std::uint64_t>(pair));
      transform(u);
      for (int64_t i = 0; i < kPairs; ++i) {
        const int64_t at = 2 * (pair + i) - first;
        if (at >= 0 && at < s.cols) {
          put(row + at, u.first[i]);
        }
        if (at + 1 >= 0 && at + 1 < s.cols) {
          put(row + at + 1, u.second[i]);
        }
      }
    }
  }
}

}  // namespace

void init_normal(const InitShape& s, double standard_deviation, Tensor x) {
  const auto box_muller = [&](UniformPairs& u) {
    for (int i = 0; i < kPairs; i += kLanes<double>) {
      const VecD radius = sqrt(-2 * log(1 - load(u.first + i))) * standard_deviation;
      const CosSin direction = turn(load(u.second + i));
      store(u.first + i, radius * direction.cos);
      store(u.second + i, radius * direction.sin);
    }
  };
  with_type(x.dtype, [&](auto t) { fill_rows(s, as<typename decltype(t)::type>(x), box_muller); });
}

void init_uniform(const InitShape& s, double low, double high, Tensor x) {
  const auto scale = [&](UniformPairs& u) {
    for (int i = 0; i < kPairs; i += kLanes<double>) {
      store(u.first + i, low + (high - low) * load(u.first + i));
      store(u.second + i, low + (high - low) * load(u.second + i));
    }
  };
  with_type(x.dtype, [&](auto t) { fill_rows(s, as<typename decltype(t)::type>(x), scale); });
}

}  // namespace foretrain::kernels::FORETRAIN_ISA
