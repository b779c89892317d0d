#include "kernels/fp16.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

struct Case {
  std::uint32_t fp32;
  std::uint16_t fp16;
};

// 1.0 is 0x3f800000; the last bit kept is 0x2000, so 0x1000 is exactly half of it. Below 2^-14 all are multiples of
// 2^-24.
const std::vector<Case> kCases = {
    {0x00000000, 0x0000},                        // 0
    {0x80000000, 0x8000},                        // -0
    {0x3f800000, 0x3c00},                        // 1
    {0x3f800fff, 0x3c00},                        // just below half: down
    {0x3f801000, 0x3c00},                        // half, kept bit even: down
    {0x3f801001, 0x3c01},                        // just above half: up
    {0x3f803000, 0x3c02}, {0xbf803000, 0xbc02},  // half, kept bit odd: up to even; symmetric in sign
    {0x3fffffff, 0x4000},                        // carry into the exponent: 2
    {0x477fefff, 0x7bff},                        // 65504, the largest finite value, and a little
    {0x477ff000, 0x7c00},                        // half a unit above it: infinity
    {0x7f800000, 0x7c00}, {0xff800000, 0xfc00},  // infinity
    {0x38800000, 0x0400},                        // 2^-14, the smallest normal value
    {0x387fc000, 0x03ff},                        // 1023 x 2^-24, the largest below
    {0x387fe000, 0x0400},                        // half between the two: to even
    {0x33800000, 0x0001}, {0xb3800000, 0x8001},  // 2^-24, the smallest
    {0x33000000, 0x0000},                        // half of it: to even
    {0x33000001, 0x0001}, {0x33c00000, 0x0002},  // above half; 1.5 of it: to even
    {0x00000001, 0x0000}, {0x807fffff, 0x8000},  // denormals of fp32
    {0x7fc00000, 0x7e00}, {0x7f800001, 0x7e00},  // a NaN whose payload would be cut off stays a NaN
};

bool is_nan(Fp16 x) {
  return (x.bits & 0x7fff) > 0x7c00;
}

// What it stands for, by its definition.
double value_of(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1f, fraction = bits & 0x3ff;
  const double magnitude = exponent == 0x1f ? (fraction == 0 ? std::numeric_limits<double>::infinity() : std::nan(""))
                           : exponent == 0  ? std::ldexp(fraction, -24)
                                            : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// As in the threads of a run's ranks: denormals of fp32 count as zero, read and written.
template <class F>
void with_flushed_denormals(F f) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | _MM_FLUSH_ZERO_ON | 0x0040u);
  f();
  _mm_setcsr(before);
}

TEST(Fp16, RoundsToNearestEven) {
  for (const Case& c : kCases) {
    EXPECT_EQ(Fp16(std::bit_cast<float>(c.fp32)).bits, c.fp16) << std::hex << c.fp32;
  }
}

// All 65536 of them go to fp32 and come back; and rounding is to the nearest, of two the even one.
TEST(Fp16, RoundsToTheNearest) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    Fp16 h;
    h.bits = static_cast<std::uint16_t>(bits);
    const auto x = static_cast<float>(h);
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(Fp16(x))));
      continue;
    }
    EXPECT_EQ(Fp16(x).bits, h.bits);
    if ((bits & 0x7fff) >= 0x7c00) {
      continue;
    }
    Fp16 next = h;
    ++next.bits;
    const float beyond = (bits & 0x7fff) == 0x7bff ? std::copysign(65536.0F, x) : static_cast<float>(next);
    const float middle = x + (beyond - x) / 2;
    EXPECT_EQ(Fp16(middle).bits, bits % 2 == 0 ? h.bits : next.bits) << bits;
    EXPECT_EQ(Fp16(std::nextafter(middle, x)).bits, h.bits) << bits;
  }
}

// 2048 + 1 is no fp16, 2048 + 1 + 1 is: sums are rounded once.
TEST(Fp16, SumsAreRoundedOnce) {
  const auto half = [](float x) { return std::vector<Fp16>(1500, Fp16(x)); };
  const std::vector<Fp16> large = half(2048), one = half(1);
  std::vector<Fp16> out = half(0), copy = half(0);
  const auto tensor = [](const auto& v) { return ConstTensor{v.data(), Dtype::fp16}; };
  const std::vector<ConstTensor> sources{tensor(large), tensor(one), tensor(one)};
  const std::vector<Tensor> copies{{copy.data(), Dtype::fp16}};
  sum_in_order(sources, {out.data(), Dtype::fp16}, copies, 1500);
  for (const std::vector<Fp16>& sum : {out, copy}) {
    EXPECT_TRUE(std::all_of(sum.begin(), sum.end(), [](Fp16 x) { return static_cast<float>(x) == 2050.0F; }));
  }
}

// Whole vectors and every tail; where denormals of fp32 count as zero, those of fp16, which are normal there, do not.
TEST(Fp16, VectorConversionIsTheScalarOne) {
  std::vector<float> x;
  for (const Case& c : kCases) {
    x.push_back(std::bit_cast<float>(c.fp32));
  }
  std::mt19937 generator(1);
  for (int i = 0; i < 5000; ++i) {
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(generator())));
    x.push_back(std::ldexp(1 + static_cast<float>(generator() % 4096) / 4096, static_cast<int>(generator() % 40) - 26));
  }
  std::vector<Fp16> expected(x.size());
  std::transform(x.begin(), x.end(), expected.begin(), [](float value) { return Fp16(value); });
  const auto expect_narrowed = [&](std::size_t first, std::size_t n, const std::string& what) {
    std::vector<Fp16> y(n);
    cast({x.data() + first, Dtype::fp32}, {y.data(), Dtype::fp16}, static_cast<std::int64_t>(n));
    for (std::size_t i = 0; i < n; ++i) {
      const Fp16 e = expected[first + i];
      EXPECT_TRUE(y[i].bits == e.bits || (is_nan(y[i]) && is_nan(e))) << what << " " << x[first + i];
      const Fp16 alone(x[first + i]);
      EXPECT_EQ(alone.bits, e.bits) << what << " " << x[first + i];
    }
  };
  const auto expect_all = [&](const std::string& what) {
    expect_narrowed(0, x.size(), what);
    for (std::size_t n = 0; n <= kCases.size(); ++n) {
      expect_narrowed(kCases.size() - n, n, what);
    }
  };
  for_instruction_sets([&](const std::string& isa) {
    expect_all(isa);
    with_flushed_denormals([&] { expect_all(isa + ", denormals flushed"); });
  });
}

TEST(Fp16, EveryValueWidens) {
  std::vector<Fp16> all(0x10000);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].bits = static_cast<std::uint16_t>(i);
  }
  const auto expect_widened = [&](std::size_t first, std::size_t n, const std::string& what) {
    std::vector<float> x(n);
    std::vector<double> wide(n);
    const ConstTensor from{all.data() + first, Dtype::fp16};
    cast(from, {x.data(), Dtype::fp32}, static_cast<std::int64_t>(n));
    cast(from, {wide.data(), Dtype::fp64}, static_cast<std::int64_t>(n));
    for (std::size_t i = 0; i < n; ++i) {
      const double e = value_of(all[first + i].bits);
      for (const double value : {static_cast<double>(x[i]), wide[i], static_cast<double>(float(all[first + i]))}) {
        EXPECT_TRUE(std::isnan(e) ? std::isnan(value) : value == e && std::signbit(value) == std::signbit(e))
            << what << " " << first + i << ": " << value;
      }
    }
  };
  const auto expect_all = [&](const std::string& what) {
    expect_widened(0, all.size(), what);
    for (std::size_t n = 1; n < 32; ++n) {
      expect_widened(n, n, what);  // 2^-24 and the next
    }
  };
  for_instruction_sets([&](const std::string& isa) {
    expect_all(isa);
    with_flushed_denormals([&] { expect_all(isa + ", denormals flushed"); });
  });
}

// Sums of the smallest values, of 16 bits in 16 and in 32.
TEST(Fp16, SubnormalsAddUpWhereDenormalsAreFlushed) {
  for_instruction_sets([](const std::string& isa) {
    with_flushed_denormals([&] {
      for (const std::size_t n : {1U, 7U, 16U, 37U}) {
        Values sum(Dtype::fp16, std::vector<double>(n, std::ldexp(3, -24))), wide(Dtype::fp32, n);
        const Values one(Dtype::fp16, std::vector<double>(n, std::ldexp(1, -24)));
        add(one.tensor(), sum.tensor(), static_cast<std::int64_t>(n));
        add(one.tensor(), wide.tensor(), static_cast<std::int64_t>(n));
        EXPECT_EQ(sum.doubles(), std::vector<double>(n, std::ldexp(1, -22))) << isa;
        EXPECT_EQ(wide.doubles(), std::vector<double>(n, std::ldexp(1, -24))) << isa;
        const std::vector<ConstTensor> sources{one.tensor(), sum.tensor(), one.tensor()};
        sum_in_order(sources, sum.tensor(), {}, static_cast<std::int64_t>(n));
        EXPECT_EQ(sum.doubles(), std::vector<double>(n, std::ldexp(6, -24))) << isa;
      }
    });
  });
}

}  // namespace
}  // namespace foretrain::kernels
