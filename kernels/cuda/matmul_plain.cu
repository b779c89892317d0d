// c[kTile, kTile] per block: both operands come through shared memory kDepth steps at a time, every thread has 4 x 4.
#include "kernels/cuda/device_code.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr int kTile = 64;
constexpr int kDepth = 16;
constexpr int kSide = 16;
constexpr int kEach = kTile / kSide;
constexpr unsigned kThreads = kSide * kSide;

// One operand: `line` elements from one row of the result (of its columns for b) to the next, `step` along k.
template <class T>
struct Operand {
  const T* at;
  std::int64_t lines, line, step, stride, term;
};

template <class TA, class TB>
struct Product {
  Operand<TA> a;
  Operand<TB> b;
  std::int64_t k, terms, ldc, stride_c;
  AnyTensor bias, c;
  bool accumulate;
};

// Neighbouring threads read neighbouring elements, whichever way the matrix is stored.
template <class T, class W>
__device__ void load_tile(const Operand<T>& from, const T* matrix, std::int64_t line, std::int64_t step,
                          std::int64_t steps, W (&to)[kTile][kDepth + 1]) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += kThreads) {
    const int l = from.step == 1 ? i / kDepth : i % kTile;
    const int s = from.step == 1 ? i % kDepth : i / kTile;
    to[l][s] = line + l < from.lines && step + s < steps
                   ? widen(matrix[(line + l) * from.line + (step + s) * from.step])
                   : W{0};
  }
}

template <class TA, class TB>
__global__ void __launch_bounds__(kThreads, 1) product_kernel(Product<TA, TB> p, int tiles_m, int tiles_n) {
  using W = Wide<TA>;
  __shared__ W a[kTile][kDepth + 1], b[kTile][kDepth + 1];
  const int matrix = static_cast<int>(blockIdx.x) / tiles_n / tiles_m;
  const std::int64_t row = static_cast<int>(blockIdx.x) / tiles_n % tiles_m * kTile;
  const std::int64_t col = static_cast<int>(blockIdx.x) % tiles_n * kTile;
  const int thread_row = static_cast<int>(threadIdx.x) / kSide * kEach,
            thread_col = static_cast<int>(threadIdx.x) % kSide;
  W sum[kEach][kEach] = {};
  for (std::int64_t term = 0; term < p.terms; ++term) {
    for (std::int64_t step = 0; step < p.k; step += kDepth) {
      __syncthreads();
      load_tile(p.a, p.a.at + matrix * p.a.stride + term * p.a.term, row, step, p.k, a);
      load_tile(p.b, p.b.at + matrix * p.b.stride + term * p.b.term, col, step, p.k, b);
      __syncthreads();
      FORETRAIN_UNROLL
      for (int d = 0; d < kDepth; ++d) {
        FORETRAIN_UNROLL
        for (int i = 0; i < kEach; ++i) {
          FORETRAIN_UNROLL
          for (int j = 0; j < kEach; ++j) {
            sum[i][j] += a[thread_row + i][d] * b[thread_col + j * kSide][d];
          }
        }
      }
    }
  }
  FORETRAIN_UNROLL
  for (int i = 0; i < kEach; ++i) {
    FORETRAIN_UNROLL
    for (int j = 0; j < kEach; ++j) {
      const std::int64_t r = row + thread_row + i, c = col + thread_col + j * kSide;
      if (r < p.a.lines && c < p.b.lines) {
        const std::int64_t at = matrix * p.stride_c + r * p.ldc + c;
        W x = sum[i][j];
        if (p.bias.data != nullptr) {
          x += p.bias.template load<W>(c);
        }
        if (p.accumulate) {
          x += p.c.template load<W>(at);
        }
        p.c.store(at, x);
      }
    }
  }
}

std::int64_t dense(std::int64_t ld, std::int64_t cols) {
  return ld != 0 ? ld : cols;
}

template <class TA, class TB>
void run(const Stream& stream, const MatmulShape& s, const Terms& terms, ConstTensor a, ConstTensor b, ConstTensor bias,
         Tensor c, bool accumulate) {
  const std::int64_t lda = dense(s.lda, s.transpose_a ? s.m : s.k), ldb = dense(s.ldb, s.transpose_b ? s.k : s.n);
  const Product<TA, TB> product = {
      .a = {as<TA>(a), s.m, s.transpose_a ? 1 : lda, s.transpose_a ? lda : 1, s.stride_a, terms.stride_a},
      .b = {as<TB>(b), s.n, s.transpose_b ? ldb : 1, s.transpose_b ? 1 : ldb, s.stride_b, terms.stride_b},
      .k = s.k,
      .terms = terms.count,
      .ldc = dense(s.ldc, s.n),
      .stride_c = s.stride_c,
      .bias = any(bias),
      .c = any(c),
      .accumulate = accumulate};
  const std::int64_t tiles_m = ceil_div(s.m, std::int64_t{kTile}), tiles_n = ceil_div(s.n, std::int64_t{kTile});
  launch(&product_kernel<TA, TB>, {static_cast<unsigned>(tiles_m * tiles_n * s.batch)}, {kThreads}, stream, product,
         static_cast<int>(tiles_m), static_cast<int>(tiles_n));
}

}  // namespace

void matmul_plain(const Stream& stream, const MatmulShape& s, const Terms& terms, ConstTensor a, ConstTensor b,
                  ConstTensor bias, Tensor c, bool accumulate) {
  if (wide(a.dtype) == Dtype::fp64) {
    run<double, double>(stream, s, terms, a, b, bias, c, accumulate);
    return;
  }
  with_stored(a.dtype, [&](auto ta) {
    with_stored(b.dtype, [&](auto tb) {
      run<typename decltype(ta)::type, typename decltype(tb)::type>(stream, s, terms, a, b, bias, c, accumulate);
    });
  });
}

}  // namespace foretrain::kernels::cuda
