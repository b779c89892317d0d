#include "kernels/arguments.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

template <class T>
struct Element {
  const T* dy;
  int64_t cols;

  __device__ Sums<Wide<T>, 1> operator()(int64_t row, int64_t col) const { return {{widen(dy[row * cols + col])}}; }
};

}  // namespace

void bias_gradient(const Stream& stream, int64_t rows, int64_t cols, ConstTensor dy, Tensor db, bool accumulate) {
  arguments::bias_gradient(rows, cols, dy, db, accumulate);
  with_type(dy.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    sum_columns<Wide<T>, 1>(stream, rows, cols, Element<T>{as<T>(dy), cols}, {{as<Wide<T>>(db)}}, accumulate);
  });
}

}  // namespace foretrain::kernels::cuda
