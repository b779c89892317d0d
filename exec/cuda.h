// GPUs by CUDA. What calls CUDA is a module, opened when asked for, so that the program itself needs neither CUDA nor a
// driver.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "exec/gpu.h"

namespace foretrain::exec {

constexpr int kLeastMajor = 8;  // compute capability that the kernels are built for
inline std::string least_major_text() {
  return fmt::format("GPUs from compute capability {}.0 on (A100 and later) can be used", kLeastMajor);
}
// Of CUDA, its driver or its runtime: "13.0" of 13000.
inline std::string cuda_version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

struct CudaDevice {
  std::string name;
  Bytes memory;
  int major = 0, minor = 0;  // compute capability
  int nvlinks = 0;           // that are up
};

// As the libraries number themselves; 0: not there.
struct CudaVersions {
  int driver = 0, runtime = 0;       // of CUDA: 13000 is 13.0
  std::string release;               // of the driver: "580.65.06"
  int cublas = 0;                    // 130002: 13.0.2
  int cudnn = 0, cudnn_runtime = 0;  // 91301: 9.13.1; the CUDA that it was built for
  int nccl = 0;                      // 22809: 2.28.9
};

struct CudaState {
  bool is_built = false;   // this program has the module
  bool is_usable = false;  // and it finds a GPU
  std::string detail;      // what there is, or what is missing
  std::string remedy;      // "": nothing is to be done
  CudaVersions versions;
  std::vector<CudaDevice> devices;
};
CudaState cuda_state();

// One thing that GPUs need, for people.
struct CudaFinding {
  std::string name;
  bool is_good = false;
  std::string detail, remedy;  // remedy: "" where nothing is to be done
};
// Of a machine where CUDA is usable: the driver, each device, what joins them, the libraries; and whether their
// versions go together.
std::vector<CudaFinding> cuda_findings(const CudaState& state);

// Of the GPUs that this process sees the one with this index, counted round; `deterministic`: what it computes has the
// same bits in every run. Throws EnvironmentError, with what is missing and what to do.
std::unique_ptr<Gpu> open_cuda(int index, bool deterministic);

}  // namespace foretrain::exec
