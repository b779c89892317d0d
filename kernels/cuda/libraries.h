// What NVIDIA's libraries compute on a stream: matrix products by cuBLASLt, attention by cuDNN. A launcher asks them
// first, if its stream has them, and takes our own kernel where they have nothing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/stream.h"
#include "kernels/kernels.h"

namespace foretrain::kernels::cuda {

// What a product does before it writes c: nothing; c = gelu of the product, which goes to x (kernels.h: matmul_gelu);
// the product times gelu's slope at x. x is of c's shape and type.
enum class Epilogue : std::uint8_t { none, gelu, gelu_backward };
struct Behind {
  Epilogue epilogue = Epilogue::none;
  void* x = nullptr;
};

// Of one device, for one thread at a time. A function returns false, having done nothing, where the library has no such
// product or attention; what fails is an EnvironmentError.
class Libraries {
 public:
  virtual ~Libraries() = default;

  virtual bool matmul(const Stream& stream, const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias,
                      Tensor c, bool accumulate, const Behind& behind) = 0;
  virtual bool attention_forward(const Stream& stream, const AttentionShape& shape, ConstTensor qkv, Tensor o,
                                 Tensor lse) = 0;
  virtual bool attention_backward(const Stream& stream, const AttentionShape& shape, ConstTensor qkv, ConstTensor o,
                                  ConstTensor lse, ConstTensor d_o, Tensor dqkv) = 0;
  // The bf16 attentions that went to our own kernel instead, and why: a sentence for each shape, once.
  virtual const std::vector<std::string>& refused() const = 0;
};

// Whether everything is added up in the same order in every run: cuDNN's backward of attention, which does not, is then
// not asked.
enum class Order : std::uint8_t { fixed, any };

// Of the current device.
std::unique_ptr<Libraries> open_libraries(Order order);

}  // namespace foretrain::kernels::cuda
