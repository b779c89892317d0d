#include "exec/cpu_device.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "exec/clock.h"
#include "exec/dispatch.h"
#include "exec/loader.h"
#include "kernels/kernels.h"

namespace foretrain::exec {

namespace {

// Sleeps end at least this often, so that a timeout is noticed without a notification.
constexpr std::chrono::milliseconds kNap{50};
// A shorter sleep is not exact: what a slow rank owes less is put off to later ops.
constexpr double kShortestSleep = 200e-6;

}  // namespace

CpuDevice::CpuDevice(Communicator& communicator, std::function<std::string(const OpCall&)> describe)
    : QueuedDevice(communicator, std::move(describe)), communicator_(communicator) {}

Bytes CpuDevice::workspace() const {
  return Bytes{static_cast<std::int64_t>(kernels::scratch_bytes())};
}

std::chrono::nanoseconds CpuDevice::nap() const {
  return is_reading_ ? std::min<std::chrono::nanoseconds>(kNap, loader_->wait()) : kNap;
}

bool CpuDevice::run_some() {
  for (const auto& stream : streams_) {
    const Task* const task = stream->next();
    if (task != nullptr && task->is_communication && is_ready(*task) && run_communication(*stream)) {
      return true;
    }
  }
  is_reading_ = false;
  Stream* oldest = nullptr;
  for (const auto& stream : streams_) {
    const Task* const task = stream->next();
    if (task != nullptr && is_read(*task) && is_ready(*task)) {
      if (take_read(*stream)) {
        return true;
      }
      is_reading_ = true;
    } else if (task != nullptr && !task->is_communication && is_ready(*task) &&
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
    if (std::holds_alternative<plan::Channel>(task.call.op->work)) {
      if (!post_channel(task)) {
        return false;
      }
    } else if (std::holds_alternative<plan::Collective>(task.call.op->work)) {
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

bool CpuDevice::post_channel(Task& task) {
  const auto& op = std::get<plan::Channel>(task.call.op->work);
  const RankContext& rank = *task.call.rank;
  const std::int64_t step = task.call.binding.step;
  messages_.clear();
  if (op.step == plan::ChannelStep::take) {
    return post_take(task);
  }
  if (op.step == plan::ChannelStep::release) {
    const auto all_meet = [&](std::int64_t clock) {
      return rank.keeper != nullptr && rank.keeper->wants(static_cast<int>(clock));
    };
    plan::ChannelClocks& clocks = clocks_.at(op.tag);
    for (const int worker : clocks.release(op.staleness, all_meet)) {
      channel_calls(task.call, worker, clocks.clock(worker) - 1, messages_);
    }
  } else {
    channel_calls(task.call, rank.index_in(op.group), step, messages_);
  }
  task.ticket = communicator_.post(messages_);
  return true;
}

// What a take says of its turn, for the update and for whoever makes the same.
void CpuDevice::tell_turn(const Task& task, const plan::ChannelClocks& clocks, bool is_update) {
  const auto* const made = static_cast<const double*>(task.call.reads.front().data);
  auto* const turn = static_cast<double*>(task.call.writes.back().data);
  for (int worker = 0; worker < clocks.workers(); ++worker) {
    turn[worker] = std::max(made[worker], static_cast<double>(clocks.clock(worker)));
  }
  turn[clocks.workers()] = is_update ? 1 : 0;
}

bool CpuDevice::post_take(Task& task) {
  const auto& op = std::get<plan::Channel>(task.call.op->work);
  const GroupView& group = task.call.rank->groups[static_cast<std::size_t>(op.group)];
  const std::int64_t step = task.call.binding.step;
  plan::ChannelClocks& clocks = clocks_.try_emplace(op.tag, group.size() - 1, step).first->second;
  // What it could take; of a message in several parts the last one says that all are there.
  for (int worker = 0; worker < clocks.workers(); ++worker) {
    channel_calls(task.call, worker, clocks.clock(worker), messages_);
    if (communicator_.is_left_out(group.members[static_cast<std::size_t>(worker)])) {
      clocks.leave_out(worker);
    }
  }
  const auto parts = messages_.size() / static_cast<std::size_t>(clocks.workers());
  std::vector<MessageCall> last;
  for (std::size_t i = parts - 1; i < messages_.size(); i += parts) {
    last.push_back(messages_[i]);
  }
  const int turn =
      op.in_turn ? plan::worker_in_turn(clocks.workers(), step, task.call.binding.microbatch) : clocks.overdue(step);
  const std::span<const MessageCall> wanted =
      turn >= 0 ? std::span(last).subspan(static_cast<std::size_t>(turn), 1) : std::span(last);
  const int found = communicator_.first_sent(wanted);
  if (found < 0 && turn >= 0 && clocks.is_left_out(turn)) {
    clocks.pass_over(turn);
    task.call.sender = plan::passed_over(turn);
    tell_turn(task, clocks, false);
    task.ticket = communicator_.post(std::span<const MessageCall>{});
    return true;
  }
  if (found < 0) {
    return false;
  }
  const int sender = std::max(turn, 0) + found;
  const auto* const made = static_cast<const double*>(task.call.reads.front().data);
  const bool is_update = static_cast<double>(clocks.clock(sender)) >= made[sender];
  task.call.sender = is_update ? sender : plan::dropped(sender);
  if (is_update) {
    clocks.take(sender);
  } else {
    clocks.drop(sender);
  }
  tell_turn(task, clocks, is_update);
  task.ticket = communicator_.post(std::span(messages_).subspan(static_cast<std::size_t>(sender) * parts, parts));
  return true;
}

bool CpuDevice::is_read(const Task& task) const {
  if (loader_ == nullptr || task.call.op == nullptr || task.host || task.read.use) {
    return false;
  }
  const auto* const host = std::get_if<plan::Host>(&task.call.op->work);
  return host != nullptr && host->bytes > 0;
}

bool CpuDevice::take_read(Stream& stream) {
  Task& task = *stream.next();
  if (task.since == Time{}) {
    task.since = now();
  }
  if (!loader_->take(task.call)) {
    return false;
  }
  finish_next(stream, task.since, now());
  return true;
}

// As long as a slower core would have taken in the end.
void CpuDevice::hold_back(Time took) {
  owed_ += seconds(took) * (1 / speed_ - 1);
  if (owed_ >= kShortestSleep) {
    const Time start = now();
    std::this_thread::sleep_for(std::chrono::duration<double>(owed_));
    owed_ -= seconds(now() - start);
  }
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
    if (speed_ < 1) {
      hold_back(now() - start);
    }
  }
  finish_next(stream, start, now());
}

void CpuDevice::finish_next(Stream& stream, Time start, Time end) {
  ++stream.started;
  finish(stream, start, end);
}

}  // namespace foretrain::exec
