// Stands in for cudnn_attention.cpp where cuDNN was absent at build time.
#include "kernels/cuda/cudnn_attention.h"

namespace foretrain::kernels::cuda {

struct CudnnAttention::State {
  std::vector<std::string> refused = {"cuDNN was absent when this was built: attention runs on kernels of our own"};
};

CudnnAttention::CudnnAttention(Order) : state_(std::make_unique<State>()) {}

CudnnAttention::~CudnnAttention() = default;

const std::vector<std::string>& CudnnAttention::refused() const {
  return state_->refused;
}

bool CudnnAttention::forward(const Stream&, const AttentionShape&, ConstTensor, Tensor, Tensor) {
  return false;
}

bool CudnnAttention::backward(const Stream&, const AttentionShape&, ConstTensor, ConstTensor, ConstTensor, ConstTensor,
                              Tensor) {
  return false;
}

}  // namespace foretrain::kernels::cuda
