#include "base/error.h"
#include "exec/cuda.h"

namespace foretrain::exec {

CudaState cuda_state() {
  return {false, false, "this program was built without it",
          "install NVIDIA's CUDA toolkit 13, so that nvcc is on the PATH, and build again"};
}

std::unique_ptr<Gpu> open_cuda(int, bool) {
  const CudaState state = cuda_state();
  throw EnvironmentError(fmt::format("CUDA: {}; {}", state.detail, state.remedy));
}

}  // namespace foretrain::exec
