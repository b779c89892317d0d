#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/bf16_library.h"
#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

struct Types {
  Dtype a, b, bias, c;
};

const std::vector<Types> kTypes = {
    {Dtype::fp64, Dtype::fp64, Dtype::fp64, Dtype::fp64}, {Dtype::fp32, Dtype::fp32, Dtype::fp32, Dtype::fp32},
    {Dtype::bf16, Dtype::bf16, Dtype::bf16, Dtype::bf16}, {Dtype::bf16, Dtype::bf16, Dtype::fp32, Dtype::fp32},
    {Dtype::fp32, Dtype::bf16, Dtype::bf16, Dtype::fp32}, {Dtype::bf16, Dtype::fp32, Dtype::fp32, Dtype::bf16},
    {Dtype::fp16, Dtype::fp16, Dtype::fp16, Dtype::fp16}, {Dtype::fp16, Dtype::fp16, Dtype::fp32, Dtype::fp32},
    {Dtype::fp16, Dtype::fp32, Dtype::fp32, Dtype::fp16},
};

// Stored elements of one matrix of the batch.
std::int64_t elements(std::int64_t rows, std::int64_t cols, std::int64_t ld) {
  return rows == 0 ? 0 : (rows - 1) * (ld != 0 ? ld : cols) + cols;
}

void check(const MatmulShape& s, const Types& types, bool with_bias, bool accumulate, const std::string& what,
           const std::function<decltype(kernels::matmul)>& multiply = kernels::matmul) {
  const auto size_a = s.transpose_a ? elements(s.k, s.m, s.lda) : elements(s.m, s.k, s.lda);
  const auto size_b = s.transpose_b ? elements(s.n, s.k, s.ldb) : elements(s.k, s.n, s.ldb);
  const auto size_c = elements(s.m, s.n, s.ldc);
  const Values a = random_tensor(types.a, size_a + (s.batch - 1) * s.stride_a, 1);
  const Values b = random_tensor(types.b, size_b + (s.batch - 1) * s.stride_b, 2);
  const Values bias = random_tensor(types.bias, s.n, 3);
  Values c = random_tensor(types.c, size_c + (s.batch - 1) * s.stride_c, 4);
  std::vector<double> expected = c.doubles();
  const std::vector<double> wide_bias = bias.doubles();
  reference::matmul(s, a.doubles().data(), b.doubles().data(), with_bias ? wide_bias.data() : nullptr, expected.data(),
                    accumulate);
  multiply(s, a.tensor(), b.tensor(), with_bias ? bias.tensor() : ConstTensor{}, c.tensor(), accumulate);
  // k products of values below 1; the largest result is about sqrt(k), so errors stay below sqrt(k) roundings of it.
  expect_close(c, expected, types.c, 4.0 + 2.0 * std::sqrt(static_cast<double>(s.k)),
               what + " " + std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k));
}

TEST(Matmul, EveryLayoutAndTypeOnOddSizes) {
  for_instruction_sets([](const std::string& isa) {
    for (const Types& types : kTypes) {
      for (const auto& [m, n, k] : std::vector<std::array<std::int64_t, 3>>{{0, 3, 4},
                                                                            {3, 0, 4},
                                                                            {3, 4, 0},
                                                                            {1, 1, 1},
                                                                            {1, 7, 5},
                                                                            {5, 1, 9},
                                                                            {6, 16, 8},
                                                                            {13, 33, 17},
                                                                            {64, 64, 64},
                                                                            {37, 70, 129}}) {
        for (int variant = 0; variant < 16; ++variant) {
          const MatmulShape s = {
              .m = m, .n = n, .k = k, .transpose_a = (variant & 1) != 0, .transpose_b = (variant & 2) != 0};
          check(s, types, (variant & 4) != 0, (variant & 8) != 0, isa);
        }
      }
    }
  });
}

// Larger than every cache block: more than one block of rows, columns and depth.
TEST(Matmul, SizesBeyondTheBlocks) {
  for (const Types& types : kTypes) {
    check({.m = 1030, .n = 19, .k = 517, .transpose_b = true}, types, true, true, "rows");
    check({.m = 21, .n = 2065, .k = 300, .transpose_a = true}, types, true, false, "columns");
  }
}

TEST(Matmul, LeadingDimensionsAndBatches) {
  for_instruction_sets([](const std::string& isa) {
    for (const Types& types : kTypes) {
      for (const bool transpose_a : {false, true}) {
        for (const bool transpose_b : {false, true}) {
          const MatmulShape s = {.m = 7,
                                 .n = 18,
                                 .k = 11,
                                 .transpose_a = transpose_a,
                                 .transpose_b = transpose_b,
                                 .lda = 23,
                                 .ldb = 29,
                                 .ldc = 31,
                                 .batch = 3,
                                 .stride_a = 13,
                                 .stride_b = 5,
                                 .stride_c = 31 * 7};
          check(s, types, true, true, isa);
          check(s, types, false, false, isa);
        }
      }
    }
  });
}

// Between the rows of c stands other data (packed layouts): it must not change.
TEST(Matmul, LeavesGapsAlone) {
  for (const Dtype d : kElementTypes) {
    const Values a = random_tensor(d, 5 * 3, 1);
    const Values b = random_tensor(d, 3 * 4, 2);
    Values c(d, std::vector<double>(5 * 9, 42.0));
    matmul({.m = 5, .n = 4, .k = 3, .ldc = 9}, a.tensor(), b.tensor(), {}, c.tensor(), false);
    for (std::size_t row = 0; row < 5; ++row) {
      for (std::size_t col = 4; col < 9; ++col) {
        EXPECT_EQ(c.get(row * 9 + col), 42.0);
      }
    }
  }
}

// An element depends on its row of a, its column of b and k: rows and columns computed apart have the same bits.
TEST(Matmul, RowsAndColumnsComputedApartAreTheSame) {
  for_instruction_sets([](const std::string& isa) {
    for (const Dtype d : {Dtype::fp64, Dtype::fp32}) {
      const std::int64_t m = 29, n = 71, k = 301;
      const Values a = random_tensor(d, m * k, 1);
      const Values b = random_tensor(d, n * k, 2);
      Values whole(d, static_cast<std::size_t>(m * n));
      matmul(MatmulShape::linear(m, k, n), a.tensor(), b.tensor(), {}, whole.tensor(), false);
      for (std::int64_t rows : {1, 6, 10}) {
        for (std::int64_t cols : {1, 16, 40}) {
          Values part(d, static_cast<std::size_t>(rows * cols));
          const std::int64_t first_row = 11, first_col = 23;
          matmul(MatmulShape::linear(rows, k, cols),
                 {static_cast<const char*>(a.tensor().data) + size_bytes(d, first_row * k), d},
                 {static_cast<const char*>(b.tensor().data) + size_bytes(d, first_col * k), d}, {}, part.tensor(),
                 false);
          for (std::int64_t i = 0; i < rows; ++i) {
            for (std::int64_t j = 0; j < cols; ++j) {
              EXPECT_EQ(part.get(static_cast<std::size_t>(i * cols + j)),
                        whole.get(static_cast<std::size_t>((first_row + i) * n + first_col + j)))
                  << isa;
            }
          }
        }
      }
    }
  });
}

TEST(Matmul, LinearLayerShapes) {
  // x = [1 2; 3 4; 5 6] (rows 3, in 2), w = [1 0; 0 1; 1 1; 2 -1] (out 4): y row 0 = (1, 2, 3, 0).
  const Values x(Dtype::fp64, {1, 2, 3, 4, 5, 6});
  const Values w(Dtype::fp64, {1, 0, 0, 1, 1, 1, 2, -1});
  Values y(Dtype::fp64, 12);
  matmul(MatmulShape::linear(3, 2, 4), x.tensor(), w.tensor(), {}, y.tensor(), false);
  EXPECT_EQ(y.doubles(), (std::vector<double>{1, 2, 3, 0, 3, 4, 7, 2, 5, 6, 11, 4}));
  // With dy = y: dx row 0 = y0 w = 1*(1,0) + 2*(0,1) + 3*(1,1) + 0 = (4, 5).
  Values dx(Dtype::fp64, 6);
  matmul(MatmulShape::linear_backward_input(3, 2, 4), y.tensor(), w.tensor(), {}, dx.tensor(), false);
  EXPECT_EQ(dx.get(0), 4.0);
  EXPECT_EQ(dx.get(1), 5.0);
  // dw row 0 = sum over rows of y[r][0] x[r] = 1*(1,2) + 3*(3,4) + 5*(5,6) = (35, 44).
  Values dw(Dtype::fp64, 8);
  matmul(MatmulShape::linear_backward_weight(3, 2, 4), y.tensor(), x.tensor(), {}, dw.tensor(), false);
  EXPECT_EQ(dw.get(0), 35.0);
  EXPECT_EQ(dw.get(1), 44.0);
}

// The module that multiplies bf16 where the processor can multiplies fp32 everywhere: layouts, bias and sums are the
// same code.
TEST(Matmul, OneDnnModule) {
  std::string why;
  const auto library = load_onednn_matmul(&why);
  if (library == nullptr) {
    GTEST_SKIP() << why;
  }
  const auto multiply = [library](const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
                                  bool accumulate) { EXPECT_TRUE(library(s, a, b, bias, c, accumulate)); };
  const Types types = {Dtype::fp32, Dtype::fp32, Dtype::fp32, Dtype::fp32};
  for (int variant = 0; variant < 16; ++variant) {
    const bool transpose_a = (variant & 1) != 0;
    const bool transpose_b = (variant & 2) != 0;
    const bool bias = (variant & 4) != 0;
    const bool accumulate = (variant & 8) != 0;
    for (int repeat = 0; repeat < 2; ++repeat) {  // the second call takes the primitive that the first one made
      check({.m = 37, .n = 70, .k = 129, .transpose_a = transpose_a, .transpose_b = transpose_b}, types, bias,
            accumulate, "oneDNN", multiply);
      check({.m = 1, .n = 1, .k = 1, .transpose_a = transpose_a, .transpose_b = transpose_b}, types, bias, accumulate,
            "oneDNN", multiply);
      check({.m = 7,
             .n = 18,
             .k = 11,
             .transpose_a = transpose_a,
             .transpose_b = transpose_b,
             .lda = 23,
             .ldb = 29,
             .ldc = 31,
             .batch = 3,
             .stride_a = 13,
             .stride_b = 5,
             .stride_c = 31 * 7},
            types, bias, accumulate, "oneDNN", multiply);
    }
  }
}

TEST(Matmul, Bf16BackendHasAName) {
  EXPECT_FALSE(bf16_matmul_backend().empty());
}

TEST(Matmul, RefusesMixedFamiliesAndNegativeSizes) {
  Values x(Dtype::fp64, 4);
  Values y(Dtype::fp32, 4);
  EXPECT_THROW(matmul({.m = 2, .n = 2, .k = 2}, x.tensor(), y.tensor(), {}, y.tensor(), false), InternalError);
  EXPECT_THROW(matmul({.m = -2, .n = 2, .k = 2}, y.tensor(), y.tensor(), {}, y.tensor(), false), InternalError);
}

}  // namespace
}  // namespace foretrain::kernels
