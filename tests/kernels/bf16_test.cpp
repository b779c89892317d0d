#include "kernels/bf16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

struct Case {
  std::uint32_t fp32;
  std::uint16_t bf16;
};

// 1.0 is 0x3f800000; the last bit kept is 0x10000, so 0x8000 is exactly half of it.
const std::vector<Case> kCases = {
    {0x00000000, 0x0000},                        // 0
    {0x80000000, 0x8000},                        // -0
    {0x3f800000, 0x3f80},                        // 1
    {0x3f807fff, 0x3f80},                        // just below half: down
    {0x3f808000, 0x3f80},                        // half, kept bit even: down
    {0x3f808001, 0x3f81},                        // just above half: up
    {0x3f818000, 0x3f82},                        // half, kept bit odd: up to even
    {0x3f817fff, 0x3f81}, {0xbf818000, 0xbf82},  // symmetric in sign
    {0x3fffffff, 0x4000},                        // carry into the exponent: 2
    {0x7f7f7fff, 0x7f7f},                        // the largest finite value of bf16, and a little
    {0x7f7f8000, 0x7f80},                        // half a unit above it: infinity
    {0x7f800000, 0x7f80},                        // infinity
    {0xff800000, 0xff80}, {0x00000001, 0x0000},  // smallest denormal: 0
    {0x00008000, 0x0000},                        // half of bf16's smallest denormal, tie to even
    {0x00008001, 0x0001}, {0x7fc00000, 0x7fc0},  // quiet NaN
    {0x7f800001, 0x7fc0},                        // a NaN whose payload would round away stays a NaN
};

TEST(Bf16, RoundsToNearestEven) {
  for (const Case& c : kCases) {
    EXPECT_EQ(Bf16(std::bit_cast<float>(c.fp32)).bits, c.bf16) << std::hex << c.fp32;
  }
}

TEST(Bf16, VectorConversionIsTheScalarOne) {
  for_instruction_sets([](const std::string& isa) {
    std::vector<float> x;
    for (int repeat = 0; repeat < 5; ++repeat) {  // whole vectors and a tail
      for (const Case& c : kCases) {
        x.push_back(std::bit_cast<float>(c.fp32));
      }
    }
    std::mt19937 generator(1);
    for (int i = 0; i < 5000; ++i) {
      x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(generator())));
    }
    std::vector<Bf16> y(x.size());
    const auto n = static_cast<std::int64_t>(x.size());
    cast({x.data(), Dtype::fp32}, {y.data(), Dtype::bf16}, n);
    std::vector<float> back(x.size());
    cast({y.data(), Dtype::bf16}, {back.data(), Dtype::fp32}, n);
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(y[i].bits, Bf16(x[i]).bits) << isa << " " << x[i];
      EXPECT_EQ(std::bit_cast<std::uint32_t>(back[i]), std::uint32_t{y[i].bits} << 16) << isa;
    }
  });
}

TEST(Bf16, EveryValueSurvivesWideningAndRounding) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    Bf16 x;
    x.bits = static_cast<std::uint16_t>(bits);
    const auto f = static_cast<float>(x);
    if (!std::isnan(f)) {
      EXPECT_EQ(Bf16(f).bits, x.bits);
    }
  }
}

}  // namespace
}  // namespace foretrain::kernels
