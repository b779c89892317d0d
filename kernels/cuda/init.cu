// Philox is a function of the element's index: a thread for each element.
#include <cmath>

#include "kernels/arguments.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/with_type.h"
#include "kernels/philox.h"

namespace foretrain::kernels::cuda {

namespace {

struct Normal {
  double standard_deviation;

  __device__ double operator()(UniformPair u, bool second) const {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - u.first));
    const CosSin direction = cos_sin_of_turns(u.second);
    return standard_deviation * radius * (second ? direction.sin : direction.cos);
  }
};

struct Uniform {
  double low, high;

  __device__ double operator()(UniformPair u, bool second) const {
    return low + (high - low) * (second ? u.second : u.first);
  }
};

template <class T, class Value>
__global__ void draw(InitShape s, Value value, T* x) {
  each_element(
      s.rows * s.cols,
      [=](int64_t i) {
        const Place at = place_of(i, s.cols);
        const auto element =
            static_cast<std::uint64_t>((s.row_offset + at.row) * s.global_cols + s.col_offset + at.col);
        return value(philox_uniform(s.seed, element / 2, s.tensor), element % 2 != 0);
      },
      [=](int64_t i, double drawn) { x[i] = narrow<T>(drawn); });
}

template <class Value>
void draw_all(const Stream& stream, const InitShape& s, Value value, Tensor x) {
  with_type(x.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    launch(draw<T, Value>, {blocks_of(s.rows * s.cols, kBlockElements)}, {kThreads}, stream, s, value, as<T>(x));
  });
}

}  // namespace

void init_normal(const Stream& stream, const InitShape& s, double standard_deviation, Tensor x) {
  arguments::init_normal(s, standard_deviation, x);
  draw_all(stream, s, Normal{standard_deviation}, x);
}

void init_uniform(const Stream& stream, const InitShape& s, double low, double high, Tensor x) {
  arguments::init_uniform(s, low, high, x);
  draw_all(stream, s, Uniform{low, high}, x);
}

}  // namespace foretrain::kernels::cuda
