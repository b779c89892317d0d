#include "cli/device.h"

#include "exec/cuda.h"

namespace foretrain::cli {

void DeviceArguments::add_to(Options& options) {
  options.word("device", &word, {"cpu", "cuda"},
               "what ranks compute on: a core each, or an NVIDIA GPU that they share [cpu]");
}

std::unique_ptr<exec::Gpu> DeviceArguments::open() const {
  return is_gpu() ? exec::open_cuda() : nullptr;
}

}  // namespace foretrain::cli
