#include "kernels/arguments.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

namespace {

template <int kPack, class T>
struct Element {
  const T* dy;
  int64_t cols;

  __device__ auto operator()(int64_t row, int64_t col) const {
    const auto values = read<kPack>(dy + row * cols + col);
    return each_of_pack<kPack>([&](int k) { return Sums<Wide<T>, 1>{{values.of[k]}}; });
  }
};

}  // namespace

void bias_gradient(const Stream& stream, int64_t rows, int64_t cols, ConstTensor dy, Tensor db, bool accumulate) {
  arguments::bias_gradient(rows, cols, dy, db, accumulate);
  with_type(dy.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    with_pack<T>(cols, {dy.data}, [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      sum_columns<kPack, Wide<T>, 1>(stream, rows, cols, Element<kPack, T>{as<T>(dy), cols}, {{as<Wide<T>>(db)}},
                                     accumulate);
    });
  });
}

}  // namespace foretrain::kernels::cuda
