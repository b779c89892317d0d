#include <gtest/gtest.h>

#include "kernels/philox.h"
#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

// Known answers published with the generator (Random123, kat_vectors: philox4x32 10 rounds).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32(0, 0, 0), (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32(~std::uint64_t{0}, ~std::uint64_t{0}, ~std::uint64_t{0}),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e),
            (std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Init, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const auto& [rows, cols] : std::vector<std::array<std::int64_t, 2>>{{0, 4}, {4, 0}, {1, 1}, {5, 7}, {3, 64}}) {
      for (const std::int64_t col_offset : {0, 1, 6}) {
        for (const Dtype d : kElementTypes) {
          const InitShape s = {.rows = rows,
                               .cols = cols,
                               .row_offset = 2,
                               .col_offset = col_offset,
                               .global_cols = 77,
                               .seed = 5,
                               .tensor = 9};
          Values x(d, static_cast<std::size_t>(rows * cols));
          std::vector<double> expected(x.size());
          init_normal(s, 0.02, x.tensor());
          reference::init_normal(s, 0.02, expected.data());
          expect_close(x, expected, Dtype::fp64, d == Dtype::fp64 ? 100 : 1e7, isa);
          init_uniform(s, -0.5, 1.5, x.tensor());
          reference::init_uniform(s, -0.5, 1.5, expected.data());
          expect_close(x, expected, Dtype::fp64, d == Dtype::fp64 ? 100 : 1e7, isa);
        }
      }
    }
  });
}

// Every shard of a tensor has the bits of the whole one at its place.
TEST(Init, AnyShardingGivesTheSameTensor) {
  for_instruction_sets([](const std::string& isa) {
    for (const Dtype d : kElementTypes) {
      const std::int64_t rows = 9, cols = 21;
      const InitShape whole = {.rows = rows, .cols = cols, .global_cols = cols, .seed = 1, .tensor = 2};
      Values all(d, static_cast<std::size_t>(rows * cols));
      init_normal(whole, 0.02, all.tensor());
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < cols; c += 4) {
          InitShape piece = whole;
          piece.rows = 1;
          piece.cols = std::min<std::int64_t>(4, cols - c);
          piece.row_offset = r;
          piece.col_offset = c;
          Values part(d, static_cast<std::size_t>(piece.cols));
          init_normal(piece, 0.02, part.tensor());
          for (std::size_t i = 0; i < part.size(); ++i) {
            EXPECT_EQ(part.get(i), all.get(static_cast<std::size_t>(r * cols + c) + i)) << isa;
          }
        }
      }
    }
  });
}

// 100,000 normal values: mean and variance within 5 standard errors (1/sqrt(n) and sqrt(2/n)), and about 4.55 % beyond
// two standard deviations.
TEST(Init, IsNormal) {
  const std::size_t n = 100000;
  Values x(Dtype::fp64, n);
  init_normal({.rows = 1, .cols = static_cast<std::int64_t>(n), .global_cols = static_cast<std::int64_t>(n), .seed = 3},
              1.0, x.tensor());
  double sum = 0.0;
  double squares = 0.0;
  double beyond = 0.0;
  for (const double value : x.doubles()) {
    sum += value;
    squares += value * value;
    beyond += std::abs(value) > 2.0 ? 1.0 : 0.0;
  }
  const double count = static_cast<double>(n);
  EXPECT_NEAR(sum / count, 0.0, 5.0 / std::sqrt(count));
  EXPECT_NEAR(squares / count, 1.0, 5.0 * std::sqrt(2.0 / count));
  EXPECT_NEAR(beyond / count, 0.0455, 5.0 * std::sqrt(0.0455 / count));
}

TEST(Init, SeedAndTensorMatter) {
  const auto first = [](std::uint64_t seed, std::uint64_t tensor) {
    Values x(Dtype::fp64, 1);
    init_normal({.rows = 1, .cols = 1, .global_cols = 1, .seed = seed, .tensor = tensor}, 1.0, x.tensor());
    return x.get(0);
  };
  EXPECT_NE(first(1, 1), first(2, 1));
  EXPECT_NE(first(1, 1), first(1, 2));
  EXPECT_EQ(first(1, 1), first(1, 1));
}

}  // namespace
}  // namespace foretrain::kernels
