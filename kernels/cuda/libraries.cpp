#include "kernels/cuda/libraries.h"

#include "kernels/cuda/cublas.h"
#include "kernels/cuda/cudnn_attention.h"

namespace foretrain::kernels::cuda {

namespace {

class OfDevice final : public Libraries {
 public:
  explicit OfDevice(Order order) : cudnn_(order) {}

  bool matmul(const Stream& stream, const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
              bool accumulate, const Behind& behind) override {
    return cublas_.matmul(stream, shape, a, b, bias, c, accumulate, behind);
  }
  bool attention_forward(const Stream& stream, const AttentionShape& shape, ConstTensor qkv, Tensor o,
                         Tensor lse) override {
    return cudnn_.forward(stream, shape, qkv, o, lse);
  }
  bool attention_backward(const Stream& stream, const AttentionShape& shape, ConstTensor qkv, ConstTensor o,
                          ConstTensor lse, ConstTensor d_o, Tensor dqkv) override {
    return cudnn_.backward(stream, shape, qkv, o, lse, d_o, dqkv);
  }
  const std::vector<std::string>& refused() const override { return cudnn_.refused(); }

 private:
  Cublas cublas_;
  CudnnAttention cudnn_;
};

}  // namespace

std::unique_ptr<Libraries> open_libraries(Order order) {
  return std::make_unique<OfDevice>(order);
}

}  // namespace foretrain::kernels::cuda
