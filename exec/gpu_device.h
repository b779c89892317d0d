// A rank's share of a GPU as a device. The rank's thread puts ops into the GPU's streams as soon as what they wait for
// has been put there: events do the rest on the GPU. A collective or message goes in once all partners have come to it,
// and holds back its own stream alone until then. Functions of the host, and ops of the plan's host streams, run on the
// rank's thread once their stream has come to them; a read is copied in its stream, and looked at when that is over.
// Spans are the GPU's own, from events.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exec/gpu.h"
#include "exec/gpu_communicator.h"
#include "exec/queued_device.h"

namespace foretrain::exec {

class GpuDevice : public QueuedDevice {
 public:
  // All of it must outlive the device.
  GpuDevice(Gpu& gpu, EventPool& events, GpuCommunicator& communicator,
            std::function<std::string(const OpCall&)> describe);
  // Waits for what is in the GPU's streams.
  ~GpuDevice() override;

  StreamHandle create_stream() override;
  Bytes workspace() const override;

 private:
  // When the GPU comes to a task's beginning and its end.
  struct Marks {
    SharedEvent begin, end;
  };
  // An operand in the GPU's memory of an op that runs on the host, and where it is there.
  struct Staged {
    void* device = nullptr;
    std::byte* host = nullptr;
    std::int64_t bytes = 0;
    bool is_written = false;
  };
  // A stream's other half, on the GPU.
  struct Lane {
    GpuStream stream;
    std::deque<Marks> marks;        // of the tasks that are not complete and have been begun
    std::deque<std::byte*> copies;  // on the host, of those of them that are reads
    // Of a task for the host: the op with its copies there.
    SharedEvent may_run;
    OpCall call;
    std::vector<Staged> staged;
    std::byte* staging = nullptr;
    std::int64_t staging_bytes = 0;
  };

  bool run_some() override;
  std::chrono::nanoseconds nap() const override;

  bool complete(std::size_t index);
  bool submit(std::size_t index);
  void begin(Lane& lane, const Task& task);
  bool submit_communication(Lane& lane, Task& task);
  bool submit_host(Lane& lane, Task& task);
  void submit_read(Lane& lane, const Read& read);
  // Has the call's operands on the GPU copied to the host, and puts the copies in their place.
  void stage(Lane& lane, OpCall& call);
  SharedEvent mark(const Lane& lane);

  Gpu& gpu_;
  EventPool& pool_;
  GpuCommunicator& communicator_;
  std::vector<Lane> lanes_;               // by stream
  std::vector<std::byte*> spare_copies_;  // of kReadBytes each
  std::vector<MessageCall> messages_;
};

}  // namespace foretrain::exec
