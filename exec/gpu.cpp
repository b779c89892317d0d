#include "exec/gpu.h"

namespace foretrain::exec {

EventPool::~EventPool() {
  for (const GpuEvent event : spare_) {
    gpu_.destroy(event);
  }
}

SharedEvent EventPool::take() {
  const std::lock_guard lock(mutex_);
  if (spare_.empty()) {
    spare_.push_back(gpu_.create_event());
  }
  const GpuEvent event = spare_.back();
  spare_.pop_back();
  return {new GpuEvent(event), [this](const GpuEvent* e) {
            const std::lock_guard lock_again(mutex_);
            spare_.push_back(*e);
            delete e;
          }};
}

GpuArena::GpuArena(Gpu& gpu, Bytes device, Bytes host) : gpu_(gpu) {
  device_ = gpu.allocate(device);
  try {
    host_ = gpu.allocate_host(host);
  } catch (...) {
    gpu.release(device_);
    throw;
  }
}

GpuArena::~GpuArena() {
  gpu_.release_host(host_);
  gpu_.release(device_);
}

}  // namespace foretrain::exec
