#include "tests/exec/pretend_gpu.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "exec/clock.h"
#include "tests/exec/pretend_fabric.h"
#include "tests/exec/pretend_launchers.h"

namespace foretrain::testing {

namespace {

constexpr std::uint64_t kMostPicoseconds = 20'000'000;  // of a kernel
constexpr std::uint64_t kCommandsOfALook = 12;          // run, at most, when the host asks for an event
constexpr std::uint64_t kPriorities = 1000;
constexpr int kPatience = 16;
constexpr double kAhead = 3600;

}  // namespace

PretendGpu::PretendGpu(std::uint64_t seed, Bytes memory, PretendFabric* fabric)
    : random_(seed), memory_(memory), fabric_(fabric) {}

// Its clock is ahead of the host's own for as long as it lives.
PretendGpu::PretendGpu(const PretendCosts& costs)
    : random_(1),
      memory_(1'000'000'000),
      fabric_(nullptr),
      costs_(costs),
      free_(exec::now() + time_from_seconds(kAhead)) {}

PretendGpu::~PretendGpu() {
  CHECK(allocations_.empty() && host_allocations_.empty() && streams_.empty() && events_ == 0,
        "{} allocations, {} of the host's, {} streams and {} events were not given back", allocations_.size(),
        host_allocations_.size(), streams_.size(), events_);
}

// ---- memory ---------------------------------------------------------------------------------------------------------

Bytes PretendGpu::free_memory() const {
  const std::lock_guard lock(mutex_);
  return memory_ - used_;
}

std::byte* PretendGpu::allocate(Bytes size) {
  const std::lock_guard lock(mutex_);
  auto memory = std::make_unique<std::byte[]>(static_cast<std::size_t>(size.value));
  std::byte* const address = memory.get();
  allocations_.emplace(address, std::pair{std::move(memory), size.value});
  used_ += size;
  return address;
}

std::byte* PretendGpu::allocate_host(Bytes size) {
  const std::lock_guard lock(mutex_);
  auto memory = std::make_unique<std::byte[]>(static_cast<std::size_t>(size.value));
  std::byte* const address = memory.get();
  host_allocations_.emplace(address, std::pair{std::move(memory), size.value});
  return address;
}

void PretendGpu::release(std::byte* memory) {
  const std::lock_guard lock(mutex_);
  if (const auto found = allocations_.find(memory); found != allocations_.end()) {
    used_ -= Bytes{found->second.second};
    allocations_.erase(found);
  }
}

void PretendGpu::release_host(std::byte* memory) {
  const std::lock_guard lock(mutex_);
  host_allocations_.erase(memory);
}

bool PretendGpu::owns(const void* address) const {
  const std::lock_guard lock(mutex_);
  const auto* const a = static_cast<const std::byte*>(address);
  const auto after = allocations_.upper_bound(a);
  return after != allocations_.begin() && a <= std::prev(after)->first + std::prev(after)->second.second;
}

void PretendGpu::copy(const void* from, void* to, std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

void PretendGpu::fill(void* begin, int byte, std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  std::memset(begin, byte, static_cast<std::size_t>(bytes));
}

// ---- streams and events ---------------------------------------------------------------------------------------------

exec::GpuStream PretendGpu::create_stream() {
  auto stream = std::make_unique<Stream>();
  stream->launchers = std::make_unique<QueueLaunchers>(*this, *stream);
  const std::lock_guard lock(mutex_);
  stream->priority = static_cast<int>(random_() % kPriorities);
  streams_.push_back(std::move(stream));
  return {streams_.back().get()};
}

exec::GpuEvent PretendGpu::create_event() {
  const std::lock_guard lock(mutex_);
  ++events_;
  return {new Event};
}

void PretendGpu::destroy(exec::GpuStream stream) {
  std::unique_ptr<Stream> gone;
  const std::lock_guard lock(mutex_);
  const auto place =
      std::find_if(streams_.begin(), streams_.end(), [&](const auto& s) { return s.get() == stream.handle; });
  CHECK((*place)->commands.empty(), "a stream is destroyed that has something to do");
  gone = std::move(*place);
  streams_.erase(place);
}

void PretendGpu::destroy(exec::GpuEvent event) {
  const std::lock_guard lock(mutex_);
  --events_;
  delete static_cast<Event*>(event.handle);
}

const kernels::Launchers& PretendGpu::on(exec::GpuStream stream) {
  return *static_cast<Stream*>(stream.handle)->launchers;
}

void PretendGpu::record(exec::GpuEvent event, exec::GpuStream stream) {
  const auto mark = std::make_shared<Mark>();
  static_cast<Event*>(event.handle)->latest = mark;
  enqueue(*static_cast<Stream*>(stream.handle), {nullptr, mark, nullptr, {}});
}

void PretendGpu::wait(exec::GpuStream stream, exec::GpuEvent event) {
  const std::shared_ptr<Mark> mark = static_cast<Event*>(event.handle)->latest;
  CHECK(mark != nullptr, "a stream waits for an event that nobody has recorded");
  enqueue(*static_cast<Stream*>(stream.handle), {nullptr, nullptr, mark, {}});
}

void PretendGpu::enqueue(exec::GpuStream stream, std::function<bool()> can_run, std::function<void()> run) {
  enqueue(*static_cast<Stream*>(stream.handle), {std::move(run), nullptr, nullptr, {}, std::move(can_run)});
}

std::unique_ptr<exec::CollectiveLibrary> PretendGpu::open_collectives() {
  CHECK(fabric_ != nullptr, "this GPU is the only one");
  return fabric_->library(*this);
}

void PretendGpu::enqueue(Stream& stream, Command command) {
  const std::lock_guard lock(mutex_);
  if (costs_) {
    HostThread& host = self();
    host.clock += time_from_seconds(command.record ? costs_->record : command.wait ? costs_->wait : costs_->submit);
    host.looks = 0;
    command.enqueued = host.clock;
  } else {
    command.enqueued = host_time();
  }
  stream.commands.push_back(std::move(command));
}

// ---- time -----------------------------------------------------------------------------------------------------------

Time PretendGpu::host_time() const {
  return std::max(seen_, exec::now());
}

// Streams have an order of preference for a while, so that some run far ahead of others.
bool PretendGpu::run_one() {
  if (random_() % 32 == 0) {
    for (const auto& stream : streams_) {
      stream->priority = static_cast<int>(random_() % kPriorities);
    }
  }
  Stream* chosen = nullptr;
  for (const auto& stream : streams_) {
    const Command* const next = stream->commands.empty() ? nullptr : &stream->commands.front();
    const bool can_run = next != nullptr && (next->wait == nullptr || next->wait->is_over) &&
                         (next->can_run == nullptr || next->can_run());
    const auto comes_first = [&](const Stream& other) {
      return costs_ ? next->enqueued < other.commands.front().enqueued : stream->priority > other.priority;
    };
    if (can_run && (chosen == nullptr || comes_first(*chosen))) {
      chosen = stream.get();
    }
  }
  if (chosen == nullptr) {
    return false;
  }
  run_on(*chosen);
  return true;
}

void PretendGpu::run_on(Stream& stream) {
  const Command command = std::move(stream.commands.front());
  stream.commands.pop_front();
  stream.at = std::max(stream.at, command.enqueued);
  if (command.wait) {
    stream.at = std::max(stream.at, command.wait->time);
  } else if (command.record) {
    stream.at += time_from_seconds(costs_ ? costs_->mark : 0);
    *command.record = {true, stream.at};
  } else if (costs_) {
    stream.at = free_ = std::max(stream.at, free_) + time_from_seconds(command.seconds);
  } else {
    command.run();
    stream.at += Time{static_cast<std::int64_t>(1 + random_() % kMostPicoseconds)};
  }
}

bool PretendGpu::is_over(exec::GpuEvent event) {
  const std::lock_guard lock(mutex_);
  const Mark& mark = *static_cast<Event*>(event.handle)->latest;
  if (costs_) {
    while (!mark.is_over && run_one()) {
    }
    HostThread& host = self();
    if (mark.is_over && ++host.looks > kPatience) {
      host.clock = std::max(host.clock, mark.time);
    }
    if (!mark.is_over || mark.time > host.clock) {
      return false;
    }
    host.looks = 0;
    return true;
  }
  for (std::uint64_t i = random_() % (kCommandsOfALook + 1); i > 0 && run_one(); --i) {
  }
  if (mark.is_over) {
    seen_ = std::max(seen_, mark.time);
  }
  return mark.is_over;
}

Time PretendGpu::time_of(exec::GpuEvent event) {
  const std::lock_guard lock(mutex_);
  const Mark& mark = *static_cast<Event*>(event.handle)->latest;
  CHECK(mark.is_over, "the time of an event that has not come");
  return mark.time;
}

void PretendGpu::synchronise(exec::GpuStream stream) {
  std::unique_lock lock(mutex_);
  while (!static_cast<Stream*>(stream.handle)->commands.empty()) {
    if (!run_one()) {
      CHECK(fabric_ != nullptr, "streams wait for each other");
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    }
  }
  seen_ = std::max(seen_, static_cast<Stream*>(stream.handle)->at);
}

}  // namespace foretrain::testing
