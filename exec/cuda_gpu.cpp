// The CUDA module: a GPU through the CUDA runtime.
#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/cuda_check.h"
#include "exec/cuda_launchers.h"
#include "exec/cuda_module.h"
#include "exec/nccl.h"

namespace foretrain::exec {

namespace {

constexpr float kLongest = 2000;           // milliseconds: a float's 24 bits are then below the 0.5 us of events
constexpr std::size_t kScalarBytes = 256;  // behind a stream's workspace

struct CudaStream {
  cudaStream_t handle = nullptr;
  std::byte* workspace = nullptr;
  std::unique_ptr<kernels::Launchers> launchers;
};

cudaStream_t native(GpuStream stream) {
  return static_cast<CudaStream*>(stream.handle)->handle;
}
cudaEvent_t native(GpuEvent event) {
  return static_cast<cudaEvent_t>(event.handle);
}

// Of one device. A thread that calls has it as its current device from then on.
class CudaGpu : public Gpu {
 public:
  CudaGpu(int device, kernels::cuda::Order order) : device_(device), order_(order) {
    use();
    check_cuda("cudaGetDeviceProperties", cudaGetDeviceProperties(&properties_, device));
    check_cuda("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&own_, cudaStreamNonBlocking));
    for (Base* const base : {&older_, &newest_}) {
      check_cuda("cudaEventCreate", cudaEventCreate(&base->event));
      mark_own(base->event);
      base->time = now();
    }
  }
  ~CudaGpu() override {
    cudaEventDestroy(newest_.event);
    cudaEventDestroy(older_.event);
    cudaStreamDestroy(own_);
  }

  std::string name() const override { return properties_.name; }
  Bytes memory() const override { return Bytes{static_cast<std::int64_t>(properties_.totalGlobalMem)}; }
  Bytes cache() const override { return Bytes{properties_.l2CacheSize}; }
  Bytes free_memory() const override {
    use();
    std::size_t free = 0, total = 0;
    check_cuda("cudaMemGetInfo", cudaMemGetInfo(&free, &total));
    return Bytes{static_cast<std::int64_t>(free)};
  }
  Bytes stream_workspace() const override {
    return Bytes{static_cast<std::int64_t>(kernels::cuda::kWorkspaceBytes + kScalarBytes)};
  }

  std::byte* allocate(Bytes size) override {
    use();
    void* memory = nullptr;
    check_cuda("cudaMalloc", cudaMalloc(&memory, static_cast<std::size_t>(size.value)));
    fill(memory, 0, size.value);
    return static_cast<std::byte*>(memory);
  }
  std::byte* allocate_host(Bytes size) override {
    use();
    void* memory = nullptr;
    if (size.value > 0) {
      check_cuda("cudaMallocHost", cudaMallocHost(&memory, static_cast<std::size_t>(size.value)));
      std::fill_n(static_cast<std::byte*>(memory), size.value, std::byte{0});
    }
    return static_cast<std::byte*>(memory);
  }
  void release(std::byte* memory) override { cudaFree(memory); }
  void release_host(std::byte* memory) override { cudaFreeHost(memory); }

  GpuStream create_stream() override {
    use();
    auto stream = std::make_unique<CudaStream>();
    check_cuda("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream->handle, cudaStreamNonBlocking));
    stream->workspace = allocate(stream_workspace());
    stream->launchers =
        cuda_launchers({stream->handle, stream->workspace},
                       reinterpret_cast<double*>(stream->workspace + kernels::cuda::kWorkspaceBytes), order_);
    return {stream.release()};
  }
  GpuEvent create_event() override {
    use();
    cudaEvent_t event = nullptr;
    check_cuda("cudaEventCreate", cudaEventCreate(&event));
    return {event};
  }
  void destroy(GpuStream stream) override {
    const std::unique_ptr<CudaStream> gone(static_cast<CudaStream*>(stream.handle));
    cudaStreamDestroy(gone->handle);
    cudaFree(gone->workspace);
  }
  void destroy(GpuEvent event) override { cudaEventDestroy(native(event)); }

  const kernels::Launchers& on(GpuStream stream) override {
    use();
    return *static_cast<CudaStream*>(stream.handle)->launchers;
  }
  void record(GpuEvent event, GpuStream stream) override {
    use();
    check_cuda("cudaEventRecord", cudaEventRecord(native(event), native(stream)));
  }
  void wait(GpuStream stream, GpuEvent event) override {
    use();
    check_cuda("cudaStreamWaitEvent", cudaStreamWaitEvent(native(stream), native(event), 0));
  }
  void synchronise(GpuStream stream) override {
    use();
    check_cuda("cudaStreamSynchronize", cudaStreamSynchronize(native(stream)));
  }

  bool is_over(GpuEvent event) override {
    use();
    const cudaError_t state = cudaEventQuery(native(event));
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError();  // it is none, but counts as one until it is asked for
      return false;
    }
    check_cuda("a kernel or copy", state);
    return true;
  }
  Time time_of(GpuEvent event) override {
    use();
    const std::lock_guard lock(mutex_);
    float passed = elapsed(newest_.event, native(event));
    if (passed < 0) {
      passed = elapsed(older_.event, native(event));
      return older_.time + as_time(passed);
    }
    const Time time = newest_.time + as_time(passed);
    if (passed > kLongest) {
      std::swap(newest_, older_);
      mark_own(newest_.event);
      newest_.time = older_.time + as_time(elapsed(older_.event, newest_.event));
    }
    return time;
  }

  void copy(const void* from, void* to, std::int64_t bytes) override {
    use();
    const std::lock_guard lock(mutex_);
    check_cuda("cudaMemcpyAsync", cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault, own_));
    check_cuda("cudaStreamSynchronize", cudaStreamSynchronize(own_));
  }
  void fill(void* begin, int byte, std::int64_t bytes) override {
    use();
    const std::lock_guard lock(mutex_);
    check_cuda("cudaMemsetAsync", cudaMemsetAsync(begin, byte, static_cast<std::size_t>(bytes), own_));
    check_cuda("cudaStreamSynchronize", cudaStreamSynchronize(own_));
  }

  std::unique_ptr<CollectiveLibrary> open_collectives() override {
    use();
    return open_nccl([](GpuStream stream) -> void* { return native(stream); });
  }

  void begin_range(std::string_view name) override { nvtxRangePushA(std::string(name).c_str()); }
  void end_range() override { nvtxRangePop(); }

 private:
  // An event whose time is known.
  struct Base {
    cudaEvent_t event = nullptr;
    Time time;
  };

  void use() const { check_cuda("cudaSetDevice", cudaSetDevice(device_)); }
  // Come to at once: the stream has nothing else to do.
  void mark_own(cudaEvent_t event) {
    check_cuda("cudaEventRecord", cudaEventRecord(event, own_));
    check_cuda("cudaEventSynchronize", cudaEventSynchronize(event));
  }
  // Milliseconds.
  static float elapsed(cudaEvent_t from, cudaEvent_t to) {
    float passed = 0;
    check_cuda("cudaEventElapsedTime", cudaEventElapsedTime(&passed, from, to));
    return passed;
  }
  static Time as_time(float milliseconds) { return Time{std::llround(static_cast<double>(milliseconds) * 1e9)}; }

  int device_;
  kernels::cuda::Order order_;
  cudaDeviceProp properties_{};
  std::mutex mutex_;  // of what follows
  cudaStream_t own_ = nullptr;
  Base newest_, older_;  // events between the two are timed from the older one
};

}  // namespace

extern "C" Gpu* foretrain_open_cuda(int index, bool deterministic) {
  int devices = 0;
  check_cuda("cudaGetDeviceCount", cudaGetDeviceCount(&devices));
  return new CudaGpu(index % devices, deterministic ? kernels::cuda::Order::fixed : kernels::cuda::Order::any);
}

}  // namespace foretrain::exec
