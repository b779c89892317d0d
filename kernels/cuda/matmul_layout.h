// How a row-major product is put to cuBLASLt, which stores matrices by columns: a row-major [r, c] is its [c, r], so it
// is asked for C^T = op(B)^T op(A)^T. Its left matrix is our b, its right one our a, and nothing is copied.
#pragma once

#include <compare>
#include <optional>

#include "kernels/cuda/libraries.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

// As stored: `ld` elements from column to column, `stride` from one of the batch to the next.
struct ColumnMatrix {
  Dtype dtype = Dtype::fp32;
  std::int64_t rows = 0, cols = 0, ld = 0, stride = 0;
  auto operator<=>(const ColumnMatrix&) const = default;
};

// out [n, m] = op(left) op(right) (+ bias by row) (+ out), and the epilogue, whose x lies as out does.
struct ColumnProduct {
  ColumnMatrix left, right, out;
  bool transpose_left = false, transpose_right = false;
  std::int64_t batch = 1;
  Dtype arithmetic = Dtype::fp32;  // fp64, fp32 (also of bf16 operands), or tf32
  bool bias = false;               // of out's type
  bool accumulate = false;
  Epilogue epilogue = Epilogue::none;
  auto operator<=>(const ColumnProduct&) const = default;
};

// None where cuBLASLt has no such product: operands of two types, fp32 operands with a bf16 result, a bias with
// fp64 or of another type than the result's, or no k to sum over; an epilogue but of bf16 in rows of multiples of 8.
std::optional<ColumnProduct> column_product(const MatmulShape& shape, Dtype a, Dtype b, std::optional<Dtype> bias,
                                            Dtype c, bool accumulate, Epilogue epilogue = Epilogue::none);

}  // namespace foretrain::kernels::cuda
