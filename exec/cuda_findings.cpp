#include <fmt/format.h>

#include "exec/cuda.h"

namespace foretrain::exec {

namespace {

constexpr int kLeastNccl = 21800;  // communicators that do not block

// Both have two digits for the minor version and for the patch; cuBLAS has four in all for what follows the major one.
std::string text(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

CudaFinding driver(const CudaVersions& v) {
  CudaFinding f{
      "driver", v.driver / 1000 >= v.runtime / 1000,
      fmt::format("release {}, of CUDA {}; this program's runtime is of {}", v.release.empty() ? "unknown" : v.release,
                  cuda_version_text(v.driver), cuda_version_text(v.runtime)),
      ""};
  f.remedy =
      f.is_good ? "" : fmt::format("install a driver of CUDA {} or newer", cuda_version_text(v.runtime / 1000 * 1000));
  return f;
}

CudaFinding device(std::size_t index, const CudaDevice& d) {
  const bool is_good = d.major >= kLeastMajor;
  return {fmt::format("GPU {}", index), is_good,
          fmt::format("{}, {}, compute capability {}.{}", d.name, to_string(d.memory), d.major, d.minor),
          is_good ? "" : least_major_text()};
}

CudaFinding links(const std::vector<CudaDevice>& devices) {
  std::string all;
  bool is_good = true;
  for (const CudaDevice& d : devices) {
    all += fmt::format("{}{}", all.empty() ? "" : ", ", d.nvlinks);
    is_good = is_good && d.nvlinks == devices.front().nvlinks;
  }
  if (is_good && devices.front().nvlinks == 0) {
    return {"NVLink", false, "none: the GPUs exchange over PCIe", ""};
  }
  return {"NVLink", is_good, fmt::format("links that are up, by GPU: {}", all),
          is_good ? "" : "GPUs of one machine have equally many; nvidia-smi nvlink --status shows those that are down"};
}

CudaFinding cublas(const CudaVersions& v) {
  const bool is_good = v.cublas / 10000 == v.runtime / 1000;
  return {"cuBLASLt", is_good, text(v.cublas),
          is_good ? "" : fmt::format("install the one of CUDA {}", v.runtime / 1000)};
}

CudaFinding cudnn(const CudaVersions& v) {
  if (v.cudnn == 0) {
    return {"cuDNN", false, "libcudnn.so.9 was not found", "attention runs by our own kernels; faster with cuDNN 9"};
  }
  const bool is_good = v.cudnn_runtime / 1000 == v.runtime / 1000;
  return {
      "cuDNN", is_good, fmt::format("{}, of CUDA {}", text(v.cudnn), cuda_version_text(v.cudnn_runtime)),
      is_good ? "" : fmt::format("install the one of CUDA {} (libcudnn9-cuda-{})", v.runtime / 1000, v.runtime / 1000)};
}

CudaFinding nccl(const CudaVersions& v, bool is_needed) {
  if (v.nccl == 0) {
    return {"NCCL", false, "libnccl.so.2 was not found",
            is_needed ? "ranks on several GPUs need it: install libnccl2, 2.18 or later" : ""};
  }
  const bool is_good = v.nccl >= kLeastNccl;
  return {"NCCL", is_good, text(v.nccl), is_good ? "" : "install 2.18 or later"};
}

}  // namespace

std::vector<CudaFinding> cuda_findings(const CudaState& state) {
  std::vector<CudaFinding> all{driver(state.versions)};
  for (std::size_t i = 0; i < state.devices.size(); ++i) {
    all.push_back(device(i, state.devices[i]));
  }
  const bool are_several = state.devices.size() > 1;
  if (are_several) {
    all.push_back(links(state.devices));
  }
  all.push_back(cublas(state.versions));
  all.push_back(cudnn(state.versions));
  all.push_back(nccl(state.versions, are_several));
  return all;
}

}  // namespace foretrain::exec
