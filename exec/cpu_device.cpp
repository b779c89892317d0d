#include "exec/cpu_device.h"

#include <utility>

#include "exec/clock.h"
#include "exec/dispatch.h"
#include "kernels/kernels.h"

namespace foretrain::exec {

namespace {

// Sleeps end at least this often, so that a timeout is noticed without a notification.
constexpr std::chrono::milliseconds kNap{50};

}  // namespace

CpuDevice::CpuDevice(Communicator& communicator, std::function<std::string(const OpCall&)> describe)
    : QueuedDevice(communicator, std::move(describe)), communicator_(communicator) {}

Bytes CpuDevice::workspace() const {
  return Bytes{static_cast<std::int64_t>(kernels::scratch_bytes())};
}

std::chrono::nanoseconds CpuDevice::nap() const {
  return kNap;
}

bool CpuDevice::run_some() {
  for (const auto& stream : streams_) {
    const Task* const task = stream->next();
    if (task != nullptr && task->is_communication && is_ready(*task) && run_communication(*stream)) {
      return true;
    }
  }
  Stream* oldest = nullptr;
  for (const auto& stream : streams_) {
    const Task* const task = stream->next();
    if (task != nullptr && !task->is_communication && is_ready(*task) &&
        (oldest == nullptr || task->sequence < oldest->next()->sequence)) {
      oldest = stream.get();
    }
  }
  if (oldest == nullptr) {
    return false;
  }
  run_to_end(*oldest);
  return true;
}

bool CpuDevice::run_communication(Stream& stream) {
  Task& task = *stream.next();
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
  finish_next(stream, start, now());
  return true;
}

void CpuDevice::run_to_end(Stream& stream) {
  Task& task = *stream.next();
  const Time start = now();
  if (task.host) {
    run_host(task);
  } else if (task.read.use) {
    task.read.use(static_cast<const std::byte*>(task.read.from));
  } else if (!is_guarded_off(task.call)) {
    run_kernel(kernels::cpu_launchers(), task.call);
  }
  finish_next(stream, start, now());
}

void CpuDevice::finish_next(Stream& stream, Time start, Time end) {
  ++stream.started;
  finish(stream, start, end);
}

}  // namespace foretrain::exec
