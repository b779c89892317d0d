// Matrix products by cuBLASLt. A product's plan (descriptors and algorithm) is made when its shape, types and alignment
// are first met, and kept.
#pragma once

#include <memory>

#include "kernels/cuda/libraries.h"

namespace foretrain::kernels::cuda {

class Cublas {
 public:
  explicit Cublas(AlgorithmChoice choice);
  ~Cublas();

  // As Libraries::matmul.
  bool matmul(const Stream& stream, const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
              bool accumulate);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace foretrain::kernels::cuda
