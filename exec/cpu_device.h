// A CPU core as a device. One thread, the rank's own, serves all streams of the rank: they take turns, op by op
// (topologies::Device::exclusive_streams). Communication that can go on comes first, then the oldest ready op.
#pragma once

#include <map>

#include "exec/queued_device.h"
#include "plan/channel.h"

namespace foretrain::exec {

class CpuDevice : public QueuedDevice {
 public:
  // The communicator must outlive the device. `describe` names an op in messages.
  CpuDevice(Communicator& communicator, std::function<std::string(const OpCall&)> describe);

  Bytes workspace() const override;

 private:
  bool run_some() override;
  std::chrono::nanoseconds nap() const override;

  bool run_communication(Stream& stream);
  // False: nobody has put anything yet.
  bool post_channel(Task& task);
  void run_to_end(Stream& stream);
  // The next task has been started and is complete.
  void finish_next(Stream& stream, Time start, Time end);

  Communicator& communicator_;
  std::vector<MessageCall> messages_;
  std::map<std::int32_t, plan::ChannelClocks> clocks_;  // by tag: of channels whose server the rank is
};

}  // namespace foretrain::exec
