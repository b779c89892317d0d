#include "kernels/rounding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

float after(float x, std::uint32_t bits) {
  return static_cast<float>(rounded(x, bits));
}

// 1 + 2^-12 is 1/32 of the way from 1 to the next, 1 + 2^-7: the last 1/32 of 2^16 numbers go up, from 63488 on.
TEST(Rounding, ByHand) {
  const float x = 1.0F + 0x1p-12F;
  EXPECT_EQ(after(x, 0), 1.0F);
  EXPECT_EQ(after(x, 63487), 1.0F);
  EXPECT_EQ(after(x, 63488), 1.0F + 0x1p-7F);
  EXPECT_EQ(after(x, 65535), 1.0F + 0x1p-7F);
  EXPECT_EQ(after(-x, 63487), -1.0F);
  EXPECT_EQ(after(-x, 63488), -1.0F - 0x1p-7F);
  EXPECT_EQ(static_cast<float>(Bf16(x)), 1.0F);
  for (const std::uint32_t bits : {0U, 65535U}) {
    for (const float held : {0.0F, -0.0F, 1.5F, -0x1p-120F, std::numeric_limits<float>::infinity()}) {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(after(held, bits)), std::bit_cast<std::uint32_t>(held));
    }
    EXPECT_TRUE(std::isnan(after(std::bit_cast<float>(0x7f800001U), bits)));
  }
}

// Eight neighbours share 128 bits, each has 16 of its own; another step, tensor, seed or eight has others.
TEST(Rounding, BitsAreOfSeedStepTensorAndPlace) {
  const auto all = [](const Rounding& r, std::int64_t step, std::int64_t block) {
    const auto words = rounding_words(r, step, block);
    std::vector<std::uint32_t> bits;
    for (std::int64_t i = 0; i < 8; ++i) {
      bits.push_back(rounding_bits(words, 8 * block + i));
    }
    return bits;
  };
  const std::vector<std::uint32_t> first = all({7, 3, {}}, 1, 0);
  const auto words = rounding_words({7, 3, {}}, 1, 0);
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(first[i], words[i / 2] >> (i % 2 * 16) & 0xffffU);
  }
  EXPECT_EQ(all({7, 3, {}}, 1, 0), first);
  const std::set<std::vector<std::uint32_t>> different{first, all({8, 3, {}}, 1, 0), all({7, 4, {}}, 1, 0),
                                                       all({7, 3, {}}, 2, 0), all({7, 3, {}}, 1, 1)};
  EXPECT_EQ(different.size(), 5U);
}

// A tensor of 6 x 10, whole, and in parts: rows from 2 on, from the middle of one; columns from 4 on.
TEST(Rounding, PartsHaveTheBitsOfTheWhole) {
  std::vector<float> x(60);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = 1.0F + static_cast<float>(i % 9) * 0x1p-10F;
  }
  std::vector<Bf16> whole(60), rows(35), columns(36);
  store_rounded({5, 2, {0, 10, 0, 0, 10}}, 3, 0, 60, x.data(), whole.data());
  store_rounded({5, 2, {5, 10, 2, 0, 10}}, 3, 0, 35, x.data() + 25, rows.data());
  std::vector<float> right;
  for (std::size_t i = 0; i < 60; ++i) {
    if (i % 10 >= 4) {
      right.push_back(x[i]);
    }
  }
  store_rounded({5, 2, {0, 6, 0, 4, 10}}, 3, 0, 20, right.data(), columns.data());
  store_rounded({5, 2, {0, 6, 0, 4, 10}}, 3, 20, 16, right.data() + 20, columns.data() + 20);
  for (std::size_t i = 0; i < 35; ++i) {
    EXPECT_EQ(rows[i].bits, whole[25 + i].bits) << i;
  }
  for (std::size_t i = 0; i < 36; ++i) {
    EXPECT_EQ(columns[i].bits, whole[i / 6 * 10 + 4 + i % 6].bits) << i;
  }
}

// In fp32, then rounded: of every kind, over tiles.
TEST(Rounding, OfEachStep) {
  for_instruction_sets([](const std::string& isa) {
    for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::adam,
                                     OptimizerKind::adamw, OptimizerKind::rmsprop}) {
      for (const std::int64_t n : {0, 1, 133, 2500}) {
        for (const Dtype gradient : {Dtype::fp32, Dtype::bf16}) {
          Values p = random_tensor(Dtype::bf16, n, 1), m(Dtype::fp32, p.size()), v(Dtype::fp32, p.size());
          Values wide(Dtype::fp32, p.doubles()), wide_m(m), wide_v(v);
          const Values g = random_tensor(gradient, n, 2);
          const OptimizerStep step = {.kind = kind,
                                      .learning_rate = 0.01,
                                      .weight_decay = 0.1,
                                      .step = 2,
                                      .rounding = {11, 4, {3, 7, 2, 5, 20}}};
          const double half = 0.5;
          optimizer_step(step, n, g.tensor(), &half, p.tensor(), m.tensor(), v.tensor(), {});
          optimizer_step(step, n, g.tensor(), &half, wide.tensor(), wide_m.tensor(), wide_v.tensor(), {});
          for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t index = (2 + (3 + i) / 7) * 20 + 5 + (3 + i) % 7;
            const std::uint32_t bits = rounding_bits(rounding_words(step.rounding, 2, index / 8), index);
            const auto at = static_cast<std::size_t>(i);
            ASSERT_EQ(p.get(at), static_cast<double>(after(static_cast<float>(wide.get(at)), bits))) << isa << i;
          }
          EXPECT_TRUE(m.same_bits(wide_m) && v.same_bits(wide_v));
        }
      }
    }
  });
}

// 64 steps of 2^-12 from 1 are 2^-6 in all. Each is 1/32 of the distance 2^-7 to the next number of bf16: to the
// nearest is back to 1, every time. By chance one in 32 goes up by 2^-7, so that the mean moves by 2^-12: of n = 4096
// weights it is 1 + 2^-6 with a deviation of 2^-7 sqrt(64 (1/32) (31/32) / n) = 1.7e-4; five of them are allowed. The
// deviation of one weight is 2^-7 sqrt(64 · 31) / 32 = 0.0109.
TEST(Rounding, ADriftOfTinyUpdatesSurvives) {
  constexpr std::size_t kWeights = 4096;
  const Values down(Dtype::fp32, std::vector<double>(kWeights, -1.0));
  Values drawn(Dtype::bf16, std::vector<double>(kWeights, 1.0)), nearest = drawn;
  for (std::int64_t t = 1; t <= 64; ++t) {
    const OptimizerStep step = {
        .kind = OptimizerKind::sgd, .learning_rate = 0x1p-12, .step = t, .rounding = {1, 0, {0, 64, 0, 0, 64}}};
    optimizer_step(step, kWeights, down.tensor(), nullptr, drawn.tensor(), {}, {}, {});
    Values wide(Dtype::fp32, nearest.doubles());
    optimizer_step(step, kWeights, down.tensor(), nullptr, wide.tensor(), {}, {}, nearest.tensor());
  }
  double sum = 0, squares = 0;
  for (const double w : drawn.doubles()) {
    sum += w;
    squares += (w - 1 - 0x1p-6) * (w - 1 - 0x1p-6);
  }
  const double n = kWeights;
  EXPECT_NEAR(sum / n, 1 + 0x1p-6, 5 * 1.7e-4);
  EXPECT_NEAR(std::sqrt(squares / n), 0.0109, 0.0011);
  EXPECT_EQ(nearest.doubles(), std::vector<double>(kWeights, 1.0));
}

}  // namespace
}  // namespace foretrain::kernels
