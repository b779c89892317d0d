#include <dlfcn.h>

#include <filesystem>

#include "base/error.h"
#include "exec/cuda_module.h"

namespace foretrain::exec {

namespace {

// The module stands beside the executable, or where it was built.
void* find_module(std::string* why) {
  std::error_code error;
  const std::filesystem::path executable = std::filesystem::read_symlink("/proc/self/exe", error);
  void* module = nullptr;
  for (const std::filesystem::path& folder : {executable.parent_path(), std::filesystem::path(FORETRAIN_MODULE_DIR)}) {
    module = module != nullptr ? module : ::dlopen((folder / kCudaModule).c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  if (module == nullptr) {
    *why = ::dlerror();
  }
  return module;
}

template <class Function>
Function find(void* module, const char* name) {
  void* const symbol = ::dlsym(module, name);
  CHECK(symbol != nullptr, "{} has no {}", kCudaModule, name);
  return reinterpret_cast<Function>(symbol);
}

}  // namespace

CudaState cuda_state() {
  CudaState state{true, false, "", "its libraries, cuBLASLt and cuDNN, come with NVIDIA's CUDA toolkit 13 and cuDNN 9"};
  if (void* const module = find_module(&state.detail)) {
    find<CudaStateFunction>(module, kCudaState)(&state);
  }
  return state;
}

std::unique_ptr<Gpu> open_cuda(int index, bool deterministic) {
  const CudaState state = cuda_state();
  if (!state.is_usable) {
    throw EnvironmentError(fmt::format("CUDA: {}; {}", state.detail, state.remedy));
  }
  std::string why;
  return std::unique_ptr<Gpu>(find<OpenCudaFunction>(find_module(&why), kOpenCuda)(index, deterministic));
}

}  // namespace foretrain::exec
