// What devices have in common that the rank's own thread drives: queues of ops, one for each stream. Whoever enqueues
// or synchronises drives them; a thread with nothing to do spins briefly, if cores are plenty, then sleeps.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/communicator.h"
#include "exec/device.h"

namespace foretrain::exec {

class Loader;

class QueuedDevice : public Device {
 public:
  // `partners` must outlive the device. `describe` names an op in messages.
  QueuedDevice(Partners& partners, std::function<std::string(const OpCall&)> describe);
  ~QueuedDevice() override;
  QueuedDevice(const QueuedDevice&) = delete;
  QueuedDevice& operator=(const QueuedDevice&) = delete;

  void set_sink(CompletionSink* sink) { sink_ = sink; }
  // What part of its speed it is held back to, and who reads for it: nobody where loads take no time (nullptr).
  void set_pace(double speed, Loader* loader) {
    speed_ = speed;
    loader_ = loader;
  }
  void set_timeout(std::chrono::milliseconds timeout) { timeout_ = timeout; }

  StreamHandle create_stream() override;
  EventHandle create_event() override;
  void launch(StreamHandle stream, const OpCall& call) override;
  void launch_host(StreamHandle stream, std::function<void()> function) override;
  void launch_read(StreamHandle stream, const void* from, std::int64_t bytes,
                   std::function<void(const std::byte*)> use) override;
  void record(EventHandle event, StreamHandle stream) override;
  void wait(StreamHandle stream, EventHandle event) override;
  void synchronise() override;

  // Addresses that unfinished ops enqueued before the running function of the host read or write.
  struct Range {
    const std::byte* begin = nullptr;
    const std::byte* end = nullptr;
  };
  std::vector<Range> ranges_in_flight() const;

  // Bytes that kernels and communication of this rank hold beside the operands. On the rank's thread.
  virtual Bytes workspace() const = 0;

 protected:
  // A place in a stream: reached when more than `position` of its tasks are.
  struct Point {
    std::int32_t stream = -1;
    std::int64_t position = -1;
  };
  struct Read {
    const void* from = nullptr;
    std::int64_t bytes = 0;
    std::function<void(const std::byte*)> use;
  };
  struct Task {
    OpCall call;
    std::function<void()> host;  // instead of the call
    Read read;                   // or this
    bool is_communication = false;
    std::vector<Point> waits;
    Time since;  // a load: when it began to wait for what is read; zero: not yet
    std::int64_t sequence = 0;
    Partners::Ticket ticket = nullptr;  // of posted communication
  };
  // Tasks that are not complete; of these the first `started - completed` have been started.
  struct Stream {
    std::deque<std::unique_ptr<Task>> tasks;
    std::vector<Point> waits;  // of the next task
    std::int64_t enqueued = 0, started = 0, completed = 0;

    // The first that has not been started; nullptr: there is none.
    Task* next() const {
      const auto i = static_cast<std::size_t>(started - completed);
      return i < tasks.size() ? tasks[i].get() : nullptr;
    }
  };

  // Runs, or moves on, what can be; false if there is nothing.
  virtual bool run_some() = 0;
  // The longest sleep after which to look again without a notification.
  virtual std::chrono::nanoseconds nap() const = 0;

  // Something is being read, so that waiting ends by itself.
  virtual bool is_reading() const { return false; }

  // All that it waits for has been started.
  bool is_ready(const Task& task) const;
  void run_host(Task& task);
  // The oldest task of a stream is complete.
  void finish(Stream& stream, Time start, Time end);
  Stream& stream(std::int32_t index) { return *streams_[static_cast<std::size_t>(index)]; }

  std::vector<std::unique_ptr<Stream>> streams_;
  double speed_ = 1;
  Loader* loader_ = nullptr;

 private:
  Task& enqueue(StreamHandle stream);
  bool run();
  void make_room();
  void idle(std::chrono::nanoseconds limit);
  [[noreturn]] void fail_waiting() const;

  Partners& partners_;
  std::function<std::string(const OpCall&)> describe_;
  CompletionSink* sink_ = nullptr;
  std::chrono::milliseconds timeout_{60000};
  std::vector<Point> events_;
  std::vector<std::unique_ptr<Task>> spare_;
  std::int64_t enqueued_ = 0, outstanding_ = 0, running_ = 0;
  Time idle_since_;  // zero: something ran since the last wait
};

}  // namespace foretrain::exec
