// Matrix products: how cuBLASLt is asked, by hand, and that it is asked first.
#include "kernels/cuda/matmul.h"

#include <gtest/gtest.h>

#include "kernels/cuda/libraries.h"
#include "kernels/cuda/matmul_layout.h"

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
  EXPECT_FALSE(product(fp64, fp64, fp64, fp64));
  EXPECT_FALSE(product(bf16, fp32, {}, fp32));
  EXPECT_FALSE(product(fp32, bf16, {}, fp32));
  EXPECT_FALSE(product(fp32, fp32, {}, bf16));
  EXPECT_FALSE(column_product({.m = 2, .n = 2, .k = 0}, fp32, fp32, {}, fp32, false));
}

TEST(MatmulLayout, Epilogues) {
  const auto product = [](std::int64_t n, Dtype d) {
    return column_product({.m = 3, .n = n, .k = 2}, d, d, d, d, false, Epilogue::gelu);
  };
  EXPECT_EQ(product(16, Dtype::bf16)->epilogue, Epilogue::gelu);
  EXPECT_FALSE(product(12, Dtype::bf16));  // its x wants rows of multiples of 8
  EXPECT_FALSE(product(16, Dtype::fp32));
  EXPECT_NE(product(16, Dtype::bf16),
            column_product({.m = 3, .n = 16, .k = 2}, Dtype::bf16, Dtype::bf16, Dtype::bf16, Dtype::bf16, false));
}

// Has some products, and writes 42 for them.
struct Recorder : Libraries {
  bool has = true;
  int asked = 0;
  Dtype type{};
  Epilogue epilogue{};

  bool matmul(const Stream&, const MatmulShape&, ConstTensor a, ConstTensor, ConstTensor, Tensor c, bool,
              const Behind& behind) override {
    ++asked;
    type = a.dtype;
    epilogue = behind.epilogue;
    if (has) {
      *static_cast<double*>(c.data) = 42;
    }
    return has;
  }
  bool attention_backward(const Stream&, const AttentionShape&, ConstTensor, ConstTensor, ConstTensor, ConstTensor,
                          Tensor) override {
    return false;
  }
  bool attention_forward(const Stream&, const AttentionShape&, ConstTensor, Tensor, Tensor) override { return false; }
  const std::vector<std::string>& refused() const override { return none; }

  std::vector<std::string> none;
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

// gelu(0) = 0, and its slope there is 1/2.
TEST(CudaMatmul, Epilogues) {
  const double a = 0, b = 3;
  double x = -1, y = -1;
  const ConstTensor ta{&a, Dtype::fp64}, tb{&b, Dtype::fp64};
  const Tensor tx{&x, Dtype::fp64}, ty{&y, Dtype::fp64};
  Recorder library;
  matmul_gelu({.libraries = &library}, {.m = 1, .n = 1, .k = 1}, ta, tb, {}, tx, ty);
  EXPECT_EQ(library.epilogue, Epilogue::gelu);
  EXPECT_EQ(y, 42);
  EXPECT_EQ(x, -1);
  library.has = false;
  matmul_gelu({.libraries = &library}, {.m = 1, .n = 1, .k = 1}, ta, tb, {}, tx, ty);
  EXPECT_EQ(library.epilogue, Epilogue::none);  // asked for the product alone, too
  EXPECT_EQ(y, 0);
  EXPECT_EQ(x, 0);
  matmul_gelu_backward({.libraries = &library}, {.m = 1, .n = 1, .k = 1}, tb, tb, tx, ty);
  EXPECT_EQ(y, 4.5);
}

// The library is told; to our own kernel it is fp32: 1 + 2^-20 has more digits than tf32.
TEST(CudaMatmul, Tf32) {
  const float a = 1 + 0x1p-20F, b = 1;
  float c = 0;
  const ConstTensor ta{&a, Dtype::tf32}, tb{&b, Dtype::tf32};
  Recorder library;
  library.has = false;
  matmul({.libraries = &library}, {.m = 1, .n = 1, .k = 1}, ta, tb, {}, {&c, Dtype::fp32}, false);
  EXPECT_EQ(c, a);
  EXPECT_EQ(library.type, Dtype::tf32);
}

}  // namespace
}  // namespace foretrain::kernels::cuda
