#include "exec/gpu_device.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "exec/dispatch.h"

namespace foretrain::exec {

namespace {

// A GPU notifies nobody: so often it is asked while it has something to do, and else the host is looked after.
constexpr std::chrono::microseconds kGpuNap{20};
constexpr std::chrono::milliseconds kNap{50};
constexpr std::int64_t kAlignment = 256;
constexpr std::int64_t kReadBytes = 64;

bool runs_on_host(const OpCall& call) {
  return call.rank->role->streams[static_cast<std::size_t>(call.op->stream)].kind == plan::StreamKind::host;
}

// The host does not know it: what kernels look at.
const double* guard_of(const OpCall& call) {
  if (!call.guard) {
    return nullptr;
  }
  CHECK(std::holds_alternative<plan::OptimizerStep>(call.op->work) ||
            std::holds_alternative<plan::LambUpdate>(call.op->work),
        "kernels of {} look at no guard", plan::kind_name(call.op->work));
  CHECK(call.guard.dtype == Dtype::fp64, "a guard of type {}", name(call.guard.dtype));
  return static_cast<const double*>(call.guard.data);
}

}  // namespace

GpuDevice::GpuDevice(Gpu& gpu, EventPool& events, GpuCommunicator& communicator,
                     std::function<std::string(const OpCall&)> describe)
    : QueuedDevice(communicator, std::move(describe)), gpu_(gpu), pool_(events), communicator_(communicator) {}

GpuDevice::~GpuDevice() {
  for (const Lane& lane : lanes_) {
    try {
      gpu_.synchronise(lane.stream);
      gpu_.destroy(lane.stream);
      gpu_.release_host(lane.staging);
      std::for_each(lane.copies.begin(), lane.copies.end(), [this](std::byte* copy) { gpu_.release_host(copy); });
    } catch (const EnvironmentError&) {
      // A GPU that has failed says so to whoever asks it next.
    }
  }
  std::for_each(spare_copies_.begin(), spare_copies_.end(), [this](std::byte* copy) { gpu_.release_host(copy); });
}

StreamHandle GpuDevice::create_stream() {
  lanes_.push_back({gpu_.create_stream(), {}, {}, {}, {}});
  return QueuedDevice::create_stream();
}

Bytes GpuDevice::workspace() const {
  Bytes all;
  for (const Lane& lane : lanes_) {
    all += gpu_.stream_workspace() + Bytes{lane.staging_bytes};
  }
  return all;
}

std::chrono::nanoseconds GpuDevice::nap() const {
  const bool is_busy = std::any_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return !lane.marks.empty(); });
  return is_busy ? std::chrono::nanoseconds(kGpuNap) : kNap;
}

bool GpuDevice::run_some() {
  bool moved = false;
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    while (complete(i)) {
      moved = true;
    }
    moved = submit(i) || moved;
  }
  return moved;
}

bool GpuDevice::complete(std::size_t index) {
  Stream& stream = *streams_[index];
  Lane& lane = lanes_[index];
  if (stream.started == stream.completed || !gpu_.is_over(*lane.marks.front().end)) {
    return false;
  }
  const Task& task = *stream.tasks.front();
  const Time start =
      task.is_communication ? communicator_.finish(task.ticket) : gpu_.time_of(*lane.marks.front().begin);
  const Time end = gpu_.time_of(*lane.marks.front().end);
  lane.marks.pop_front();
  if (task.read.use) {
    task.read.use(lane.copies.front());
    spare_copies_.push_back(lane.copies.front());
    lane.copies.pop_front();
  }
  finish(stream, start, end);
  return true;
}

// The next task of the stream, as far as it goes; true when it is all in the GPU's stream.
bool GpuDevice::submit(std::size_t index) {
  Stream& stream = *streams_[index];
  Lane& lane = lanes_[index];
  Task* const task = stream.next();
  if (task == nullptr || !is_ready(*task)) {
    return false;
  }
  if (lane.marks.size() == static_cast<std::size_t>(stream.started - stream.completed)) {
    begin(lane, *task);
  }
  if (task->is_communication) {
    if (!submit_communication(lane, *task)) {
      return false;
    }
  } else if (task->read.use) {
    submit_read(lane, task->read);
  } else if (task->host || runs_on_host(task->call)) {
    if (!submit_host(lane, *task)) {
      return false;
    }
  } else {
    const kernels::Launchers& launch = gpu_.on(lane.stream);
    gpu_.begin_range(plan::kind_name(task->call.op->work));
    launch.set_guard(guard_of(task->call));
    run_kernel(launch, task->call);
    launch.set_guard(nullptr);
    gpu_.end_range();
  }
  lane.marks.back().end = mark(lane);
  ++stream.started;
  return true;
}

SharedEvent GpuDevice::mark(const Lane& lane) {
  SharedEvent event = pool_.take();
  gpu_.record(*event, lane.stream);
  return event;
}

// Behind all that it waits for.
void GpuDevice::begin(Lane& lane, const Task& task) {
  for (const Point& point : task.waits) {
    const auto other = static_cast<std::size_t>(point.stream);
    const std::int64_t completed = streams_[other]->completed;
    if (completed <= point.position) {
      gpu_.wait(lane.stream, *lanes_[other].marks[static_cast<std::size_t>(point.position - completed)].end);
    }
  }
  lane.marks.push_back({mark(lane), nullptr});
}

bool GpuDevice::submit_communication(Lane& lane, Task& task) {
  if (task.ticket == nullptr) {
    const SharedEvent& ready = lane.marks.back().begin;
    if (std::holds_alternative<plan::Collective>(task.call.op->work)) {
      task.ticket = communicator_.post(collective_call(task.call), lane.stream, ready);
    } else {
      message_calls(task.call, messages_);
      task.ticket = communicator_.post(messages_, lane.stream, ready);
    }
  }
  return communicator_.submit(task.ticket);
}

bool GpuDevice::submit_host(Lane& lane, Task& task) {
  if (lane.may_run == nullptr) {
    if (!task.host) {
      lane.call = task.call;
      stage(lane, lane.call);
    }
    lane.may_run = lane.staged.empty() ? lane.marks.back().begin : mark(lane);
  }
  if (!gpu_.is_over(*lane.may_run)) {
    return false;
  }
  lane.may_run = nullptr;
  if (task.host) {
    run_host(task);
    return true;
  }
  if (!is_guarded_off(lane.call)) {
    run_kernel(kernels::cpu_launchers(), lane.call);
  }
  for (const Staged& s : lane.staged) {
    if (s.is_written) {
      gpu_.on(lane.stream).copy(s.host, s.device, s.bytes);
    }
  }
  lane.staged.clear();
  return true;
}

void GpuDevice::submit_read(Lane& lane, const Read& read) {
  CHECK(read.bytes <= kReadBytes, "a look at {} bytes", read.bytes);
  if (spare_copies_.empty()) {
    spare_copies_.push_back(gpu_.allocate_host(Bytes{kReadBytes}));
  }
  lane.copies.push_back(spare_copies_.back());
  spare_copies_.pop_back();
  gpu_.on(lane.stream).copy(read.from, lane.copies.back(), read.bytes);
}

void GpuDevice::stage(Lane& lane, OpCall& call) {
  std::int64_t needed = 0;
  std::vector<kernels::Tensor*> tensors;
  const auto add = [&](std::vector<kernels::Tensor>& operands, const std::vector<plan::Operand>& of_plan, bool writes) {
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const plan::Buffer& buffer = call.rank->role->buffers[static_cast<std::size_t>(of_plan[i].buffer)];
      if (buffer.kind != plan::BufferKind::host) {
        const std::int64_t bytes = size_bytes(operands[i].dtype, of_plan[i].elements);
        lane.staged.push_back({operands[i].data, nullptr, bytes, writes});
        tensors.push_back(&operands[i]);
        needed += (bytes + kAlignment - 1) / kAlignment * kAlignment;
      }
    }
  };
  add(call.reads, call.op->reads, false);
  add(call.writes, call.op->writes, true);
  std::vector<kernels::Tensor> guard;
  if (call.guard) {
    guard.push_back(call.guard);
    add(guard, {call.op->guard->scalar}, false);
  }
  if (needed > lane.staging_bytes) {
    gpu_.synchronise(lane.stream);  // it may be copying from there
    gpu_.release_host(lane.staging);
    lane.staging = gpu_.allocate_host(Bytes{needed});
    lane.staging_bytes = needed;
  }
  std::byte* next = lane.staging;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    Staged& s = lane.staged[i];
    const auto known =
        std::find_if(lane.staged.begin(), lane.staged.begin() + static_cast<std::ptrdiff_t>(i),
                     [&](const Staged& earlier) { return earlier.device == s.device && earlier.bytes == s.bytes; });
    s.host = known - lane.staged.begin() < static_cast<std::ptrdiff_t>(i) ? known->host : next;
    next += (s.bytes + kAlignment - 1) / kAlignment * kAlignment;
    tensors[i]->data = s.host;
    if (!s.is_written) {
      gpu_.on(lane.stream).copy(s.device, s.host, s.bytes);
    }
  }
  if (call.guard) {
    call.guard = guard.front();
  }
}

}  // namespace foretrain::exec
