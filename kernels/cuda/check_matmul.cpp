// Matrix products: every layout and mix of types, on sizes beside those of tiles (64 x 64, 16 deep).
#include <cmath>

#include "kernels/cuda/check_bench.h"
#include "kernels/cuda/matmul.h"
#include "kernels/reference.h"

namespace foretrain::kernels::cuda {

namespace {

using std::int64_t;

struct Types {
  Dtype a, b, bias, c;
};

constexpr Types kTypes[] = {
    {Dtype::fp64, Dtype::fp64, Dtype::fp64, Dtype::fp64}, {Dtype::fp32, Dtype::fp32, Dtype::fp32, Dtype::fp32},
    {Dtype::bf16, Dtype::bf16, Dtype::bf16, Dtype::bf16}, {Dtype::bf16, Dtype::bf16, Dtype::fp32, Dtype::fp32},
    {Dtype::fp32, Dtype::bf16, Dtype::bf16, Dtype::fp32}, {Dtype::bf16, Dtype::fp32, Dtype::fp32, Dtype::bf16},
};

// Stored elements of one matrix of the batch.
int64_t elements(int64_t rows, int64_t cols, int64_t ld) {
  return rows == 0 ? 0 : (rows - 1) * (ld != 0 ? ld : cols) + cols;
}

void product(Bench& bench, const MatmulShape& s, const Types& types, bool with_bias, bool accumulate) {
  const int64_t size_a = s.transpose_a ? elements(s.k, s.m, s.lda) : elements(s.m, s.k, s.lda);
  const int64_t size_b = s.transpose_b ? elements(s.n, s.k, s.ldb) : elements(s.k, s.n, s.ldb);
  const Array a = Array::random(bench, types.a, size_a + (s.batch - 1) * s.stride_a, 1);
  const Array b = Array::random(bench, types.b, size_b + (s.batch - 1) * s.stride_b, 2);
  const Array bias = Array::random(bench, types.bias, s.n, 3);
  // Between the rows of c stands other data: it does not change.
  const Array c = Array::random(bench, types.c, elements(s.m, s.n, s.ldc) + (s.batch - 1) * s.stride_c, 4);
  Doubles expected = c.given();
  reference::matmul(s, a.given().data(), b.given().data(), with_bias ? bias.given().data() : nullptr, expected.data(),
                    accumulate);
  matmul(bench.stream(), s, a, b, with_bias ? ConstTensor(bias) : ConstTensor{}, c, accumulate);
  bench.expect(fmt::format("matmul {} x {} x {}, {} {}", s.m, s.n, s.k, name(types.a), name(types.b)), c, expected);
}

void layouts(Bench& bench) {
  for (const Types& types : kTypes) {
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{0, 3, 4},
                                  {3, 0, 4},
                                  {3, 4, 0},
                                  {1, 1, 1},
                                  {1, 7, 5},
                                  {5, 1, 9},
                                  {64, 64, 16},
                                  {65, 130, 33}}) {
      for (int variant = 0; variant < 16; ++variant) {
        product(bench, {.m = m, .n = n, .k = k, .transpose_a = (variant & 1) != 0, .transpose_b = (variant & 2) != 0},
                types, (variant & 4) != 0, (variant & 8) != 0);
      }
    }
  }
}

void batches(Bench& bench) {
  for (const Types& types : kTypes) {
    for (int variant = 0; variant < 4; ++variant) {
      MatmulShape s = {.m = 7, .n = 18, .k = 11, .lda = 23, .ldb = 29, .ldc = 31, .batch = 3};
      s.transpose_a = (variant & 1) != 0;
      s.transpose_b = (variant & 2) != 0;
      s.stride_a = 13;
      s.stride_b = 5;
      s.stride_c = 31 * 7;
      product(bench, s, types, true, true);
      product(bench, s, types, false, false);
    }
  }
}

// 1 + 2 · 2^-9 lies between 1 and the next bf16, 1 + 2^-7, and goes to the even one, 1; with one more 2^-9 it is nearer
// to 1 + 2^-7. Rounded after every term all would be lost.
void terms(Bench& bench) {
  const Array a(bench, Dtype::bf16, {1, 0x1p-9, 0x1p-9, 0x1p-9}), b(bench, Dtype::bf16, {1, 1, 1, 1});
  const Array c = Array::unset(bench, Dtype::bf16, 1);
  const MatmulShape one = {.m = 1, .n = 1, .k = 1};
  matmul_plain(bench.stream(), one, {3, 1, 1}, a, b, {}, c, false);
  bench.expect_exact("three terms", c, {1.0});
  matmul_plain(bench.stream(), one, {4, 1, 1}, a, b, {}, c, false);
  bench.expect_exact("four terms", c, {1.0 + 0x1p-7});
}

// A product in bf16 may be rounded before gelu, or not.
void epilogues(Bench& bench) {
  for (const Dtype d : {Dtype::fp64, Dtype::fp32, Dtype::bf16}) {
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{0, 3, 4}, {1, 1, 1}, {65, 136, 40}}) {
      for (const bool with_bias : {false, true}) {
        const MatmulShape s = MatmulShape::linear(m, k, n);
        const Array a = Array::random(bench, d, m * k, 1), b = Array::random(bench, d, n * k, 2),
                    bias = Array::random(bench, d, n, 3), given = Array::random(bench, d, m * n, 4),
                    x = Array::unset(bench, d, m * n), y = Array::unset(bench, d, m * n),
                    dx = Array::unset(bench, d, m * n);
        Doubles ex(static_cast<std::size_t>(m * n)), ey = ex, edx = ex, dy = ex;
        reference::matmul(s, a.given().data(), b.given().data(), with_bias ? bias.given().data() : nullptr, ex.data(),
                          false);
        reference::activation_forward(Activation::gelu, m, n, ex.data(), ey.data());
        reference::matmul(s, a.given().data(), b.given().data(), static_cast<const double*>(nullptr), dy.data(), false);
        reference::activation_backward(Activation::gelu, m, n, given.given().data(), dy.data(), edx.data());
        matmul_gelu(bench.stream(), s, a, b, with_bias ? ConstTensor(bias) : ConstTensor{}, x, y);
        matmul_gelu_backward(bench.stream(), s, a, b, given, dx);
        const double factor = d == Dtype::bf16 ? 500 : 1;  // a rounding to bf16 more: 2^-8 is 400 times 1e-5
        bench.expect("matmul_gelu, product", x, ex);
        bench.expect("matmul_gelu", y, ey, factor);
        bench.expect("matmul_gelu_backward", dx, edx, factor);
      }
    }
  }
}

constexpr Check kChecks[] = {{"matmul, layouts", layouts},
                             {"matmul, batches", batches},
                             {"matmul, terms", terms},
                             {"matmul, epilogues", epilogues},
                             {"matmul, epilogues, in packs", in_packs<epilogues>}};

}  // namespace

std::span<const Check> matmul_checks() {
  return kChecks;
}

}  // namespace foretrain::kernels::cuda
