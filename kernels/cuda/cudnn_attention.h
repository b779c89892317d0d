// Attention by cuDNN. A shape's plan is made when it is first met, and kept. Without cuDNN at build time it refuses
// everything (no_cudnn_attention.cpp).
//
// Which attention is cuDNN's, and which is left to our own kernels, is decided here: of packed bf16 rows in whole
// pieces of 16 bytes, without window and documents, what it has an engine for on the device; of these the backward
// where its sums need no fixed order. That takes fp32 sums of dq in the workspace, and so much of a batch at a time as
// has room there; for a fixed order it would need as many numbers as there are scores.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/libraries.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

class CudnnAttention {
 public:
  explicit CudnnAttention(Order order);
  ~CudnnAttention();

  // As of Libraries.
  bool forward(const Stream& stream, const AttentionShape& shape, ConstTensor qkv, Tensor o, Tensor lse);
  bool backward(const Stream& stream, const AttentionShape& shape, ConstTensor qkv, ConstTensor o, ConstTensor lse,
                ConstTensor d_o, Tensor dqkv);
  const std::vector<std::string>& refused() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace foretrain::kernels::cuda
