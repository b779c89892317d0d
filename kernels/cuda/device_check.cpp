// The checks of the GPU kernels (kernels/cuda/check.h) on the first GPU: by our own kernels, then with NVIDIA's
// libraries asked first, and attention once more with what these add up in any order. A line for each; exit status 1
// where one fails, 5 where there is no GPU.
#include <cuda_runtime.h>
#include <fmt/format.h>

#include "base/error.h"
#include "kernels/cuda/check_bench.h"
#include "kernels/cuda/libraries.h"

namespace foretrain::kernels::cuda {
namespace {

void check_cuda(cudaError_t error) {
  if (error != cudaSuccess) {
    throw EnvironmentError(fmt::format("CUDA: {} ({})", cudaGetErrorString(error), cudaGetErrorName(error)));
  }
}

class DeviceMemory final : public Memory {
 public:
  explicit DeviceMemory(Libraries* libraries) {
    stream_.workspace = allocate(kWorkspaceBytes);
    stream_.libraries = libraries;
  }
  ~DeviceMemory() override { release(stream_.workspace); }

  void* allocate(std::size_t bytes) override {
    void* memory = nullptr;
    check_cuda(cudaMalloc(&memory, bytes));
    return memory;
  }
  void release(void* memory) override { (void)cudaFree(memory); }
  void write(const void* from, void* to, std::size_t bytes) override {
    check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
  }
  void read(const void* from, void* to, std::size_t bytes) override {
    check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
  }
  const Stream& stream() override { return stream_; }

 private:
  Stream stream_;
};

// How many failed; in a fixed order another run must have the same bits.
int run_all(const char* by, const std::vector<Check>& checks, Libraries* libraries, Order order) {
  DeviceMemory memory(libraries);
  int failed = 0;
  for (const Check& check : checks) {
    const Outcome outcome = run(check, memory);
    const bool repeats = order == Order::any || run(check, memory).bits == outcome.bits;
    const bool passed = outcome.failure.empty() && repeats;
    failed += passed ? 0 : 1;
    fmt::print("{:<10} {:<36} {:<6} {:>9} values, worst {:.3g} of what is allowed{}{}\n", by, check.name,
               passed ? "ok" : "FAILED", outcome.compared, outcome.worst, passed ? "" : "; ",
               passed                    ? ""
               : outcome.failure.empty() ? "another run has other bits"
                                         : outcome.failure);
  }
  return failed;
}

int check_device() {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, 0));
  fmt::print("{}, compute capability {}.{}\n", properties.name, properties.major, properties.minor);
  const std::unique_ptr<Libraries> fixed = open_libraries(Order::fixed);
  const std::unique_ptr<Libraries> any = open_libraries(Order::any);
  const std::span<const Check> attention = attention_checks();
  const int failed = run_all("own", checks(), nullptr, Order::fixed) +
                     run_all("libraries", checks(), fixed.get(), Order::fixed) +
                     run_all("any order", {attention.begin(), attention.end()}, any.get(), Order::any);
  for (const std::string& refused : any->refused()) {
    fmt::print("{}\n", refused);
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace foretrain::kernels::cuda

int main() {
  try {
    return foretrain::kernels::cuda::check_device();
  } catch (const foretrain::EnvironmentError& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 5;
  }
}
