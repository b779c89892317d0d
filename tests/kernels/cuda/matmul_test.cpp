// Matrix products: our own kernel on the emulated GPU, against the definition; how cuBLASLt is asked; who is asked
// first.
#include "kernels/cuda/matmul.h"

#include <gtest/gtest.h>

#include "kernels/cuda/libraries.h"
#include "kernels/cuda/matmul_layout.h"
#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels::cuda {
namespace {

// y[3,5] = x[3,4] w[5,4]^T, all dense. By columns x is [4,3], w is [4,5] and y is [5,3] = w^T x.
TEST(MatmulLayout, LinearForward) {
  EXPECT_EQ(column_product(MatmulShape::linear(3, 4, 5), Dtype::bf16, Dtype::bf16, Dtype::bf16, Dtype::bf16, false),
            (ColumnProduct{.left = {Dtype::bf16, 4, 5, 4, 0},
                           .right = {Dtype::bf16, 4, 3, 4, 0},
                           .out = {Dtype::bf16, 5, 3, 5, 0},
                           .transpose_left = true,
                           .transpose_right = false,
                           .batch = 1,
                           .arithmetic = Dtype::fp32,
                           .bias = true,
                           .accumulate = false}));
}

// dx[3,4] = dy[3,5] w[5,4]: by columns [4,3] = [4,5] [5,3], nothing transposed.
TEST(MatmulLayout, LinearBackwardInput) {
  EXPECT_EQ(
      column_product(MatmulShape::linear_backward_input(3, 4, 5), Dtype::fp32, Dtype::fp32, {}, Dtype::fp32, false),
      (ColumnProduct{
          .left = {Dtype::fp32, 4, 5, 4, 0}, .right = {Dtype::fp32, 5, 3, 5, 0}, .out = {Dtype::fp32, 4, 3, 4, 0}}));
}

// dw[5,4] += dy[3,5]^T x[3,4]: by columns [4,5] = x [4,3] times dy [5,3] transposed.
TEST(MatmulLayout, LinearBackwardWeightAccumulatesInFp32) {
  EXPECT_EQ(
      column_product(MatmulShape::linear_backward_weight(3, 4, 5), Dtype::bf16, Dtype::bf16, {}, Dtype::fp32, true),
      (ColumnProduct{.left = {Dtype::bf16, 4, 3, 4, 0},
                     .right = {Dtype::bf16, 5, 3, 5, 0},
                     .out = {Dtype::fp32, 4, 5, 4, 0},
                     .transpose_right = true,
                     .accumulate = true}));
}

// Scores of 6 heads out of packed rows of 100 elements: [7,7] = q [7,8] k [7,8]^T.
TEST(MatmulLayout, LeadingDimensionsAndStrides) {
  const MatmulShape s = {.m = 7,
                         .n = 7,
                         .k = 8,
                         .transpose_b = true,
                         .lda = 100,
                         .ldb = 100,
                         .batch = 6,
                         .stride_a = 16,
                         .stride_b = 8,
                         .stride_c = 49};
  EXPECT_EQ(column_product(s, Dtype::fp64, Dtype::fp64, {}, Dtype::fp64, false),
            (ColumnProduct{.left = {Dtype::fp64, 8, 7, 100, 8},
                           .right = {Dtype::fp64, 8, 7, 100, 16},
                           .out = {Dtype::fp64, 7, 7, 7, 49},
                           .transpose_left = true,
                           .batch = 6,
                           .arithmetic = Dtype::fp64}));
}

TEST(MatmulLayout, WhatCublasLtHas) {
  const auto product = [](Dtype a, Dtype b, std::optional<Dtype> bias, Dtype c) {
    return column_product({.m = 2, .n = 2, .k = 2}, a, b, bias, c, false);
  };
  using enum Dtype;
  EXPECT_EQ(product(tf32, tf32, {}, tf32)->arithmetic, tf32);
  EXPECT_EQ(product(tf32, tf32, {}, fp32)->arithmetic, tf32);
  EXPECT_TRUE(product(bf16, bf16, fp32, fp32));
  EXPECT_FALSE(product(bf16, bf16, fp32, bf16));  // a bias is of the result's type
  EXPECT_FALSE(product(bf16, fp32, {}, fp32));
  EXPECT_FALSE(product(fp32, bf16, {}, fp32));
  EXPECT_FALSE(product(fp32, fp32, {}, bf16));
  EXPECT_FALSE(column_product({.m = 2, .n = 2, .k = 0}, fp32, fp32, {}, fp32, false));
}

// Has some products, and writes 42 for them.
struct Recorder : Libraries {
  bool has = true;
  int asked = 0;

  bool matmul(const Stream&, const MatmulShape&, ConstTensor, ConstTensor, ConstTensor, Tensor c, bool) override {
    ++asked;
    if (has) {
      *static_cast<double*>(c.data) = 42;
    }
    return has;
  }
};

TEST(CudaMatmul, TheLibraryIsAskedFirst) {
  const double a = 2, b = 3;
  double c = 0;
  const ConstTensor ta{&a, Dtype::fp64}, tb{&b, Dtype::fp64};
  Recorder library;
  matmul({.libraries = &library}, {.m = 1, .n = 1, .k = 1}, ta, tb, {}, {&c, Dtype::fp64}, false);
  EXPECT_EQ(c, 42);
  library.has = false;
  matmul({.libraries = &library}, {.m = 1, .n = 1, .k = 1}, ta, tb, {}, {&c, Dtype::fp64}, true);
  EXPECT_EQ(c, 48);
  matmul({.libraries = &library}, {.m = 0, .n = 1, .k = 1}, ta, tb, {}, {&c, Dtype::fp64}, true);
  EXPECT_EQ(library.asked, 2);
}

struct Types {
  Dtype a, b, bias, c;
};

const std::vector<Types> kTypes = {
    {Dtype::fp64, Dtype::fp64, Dtype::fp64, Dtype::fp64}, {Dtype::fp32, Dtype::fp32, Dtype::fp32, Dtype::fp32},
    {Dtype::bf16, Dtype::bf16, Dtype::bf16, Dtype::bf16}, {Dtype::bf16, Dtype::bf16, Dtype::fp32, Dtype::fp32},
    {Dtype::fp32, Dtype::bf16, Dtype::bf16, Dtype::fp32}, {Dtype::bf16, Dtype::fp32, Dtype::fp32, Dtype::bf16},
};

// Stored elements of one matrix of the batch.
std::int64_t elements(std::int64_t rows, std::int64_t cols, std::int64_t ld) {
  return rows == 0 ? 0 : (rows - 1) * (ld != 0 ? ld : cols) + cols;
}

void check(const MatmulShape& s, const Types& types, bool with_bias, bool accumulate) {
  const auto size_a = s.transpose_a ? elements(s.k, s.m, s.lda) : elements(s.m, s.k, s.lda);
  const auto size_b = s.transpose_b ? elements(s.n, s.k, s.ldb) : elements(s.k, s.n, s.ldb);
  const Values a = random_tensor(types.a, size_a + (s.batch - 1) * s.stride_a, 1);
  const Values b = random_tensor(types.b, size_b + (s.batch - 1) * s.stride_b, 2);
  const Values bias = random_tensor(types.bias, s.n, 3);
  Values c = random_tensor(types.c, elements(s.m, s.n, s.ldc) + (s.batch - 1) * s.stride_c, 4);
  std::vector<double> expected = c.doubles();
  const std::vector<double> wide_bias = bias.doubles();
  reference::matmul(s, a.doubles().data(), b.doubles().data(), with_bias ? wide_bias.data() : nullptr, expected.data(),
                    accumulate);
  matmul({}, s, a.tensor(), b.tensor(), with_bias ? bias.tensor() : ConstTensor{}, c.tensor(), accumulate);
  expect_close(c, expected, types.c, 4.0 + 2.0 * std::sqrt(static_cast<double>(s.k)),
               std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k));
}

// A block's tile is 64 x 64, 16 deep.
TEST(CudaMatmul, EveryLayoutAndTypeOnOddSizes) {
  for (const Types& types : kTypes) {
    for (const auto& [m, n, k] : std::vector<std::array<std::int64_t, 3>>{
             {0, 3, 4}, {3, 0, 4}, {3, 4, 0}, {1, 1, 1}, {1, 7, 5}, {5, 1, 9}, {64, 64, 16}, {65, 130, 33}}) {
      for (int variant = 0; variant < 16; ++variant) {
        check({.m = m, .n = n, .k = k, .transpose_a = (variant & 1) != 0, .transpose_b = (variant & 2) != 0}, types,
              (variant & 4) != 0, (variant & 8) != 0);
      }
    }
  }
}

TEST(CudaMatmul, LeadingDimensionsAndBatches) {
  for (const Types& types : kTypes) {
    for (int variant = 0; variant < 4; ++variant) {
      MatmulShape s = {.m = 7, .n = 18, .k = 11, .lda = 23, .ldb = 29, .ldc = 31};
      s.transpose_a = (variant & 1) != 0;
      s.transpose_b = (variant & 2) != 0;
      s.batch = 3;
      s.stride_a = 13;
      s.stride_b = 5;
      s.stride_c = 31 * 7;
      check(s, types, true, true);
      check(s, types, false, false);
    }
  }
}

// Between the rows of c stands other data: it must not change.
TEST(CudaMatmul, LeavesGapsAlone) {
  for (const Dtype d : kElementTypes) {
    const Values a = random_tensor(d, 5 * 3, 1), b = random_tensor(d, 3 * 4, 2);
    Values c(d, std::vector<double>(5 * 9, 42.0));
    matmul({}, {.m = 5, .n = 4, .k = 3, .ldc = 9}, a.tensor(), b.tensor(), {}, c.tensor(), false);
    for (std::size_t row = 0; row < 5; ++row) {
      for (std::size_t col = 4; col < 9; ++col) {
        EXPECT_EQ(c.get(row * 9 + col), 42.0);
      }
    }
  }
}

// 1 + 2^-8 is no bf16: 1 · 1 + 2^-9 · 1 + 2^-9 · 1, summed before it is rounded, goes to even 1; one more 2^-9 to the
// next bf16, 1 + 2^-7. Added one by one every term would be lost.
TEST(CudaMatmul, TermsAreRoundedOnce) {
  const Values a(Dtype::bf16, std::vector<double>{1, 0x1p-9, 0x1p-9, 0x1p-9});
  const Values b(Dtype::bf16, std::vector<double>{1, 1, 1, 1});
  Values c(Dtype::bf16, 1);
  const MatmulShape one = {.m = 1, .n = 1, .k = 1};
  matmul_plain({}, one, {3, 1, 1}, a.tensor(), b.tensor(), {}, c.tensor(), false);
  EXPECT_EQ(c.get(0), 1.0);
  matmul_plain({}, one, {4, 1, 1}, a.tensor(), b.tensor(), {}, c.tensor(), false);
  EXPECT_EQ(c.get(0), 1.0 + 0x1p-7);
}

}  // namespace
}  // namespace foretrain::kernels::cuda
