#include "exec/queued_device.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/dispatch.h"

namespace foretrain::exec {

namespace {

// Ops enqueued and not yet complete before launch() begins to run them.
constexpr std::int64_t kWindow = 256;
// How long a full window with nothing to run may hold up launch(). After it one more op is let in: an op further on may
// be the one that another rank waits for.
constexpr std::chrono::milliseconds kFullWindowWait{1};
// How long a rank looks for what it waits for before it sleeps: who sleeps is awake again only some 50 us after it
// could go on, where a hypervisor runs the cores. After the first part of it whoever else wants the core gets it.
constexpr std::chrono::microseconds kSpin{20}, kYield{1000};

Time as_time(std::chrono::nanoseconds duration) {
  return Time{duration.count() * 1000};
}

}  // namespace

QueuedDevice::QueuedDevice(Partners& partners, std::function<std::string(const OpCall&)> describe)
    : partners_(partners), describe_(std::move(describe)) {}

QueuedDevice::~QueuedDevice() = default;

StreamHandle QueuedDevice::create_stream() {
  streams_.push_back(std::make_unique<Stream>());
  return {static_cast<std::int32_t>(streams_.size()) - 1};
}

EventHandle QueuedDevice::create_event() {
  events_.emplace_back();
  return {static_cast<std::int32_t>(events_.size()) - 1};
}

void QueuedDevice::record(EventHandle event, StreamHandle stream) {
  // The end of the last task enqueued on the stream; of none, a point reached already.
  const std::int64_t enqueued = streams_[static_cast<std::size_t>(stream.index)]->enqueued;
  events_[static_cast<std::size_t>(event.index)] = {stream.index, enqueued - 1};
}

void QueuedDevice::wait(StreamHandle stream, EventHandle event) {
  const Point& point = events_[static_cast<std::size_t>(event.index)];
  if (point.stream >= 0 && point.stream != stream.index) {
    streams_[static_cast<std::size_t>(stream.index)]->waits.push_back(point);
  }
}

QueuedDevice::Task& QueuedDevice::enqueue(StreamHandle stream) {
  make_room();
  if (spare_.empty()) {
    spare_.push_back(std::make_unique<Task>());
  }
  Stream& s = *streams_[static_cast<std::size_t>(stream.index)];
  s.tasks.push_back(std::move(spare_.back()));
  spare_.pop_back();
  Task& task = *s.tasks.back();
  std::swap(task.waits, s.waits);
  s.waits.clear();
  task.sequence = enqueued_++;
  task.host = nullptr;
  task.read = {};
  task.ticket = nullptr;
  task.since = {};
  ++s.enqueued;
  ++outstanding_;
  return task;
}

void QueuedDevice::launch(StreamHandle stream, const OpCall& call) {
  Task& task = enqueue(stream);
  task.call = call;
  task.is_communication = is_communication(call.op->work);
}

void QueuedDevice::launch_host(StreamHandle stream, std::function<void()> function) {
  Task& task = enqueue(stream);
  task.host = std::move(function);
  task.is_communication = false;
}

void QueuedDevice::launch_read(StreamHandle stream, const void* from, std::int64_t bytes,
                               std::function<void(const std::byte*)> use) {
  Task& task = enqueue(stream);
  task.read = {from, bytes, std::move(use)};
  task.is_communication = false;
}

void QueuedDevice::synchronise() {
  while (outstanding_ > 0) {
    if (!run()) {
      idle(nap());
    }
  }
}

void QueuedDevice::make_room() {
  while (outstanding_ >= kWindow) {
    if (run()) {
      continue;
    }
    idle(kFullWindowWait);
    if (!run()) {
      return;
    }
  }
}

bool QueuedDevice::is_ready(const Task& task) const {
  return std::all_of(task.waits.begin(), task.waits.end(), [&](const Point& point) {
    return streams_[static_cast<std::size_t>(point.stream)]->started > point.position;
  });
}

bool QueuedDevice::run() {
  if (!run_some()) {
    return false;
  }
  idle_since_ = {};
  return true;
}

void QueuedDevice::run_host(Task& task) {
  running_ = task.sequence;
  task.host();
  task.host = nullptr;
}

void QueuedDevice::finish(Stream& stream, Time start, Time end) {
  std::unique_ptr<Task> task = std::move(stream.tasks.front());
  stream.tasks.pop_front();
  ++stream.completed;
  --outstanding_;
  if (sink_ != nullptr && task->call.op != nullptr) {
    sink_->completed(task->call, start, end);
  }
  task->call.op = nullptr;
  spare_.push_back(std::move(task));
}

void QueuedDevice::idle(std::chrono::nanoseconds limit) {
  const Time end = now() + as_time(limit);
  do {
    const std::uint32_t seen = partners_.progress_count();
    if (run()) {
      return;
    }
    const Time start = now();
    if (idle_since_ == Time{}) {
      idle_since_ = start;
    }
    if (partners_.may_spin()) {
      for (Time t = start; t < start + as_time(kYield); t = now()) {
        if (partners_.progress_count() != seen) {
          return;
        }
        if (t < start + as_time(kSpin)) {
          __builtin_ia32_pause();
        } else {
          std::this_thread::yield();
        }
      }
    }
    if (now() >= idle_since_ + as_time(timeout_) && !is_reading()) {
      fail_waiting();
    }
    partners_.wait(seen, std::min(limit, nap()));
    if (partners_.progress_count() != seen) {
      return;
    }
  } while (now() < end);
}

void QueuedDevice::fail_waiting() const {
  const Task *oldest = nullptr, *unfinished = nullptr;
  for (const auto& stream : streams_) {
    const Task* const next = stream->next();
    if (next != nullptr && next->ticket != nullptr && (oldest == nullptr || next->sequence < oldest->sequence)) {
      oldest = next;
    }
    if (stream->started > stream->completed && stream->tasks.front()->call.op != nullptr) {
      unfinished = stream->tasks.front().get();
    }
  }
  for (const auto& stream : streams_) {
    const Task* const next = stream->next();
    if (oldest == nullptr && next != nullptr && next->is_communication && next->ticket == nullptr && is_ready(*next)) {
      throw EnvironmentError(fmt::format(
          "rank {} waited {} ms for any rank in {} of step {}; ranks that wait for nobody: {}", next->call.rank->rank,
          timeout_.count(), describe_(next->call), next->call.binding.step, fmt::join(partners_.busy_ranks(), ", ")));
    }
  }
  if (oldest == nullptr && unfinished != nullptr) {
    const std::vector<plan::Rank> others =
        unfinished->ticket != nullptr ? partners_.missing(unfinished->ticket) : std::vector<plan::Rank>{};
    throw EnvironmentError(fmt::format("rank {} waited {} ms for its device{} to end {} of step {}",
                                       unfinished->call.rank->rank, timeout_.count(),
                                       others.empty() ? "" : fmt::format(", and rank {},", fmt::join(others, ", ")),
                                       describe_(unfinished->call), unfinished->call.binding.step));
  }
  CHECK(oldest != nullptr, "no op of the rank can run and none waits for another rank: its events form a circle");
  throw EnvironmentError(
      fmt::format("rank {} waited {} ms for rank {} in {} of step {}; ranks that wait for nobody: {}",
                  oldest->call.rank->rank, timeout_.count(), fmt::join(partners_.missing(oldest->ticket), ", "),
                  describe_(oldest->call), oldest->call.binding.step, fmt::join(partners_.busy_ranks(), ", ")));
}

std::vector<QueuedDevice::Range> QueuedDevice::ranges_in_flight() const {
  std::vector<Range> ranges;
  for (const auto& stream : streams_) {
    for (const auto& task : stream->tasks) {
      if (task->call.op == nullptr || task->sequence >= running_) {
        continue;
      }
      const auto add = [&](const std::vector<kernels::Tensor>& tensors, const std::vector<plan::Operand>& operands) {
        for (std::size_t i = 0; i < tensors.size(); ++i) {
          const auto* const begin = static_cast<const std::byte*>(tensors[i].data);
          ranges.push_back({begin, begin + size_bytes(tensors[i].dtype, operands[i].elements)});
        }
      };
      add(task->call.reads, task->call.op->reads);
      add(task->call.writes, task->call.op->writes);
    }
  }
  return ranges;
}

}  // namespace foretrain::exec
