#include "kernels/arguments.h"
#include "kernels/cuda/expert_rows.h"
#include "kernels/cuda/kernels.h"

namespace foretrain::kernels::cuda {

namespace {

__device__ int64_t rows_of(const ExpertBiasShape& s, const int32_t* offsets) {
  return s.experts == 0 ? s.rows : offsets[s.experts];
}
__device__ int64_t bias_row(const ExpertBiasShape& s, const int32_t* offsets, int64_t row) {
  return s.experts == 0 ? 0 : expert_of(offsets, s.experts, row);
}
__device__ double weight_of(const AnyTensor& weights, int64_t row) {
  return weights.data == nullptr ? 1.0 : weights.load<double>(row);
}

__global__ void __launch_bounds__(kThreads)
    forward(ExpertBiasShape s, const int32_t* offsets, AnyTensor bias, AnyTensor weights, AnyTensor y) {
  const int64_t rows = rows_of(s, offsets);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const int64_t e = bias_row(s, offsets, r);
    const double weight = s.scale * weight_of(weights, r);
    for (int64_t c = threadIdx.x; c < s.cols; c += kThreads) {
      const double sum = y.load<double>(r * s.cols + c) + weight * bias.load<double>(e * s.cols + c);
      y.store(r * s.cols + c, sum);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    backward_weights(ExpertBiasShape s, const int32_t* offsets, AnyTensor dy, AnyTensor bias, AnyTensor dweights) {
  const int64_t rows = rows_of(s, offsets);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const int64_t e = bias_row(s, offsets, r);
    double sum = 0;
    for (int64_t c = threadIdx.x; c < s.cols; c += kThreads) {
      sum += dy.load<double>(r * s.cols + c) * bias.load<double>(e * s.cols + c);
    }
    sum = over_block(Sum{}, sum);
    if (threadIdx.x == 0) {
      dweights.store(r, dweights.load<double>(r) + s.scale * sum);
    }
  }
}

// A block for kWarp columns of an expert: its warps take rows in turns.
__global__ void __launch_bounds__(kThreads)
    gradient(ExpertBiasShape s, const int32_t* offsets, AnyTensor dy, AnyTensor weights, AnyTensor dbias) {
  __shared__ double of_warp[kWarps][kWarp];
  const int64_t e = blockIdx.y, c = int64_t{blockIdx.x} * kWarp + lane();
  const int64_t first = s.experts == 0 ? 0 : offsets[e];
  const int64_t past = s.experts == 0 ? s.rows : offsets[e + 1];
  double sum = 0;
  for (int64_t r = first + warp(); c < s.cols && r < past; r += kWarps) {
    sum += weight_of(weights, r) * dy.load<double>(r * s.cols + c);
  }
  of_warp[warp()][lane()] = sum;
  __syncthreads();
  if (warp() == 0 && c < s.cols) {
    for (unsigned w = 1; w < kWarps; ++w) {
      sum += of_warp[w][lane()];
    }
    dbias.store(e * s.cols + c, dbias.load<double>(e * s.cols + c) + sum);
  }
}

}  // namespace

void expert_bias_forward(const Stream& stream, const ExpertBiasShape& s, const int32_t* offsets, ConstTensor bias,
                         ConstTensor weights, Tensor y) {
  arguments::expert_bias_forward(s, offsets, bias, weights, y);
  launch(forward, {kTurnBlocks}, {kThreads}, stream, s, offsets, any(bias), any(weights), any(y));
}

void expert_bias_backward_weights(const Stream& stream, const ExpertBiasShape& s, const int32_t* offsets,
                                  ConstTensor dy, ConstTensor bias, Tensor dweights) {
  arguments::expert_bias_backward_weights(s, offsets, dy, bias, dweights);
  launch(backward_weights, {kTurnBlocks}, {kThreads}, stream, s, offsets, any(dy), any(bias), any(dweights));
}

void expert_bias_gradient(const Stream& stream, const ExpertBiasShape& s, const int32_t* offsets, ConstTensor dy,
                          ConstTensor weights, Tensor dbias) {
  arguments::expert_bias_gradient(s, offsets, dy, weights, dbias);
  const Extent grid{blocks_of(s.cols, kWarp), static_cast<unsigned>(s.experts == 0 ? 1 : s.experts)};
  launch(gradient, grid, {kThreads}, stream, s, offsets, any(dy), any(weights), any(dbias));
}

}  // namespace foretrain::kernels::cuda
