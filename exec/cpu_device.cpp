#include "exec/cpu_device.h"

#include <fmt/ranges.h>

#include <deque>
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
constexpr std::chrono::microseconds kSpin{20};
// Sleeps end at least this often, so that a timeout is noticed without a notification.
constexpr std::chrono::milliseconds kNap{50};

}  // namespace

struct CpuDevice::Task {
  OpCall call;
  std::function<void()> host;  // instead of the call
  bool is_communication = false;
  std::vector<Point> waits;
  std::int64_t sequence = 0;
  Communicator::Ticket ticket = nullptr;  // of posted communication
};

struct CpuDevice::Stream {
  std::deque<std::unique_ptr<Task>> tasks;
  std::vector<Point> waits;  // of the next task
  std::int64_t enqueued = 0, completed = 0;
};

CpuDevice::CpuDevice(Communicator& communicator, std::function<std::string(const OpCall&)> describe)
    : communicator_(communicator), describe_(std::move(describe)) {}

CpuDevice::~CpuDevice() = default;

StreamHandle CpuDevice::create_stream() {
  streams_.push_back(std::make_unique<Stream>());
  return {static_cast<std::int32_t>(streams_.size()) - 1};
}

EventHandle CpuDevice::create_event() {
  events_.emplace_back();
  return {static_cast<std::int32_t>(events_.size()) - 1};
}

void CpuDevice::record(EventHandle event, StreamHandle stream) {
  // The end of the last task enqueued on the stream; of none, a point reached already.
  const std::int64_t enqueued = streams_[static_cast<std::size_t>(stream.index)]->enqueued;
  events_[static_cast<std::size_t>(event.index)] = {stream.index, enqueued - 1};
}

void CpuDevice::wait(StreamHandle stream, EventHandle event) {
  const Point& point = events_[static_cast<std::size_t>(event.index)];
  if (point.stream >= 0 && point.stream != stream.index) {
    streams_[static_cast<std::size_t>(stream.index)]->waits.push_back(point);
  }
}

CpuDevice::Task& CpuDevice::enqueue(StreamHandle stream) {
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
  task.ticket = nullptr;
  ++s.enqueued;
  ++outstanding_;
  return task;
}

void CpuDevice::launch(StreamHandle stream, const OpCall& call) {
  Task& task = enqueue(stream);
  task.call = call;
  task.host = nullptr;
  task.is_communication = is_communication(call.op->work);
}

void CpuDevice::launch_host(StreamHandle stream, std::function<void()> function) {
  Task& task = enqueue(stream);
  task.host = std::move(function);
  task.is_communication = false;
}

void CpuDevice::synchronise() {
  while (outstanding_ > 0) {
    if (!run_one()) {
      idle(kNap);
    }
  }
}

void CpuDevice::make_room() {
  while (outstanding_ >= kWindow) {
    if (run_one()) {
      continue;
    }
    idle(kFullWindowWait);
    if (!run_one()) {
      return;
    }
  }
}

bool CpuDevice::is_ready(const Task& task) const {
  for (const Point& point : task.waits) {
    if (streams_[static_cast<std::size_t>(point.stream)]->completed <= point.position) {
      return false;
    }
  }
  return true;
}

// Runs, or moves on, the first thing that can; false if there is none.
bool CpuDevice::run_one() {
  for (const auto& stream : streams_) {
    if (!stream->tasks.empty() && stream->tasks.front()->is_communication && is_ready(*stream->tasks.front()) &&
        run_communication(*stream)) {
      idle_since_ = {};
      return true;
    }
  }
  Stream* oldest = nullptr;
  for (const auto& stream : streams_) {
    if (!stream->tasks.empty() && !stream->tasks.front()->is_communication && is_ready(*stream->tasks.front()) &&
        (oldest == nullptr || stream->tasks.front()->sequence < oldest->tasks.front()->sequence)) {
      oldest = stream.get();
    }
  }
  if (oldest == nullptr) {
    return false;
  }
  idle_since_ = {};
  run_to_end(*oldest);
  return true;
}

bool CpuDevice::run_communication(Stream& stream) {
  Task& task = *stream.tasks.front();
  const bool is_new = task.ticket == nullptr;
  if (is_new) {
    if (std::holds_alternative<plan::Collective>(task.call.op->work)) {
      task.ticket = communicator_.post(collective_call(task.call));
    } else {
      message_calls(task.call, messages_);
      task.ticket = communicator_.post(messages_);
    }
  }
  Time start;
  if (!communicator_.poll(task.ticket, &start)) {
    return is_new;
  }
  finish(stream, start, now());
  return true;
}

void CpuDevice::run_to_end(Stream& stream) {
  Task& task = *stream.tasks.front();
  running_ = task.sequence;
  const Time start = now();
  if (task.host) {
    task.host();
    task.host = nullptr;
  } else {
    run_kernel(kernels::cpu_launchers(), task.call);
  }
  finish(stream, start, now());
}

void CpuDevice::finish(Stream& stream, Time start, Time end) {
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

void CpuDevice::idle(std::chrono::nanoseconds limit) {
  const std::uint32_t seen = communicator_.progress_count();
  if (run_one()) {
    return;
  }
  const Time start = now();
  if (idle_since_ == Time{}) {
    idle_since_ = start;
  }
  if (communicator_.may_spin()) {
    const Time spin_end = start + Time{std::chrono::nanoseconds(kSpin).count() * 1000};
    while (now() < spin_end) {
      if (communicator_.progress_count() != seen) {
        return;
      }
      __builtin_ia32_pause();
    }
  }
  const Time deadline = idle_since_ + Time{std::chrono::nanoseconds(timeout_).count() * 1000};
  if (now() >= deadline) {
    fail_waiting();
  }
  communicator_.wait(seen, limit);
}

void CpuDevice::fail_waiting() const {
  const Task* oldest = nullptr;
  for (const auto& stream : streams_) {
    const Task* head = stream->tasks.empty() ? nullptr : stream->tasks.front().get();
    if (head != nullptr && head->ticket != nullptr && (oldest == nullptr || head->sequence < oldest->sequence)) {
      oldest = head;
    }
  }
  CHECK(oldest != nullptr, "no op of the rank can run and none waits for another rank: its events form a circle");
  throw EnvironmentError(
      fmt::format("rank {} waited {} ms for rank {} in {} of step {}; ranks that wait for nobody: {}",
                  oldest->call.rank->rank, timeout_.count(), fmt::join(communicator_.missing(oldest->ticket), ", "),
                  describe_(oldest->call), oldest->call.binding.step, fmt::join(communicator_.busy_ranks(), ", ")));
}

std::vector<CpuDevice::Range> CpuDevice::ranges_in_flight() const {
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
