// A GPU that is none: its memory is the host's, its kernels the CPU's, and its streams run later than they are filled,
// in a random order that events allow. What forgets an event, or reads what is not there yet, is likely to read
// something else than on a CPU; what hands a kernel memory of the host's is told so.
//
// It has a clock of its own: a kernel takes a random time, a stream goes on where it stands or where the event it waits
// for stood, and nothing begins before the host has enqueued it. With known costs every time can be derived: kernels
// only take time then, one after the other, and what the host does has its price too.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "exec/gpu.h"

namespace foretrain::testing {

class PretendFabric;

// In seconds. Of the device: a kernel, and more of it for each product of a matrix product; a copy, and more for each
// byte within the device or over the link to the host; a record. Of a host's thread: to enqueue a kernel or copy, a
// record, a wait. To look whether an event is over costs it nothing, until it has nothing else to do: then it waits.
struct PretendCosts {
  double kernel = 0, product = 0, copy = 0, device_byte = 0, link_byte = 0, mark = 0;
  double submit = 0, record = 0, wait = 0;
};

class PretendGpu : public exec::Gpu {
 public:
  // With a fabric, which must outlive it, it is one of several.
  explicit PretendGpu(std::uint64_t seed, Bytes memory = Bytes{1'000'000'000}, PretendFabric* fabric = nullptr);
  explicit PretendGpu(const PretendCosts& costs);
  ~PretendGpu() override;  // all that was taken has been given back

  std::string name() const override { return "a pretended GPU"; }
  Bytes memory() const override { return memory_; }
  Bytes cache() const override { return Bytes{1 << 20}; }
  Bytes free_memory() const override;
  Bytes stream_workspace() const override { return Bytes{4096}; }
  std::byte* allocate(Bytes size) override;
  std::byte* allocate_host(Bytes size) override;
  void release(std::byte* memory) override;
  void release_host(std::byte* memory) override;
  exec::GpuStream create_stream() override;
  exec::GpuEvent create_event() override;
  void destroy(exec::GpuStream stream) override;
  void destroy(exec::GpuEvent event) override;
  const kernels::Launchers& on(exec::GpuStream stream) override;
  void record(exec::GpuEvent event, exec::GpuStream stream) override;
  void wait(exec::GpuStream stream, exec::GpuEvent event) override;
  void synchronise(exec::GpuStream stream) override;
  bool is_over(exec::GpuEvent event) override;
  Time time_of(exec::GpuEvent event) override;
  void copy(const void* from, void* to, std::int64_t bytes) override;
  void fill(void* begin, int byte, std::int64_t bytes) override;
  std::unique_ptr<exec::CollectiveLibrary> open_collectives() override;
  void begin_range(std::string_view) override {}
  void end_range() override {}

  // What begins once other GPUs let it: `can_run` says so.
  void enqueue(exec::GpuStream stream, std::function<bool()> can_run, std::function<void()> run);

 private:
  class QueueLaunchers;
  struct Stream;
  // Where a stream has come to at a record.
  struct Mark {
    bool is_over = false;
    Time time;
  };
  struct Event {
    std::shared_ptr<Mark> latest;
  };
  struct Command {
    std::function<void()> run;     // a kernel or copy
    std::shared_ptr<Mark> record;  // else, one of these
    std::shared_ptr<Mark> wait;
    Time enqueued;
    std::function<bool()> can_run = nullptr;  // absent: at once
    double seconds = 0;                       // of a kernel or copy with known costs
  };
  struct Stream {
    std::deque<Command> commands;
    Time at;
    int priority = 0;
    std::unique_ptr<QueueLaunchers> launchers;
  };

  void enqueue(Stream& stream, Command command);
  // Whether an address lies in its memory.
  bool owns(const void* address) const;
  // Runs one command of some stream; false if none can run. REQUIRES: the mutex is held.
  bool run_one();
  void run_on(Stream& stream);
  Time host_time() const;
  // The calling thread, with known costs. REQUIRES: the mutex is held.
  struct HostThread {
    Time clock;
    int looks = 0;  // in vain, since it last enqueued something
  };
  HostThread& self() { return host_threads_.try_emplace(std::this_thread::get_id(), HostThread{free_}).first->second; }

  mutable std::mutex mutex_;
  std::mt19937_64 random_;
  Bytes memory_, used_;
  PretendFabric* fabric_;
  Time seen_;  // the latest that the host knows to be over
  std::map<const std::byte*, std::pair<std::unique_ptr<std::byte[]>, std::int64_t>> allocations_, host_allocations_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::int64_t events_ = 0;
  std::optional<PretendCosts> costs_;
  std::map<std::thread::id, HostThread> host_threads_;
  Time free_;  // when the last kernel has ended
};

}  // namespace foretrain::testing
