// Part of the CUDA module: what there is on this machine.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <array>

#include "exec/cuda_check.h"
#include "exec/cuda_module.h"

namespace foretrain::exec {

namespace {

constexpr int kLeastDriver = 580;  // NVIDIA's release of CUDA 13.0

// A library that may be absent, and a function of it, declared here so that its headers may be too.
template <class Function>
Function find(void* library, const char* name) {
  return library == nullptr ? nullptr : reinterpret_cast<Function>(::dlsym(library, name));
}

CudaVersions find_versions(int driver, int runtime) {
  CudaVersions v;
  v.driver = driver;
  v.runtime = runtime;
  v.cublas = static_cast<int>(cublasLtGetVersion());
  void* const cudnn = ::dlopen("libcudnn.so.9", RTLD_LAZY | RTLD_LOCAL);
  if (const auto version = find<std::size_t (*)()>(cudnn, "cudnnGetVersion")) {
    v.cudnn = static_cast<int>(version());
  }
  if (const auto version = find<std::size_t (*)()>(cudnn, "cudnnGetCudartVersion")) {
    v.cudnn_runtime = static_cast<int>(version());
  }
  void* const nccl = ::dlopen("libnccl.so.2", RTLD_LAZY | RTLD_LOCAL);
  if (const auto version = find<int (*)(int*)>(nccl, "ncclGetVersion")) {
    version(&v.nccl);
  }
  return v;
}

// What the driver's management library alone knows.
void ask_nvml(CudaState& state) {
  void* const nvml = ::dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL);
  const auto begin = find<int (*)()>(nvml, "nvmlInit_v2");
  const auto release = find<int (*)(char*, unsigned)>(nvml, "nvmlSystemGetDriverVersion");
  const auto device = find<int (*)(const char*, void**)>(nvml, "nvmlDeviceGetHandleByPciBusId_v2");
  const auto link_state = find<int (*)(void*, unsigned, int*)>(nvml, "nvmlDeviceGetNvLinkState");
  if (begin == nullptr || release == nullptr || device == nullptr || link_state == nullptr || begin() != 0) {
    return;
  }
  std::array<char, 96> text{};
  if (release(text.data(), static_cast<unsigned>(text.size() - 1)) == 0) {
    state.versions.release = text.data();
  }
  constexpr unsigned kMostLinks = 18;
  for (std::size_t i = 0; i < state.devices.size(); ++i) {
    std::array<char, 32> bus{};
    void* handle = nullptr;
    check_cuda("cudaDeviceGetPCIBusId",
               cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), static_cast<int>(i)));
    for (unsigned link = 0; device(bus.data(), &handle) == 0 && link < kMostLinks; ++link) {
      int is_up = 0;
      state.devices[i].nvlinks += link_state(handle, link, &is_up) == 0 && is_up == 1 ? 1 : 0;
    }
  }
}

CudaState find_state() {
  CudaState state;
  state.is_built = true;
  int driver = 0, runtime = 0, devices = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) {
    driver = 0;
  }
  check_cuda("cudaRuntimeGetVersion", cudaRuntimeGetVersion(&runtime));
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (driver == 0) {
    state.detail = "this machine has no NVIDIA driver (libcuda.so.1)";
    state.remedy = fmt::format("install the driver of its GPU, release {} or newer", kLeastDriver);
    return state;
  }
  if (driver / 1000 < runtime / 1000) {
    state.detail = fmt::format("the NVIDIA driver is of CUDA {}, and this program of {}", cuda_version_text(driver),
                               cuda_version_text(runtime));
    state.remedy = fmt::format("install driver release {} or newer", kLeastDriver);
    return state;
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && devices == 0)) {
    state.detail = "the NVIDIA driver shows this process no GPU";
    state.remedy = "nvidia-smi lists those that there are; CUDA_VISIBLE_DEVICES or a container may hide them";
    return state;
  }
  if (error != cudaSuccess) {
    state.detail = fmt::format("{} ({})", cudaGetErrorString(error), cudaGetErrorName(error));
    state.remedy = "nvidia-smi and the kernel's log may say more";
    return state;
  }
  for (int device = 0; device < devices; ++device) {
    cudaDeviceProp properties{};
    check_cuda("cudaGetDeviceProperties", cudaGetDeviceProperties(&properties, device));
    state.devices.push_back({properties.name, Bytes{static_cast<std::int64_t>(properties.totalGlobalMem)},
                             properties.major, properties.minor, 0});
  }
  state.versions = find_versions(driver, runtime);
  ask_nvml(state);
  const CudaDevice& first = state.devices.front();
  state.detail = fmt::format("{} ({}, compute capability {}.{}), {} in all; driver of CUDA {}, runtime {}, cuBLASLt {}",
                             first.name, to_string(first.memory), first.major, first.minor, devices,
                             cuda_version_text(driver), cuda_version_text(runtime), cublasLtGetVersion());
  state.is_usable = first.major >= kLeastMajor;
  if (!state.is_usable) {
    state.remedy = least_major_text();
  }
  return state;
}

}  // namespace

extern "C" void foretrain_cuda_state(CudaState* state) {
  *state = find_state();
}

}  // namespace foretrain::exec
