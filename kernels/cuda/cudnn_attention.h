// The forward of attention by cuDNN. A shape's plan is made when it is first met, and kept. Without cuDNN at build time
// it refuses everything (no_cudnn_attention.cpp).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/stream.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

class CudnnAttention {
 public:
  CudnnAttention();
  ~CudnnAttention();

  // As Libraries::attention_forward.
  bool forward(const Stream& stream, const AttentionShape& shape, ConstTensor qkv, Tensor o, Tensor lse);
  const std::vector<std::string>& refused() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace foretrain::kernels::cuda
