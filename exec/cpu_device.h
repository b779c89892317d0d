// A CPU core as a device. One thread, the rank's own, serves all streams of the rank: they take turns, op by op
// (topologies::Device::exclusive_streams). Communication that can go on comes first, then the oldest ready op. Whoever
// enqueues or synchronises drives the queues; a thread with nothing to do spins briefly, if cores are plenty, then
// sleeps.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/communicator.h"
#include "exec/device.h"

namespace foretrain::exec {

class CpuDevice : public Device {
 public:
  // The communicator must outlive the device. `describe` names an op in messages.
  CpuDevice(Communicator& communicator, std::function<std::string(const OpCall&)> describe);
  ~CpuDevice() override;

  void set_sink(CompletionSink* sink) { sink_ = sink; }
  void set_timeout(std::chrono::milliseconds timeout) { timeout_ = timeout; }

  StreamHandle create_stream() override;
  EventHandle create_event() override;
  void launch(StreamHandle stream, const OpCall& call) override;
  void launch_host(StreamHandle stream, std::function<void()> function) override;
  void record(EventHandle event, StreamHandle stream) override;
  void wait(StreamHandle stream, EventHandle event) override;
  void synchronise() override;

  // Addresses that unfinished ops enqueued before the running one read or write.
  struct Range {
    const std::byte* begin = nullptr;
    const std::byte* end = nullptr;
  };
  std::vector<Range> ranges_in_flight() const;

 private:
  // A place in a stream: reached when the stream has completed more than `position` tasks.
  struct Point {
    std::int32_t stream = -1;
    std::int64_t position = -1;
  };
  struct Task;
  struct Stream;

  Task& enqueue(StreamHandle stream);
  bool is_ready(const Task& task) const;
  bool run_one();
  bool run_communication(Stream& stream);
  void run_to_end(Stream& stream);
  void finish(Stream& stream, Time start, Time end);
  void make_room();
  void idle(std::chrono::nanoseconds limit);
  [[noreturn]] void fail_waiting() const;

  Communicator& communicator_;
  std::function<std::string(const OpCall&)> describe_;
  CompletionSink* sink_ = nullptr;
  std::chrono::milliseconds timeout_{60000};
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<Point> events_;
  std::vector<std::unique_ptr<Task>> spare_;
  std::vector<MessageCall> messages_;
  std::int64_t enqueued_ = 0, outstanding_ = 0, running_ = 0;
  Time idle_since_;  // zero: something ran since the last wait
};

}  // namespace foretrain::exec
