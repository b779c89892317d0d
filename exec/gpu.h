// The few calls of a GPU's runtime that execution needs. Streams are first in, first out; a wait is for the event's
// latest record enqueued before it. From any thread, but a stream or an event from one at a time. Throws
// EnvironmentError for what the runtime reports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "exec/collectives.h"
#include "exec/gpu_stream.h"
#include "kernels/launchers.h"

namespace foretrain::exec {

struct GpuEvent {
  void* handle = nullptr;
};

class Gpu {
 public:
  virtual ~Gpu() = default;

  virtual std::string name() const = 0;  // "NVIDIA H100 80GB HBM3, driver 580.65"
  virtual Bytes memory() const = 0;
  virtual Bytes free_memory() const = 0;
  virtual Bytes cache() const = 0;  // that all of its multiprocessors share
  // What a stream's kernels hold beside the operands.
  virtual Bytes stream_workspace() const = 0;

  // Zeroed. Of the host's memory: what streams copy from and to while the host goes on.
  virtual std::byte* allocate(Bytes size) = 0;
  virtual std::byte* allocate_host(Bytes size) = 0;
  virtual void release(std::byte* memory) = 0;
  virtual void release_host(std::byte* memory) = 0;

  virtual GpuStream create_stream() = 0;
  virtual GpuEvent create_event() = 0;
  // A stream's once all in it is over.
  virtual void destroy(GpuStream stream) = 0;
  virtual void destroy(GpuEvent event) = 0;

  // Kernels and copies in the stream; as long as it.
  virtual const kernels::Launchers& on(GpuStream stream) = 0;
  virtual void record(GpuEvent event, GpuStream stream) = 0;
  virtual void wait(GpuStream stream, GpuEvent event) = 0;
  virtual void synchronise(GpuStream stream) = 0;

  // Of the latest record: whether its stream has come to it, and then when, on clock.h's clock.
  virtual bool is_over(GpuEvent event) = 0;
  virtual Time time_of(GpuEvent event) = 0;

  // Beside all streams, done on return. Of a copy either side may be the host's.
  virtual void copy(const void* from, void* to, std::int64_t bytes) = 0;
  virtual void fill(void* begin, int byte, std::int64_t bytes) = 0;

  // To exchange with other GPUs. Throws EnvironmentError, with what is missing and what to do.
  virtual std::unique_ptr<CollectiveLibrary> open_collectives() = 0;

  // What this thread enqueues in between is shown under that name by tools.
  virtual void begin_range(std::string_view name) = 0;
  virtual void end_range() = 0;
};

// An event that goes back to its pool with the last who knows it. The pool must outlive it.
using SharedEvent = std::shared_ptr<const GpuEvent>;

// From any thread.
class EventPool {
 public:
  explicit EventPool(Gpu& gpu) : gpu_(gpu) {}
  ~EventPool();
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;

  SharedEvent take();

 private:
  Gpu& gpu_;
  std::mutex mutex_;
  std::vector<GpuEvent> spare_;
};

// Memory of one rank: on the GPU, and beside it on the host.
class GpuArena {
 public:
  GpuArena(Gpu& gpu, Bytes device, Bytes host);
  ~GpuArena();
  GpuArena(const GpuArena&) = delete;
  GpuArena& operator=(const GpuArena&) = delete;

  std::byte* device() const { return device_; }
  std::byte* host() const { return host_; }

 private:
  Gpu& gpu_;
  std::byte *device_ = nullptr, *host_ = nullptr;
};

}  // namespace foretrain::exec
