// Matrix products by cuBLASLt. A product's plan (descriptors and algorithm) is made when its shape, types and alignment
// are first met, and kept. The algorithm is the one that its heuristic puts first: a choice by timing would differ from
// run to run, and with it the last bits of the results.
#pragma once

#include <memory>

#include "kernels/cuda/libraries.h"

namespace foretrain::kernels::cuda {

class Cublas {
 public:
  Cublas();
  ~Cublas();

  // As Libraries::matmul.
  bool matmul(const Stream& stream, const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c,
              bool accumulate, const Behind& behind);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace foretrain::kernels::cuda
