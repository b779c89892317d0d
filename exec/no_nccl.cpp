#include "base/error.h"
#include "exec/nccl.h"

namespace foretrain::exec {

std::unique_ptr<CollectiveLibrary> open_nccl(void* (*)(GpuStream)) {
  throw EnvironmentError(
      "NCCL: this program was built without it; install its header nccl.h beside CUDA's and build again");
}

}  // namespace foretrain::exec
