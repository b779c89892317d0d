#include "cli/device.h"

#include "exec/cuda.h"

namespace foretrain::cli {

void DeviceArguments::add_to(Options& options) {
  options.word("device", &word, {"cpu", "cuda"},
               "what ranks compute on: a core each; or an NVIDIA GPU, which those of one process share [cpu]");
}

std::unique_ptr<exec::Gpu> DeviceArguments::open(const exec::Processes& processes) const {
  if (!is_gpu()) {
    return nullptr;
  }
  int before = 0;  // processes on this host
  for (int p = 0; p < processes.number(); ++p) {
    before += processes.same_host(p, processes.number()) ? 1 : 0;
  }
  return exec::open_cuda(before);
}

}  // namespace foretrain::cli
