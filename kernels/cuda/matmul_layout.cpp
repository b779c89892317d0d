#include "kernels/cuda/matmul_layout.h"

namespace foretrain::kernels::cuda {

namespace {

// A matrix that is row-major [rows, cols].
ColumnMatrix stored(Dtype dtype, std::int64_t rows, std::int64_t cols, std::int64_t ld, std::int64_t stride) {
  return {dtype, cols, rows, ld != 0 ? ld : cols, stride};
}

bool has_product(Dtype a, Dtype b, std::optional<Dtype> bias, Dtype c) {
  return a == b && (c == a || c == wide(a)) && (!bias || (*bias == c && c != Dtype::fp64));
}

bool has_epilogue(const MatmulShape& s, Dtype a, Dtype c, Epilogue epilogue) {
  return epilogue == Epilogue::none || (a == Dtype::bf16 && c == Dtype::bf16 && s.n % 8 == 0);
}

}  // namespace

std::optional<ColumnProduct> column_product(const MatmulShape& s, Dtype a, Dtype b, std::optional<Dtype> bias, Dtype c,
                                            bool accumulate, Epilogue epilogue) {
  if (s.k == 0 || !has_product(a, b, bias, c) || !has_epilogue(s, a, c, epilogue)) {
    return std::nullopt;
  }
  return ColumnProduct{
      .left = s.transpose_b ? stored(b, s.n, s.k, s.ldb, s.stride_b) : stored(b, s.k, s.n, s.ldb, s.stride_b),
      .right = s.transpose_a ? stored(a, s.k, s.m, s.lda, s.stride_a) : stored(a, s.m, s.k, s.lda, s.stride_a),
      .out = stored(c, s.m, s.n, s.ldc, s.stride_c),
      .transpose_left = s.transpose_b,
      .transpose_right = s.transpose_a,
      .batch = s.batch,
      .arithmetic = a == Dtype::bf16 ? Dtype::fp32 : a,
      .bias = bias.has_value(),
      .accumulate = accumulate,
      .epilogue = epilogue};
}

}  // namespace foretrain::kernels::cuda
