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
  bool is_reading() const override { return is_reading_; }

  bool run_communication(Stream& stream);
  // False: nobody has put anything yet.
  bool post_channel(Task& task);
  bool post_take(Task& task);
  static void tell_turn(const Task& task, const plan::ChannelClocks& clocks, bool is_update);
  bool is_read(const Task& task) const;
  // False: what it loads is not there yet.
  bool take_read(Stream& stream);
  void run_to_end(Stream& stream);
  void hold_back(Time took);
  // The next task has been started and is complete.
  void finish_next(Stream& stream, Time start, Time end);

  Communicator& communicator_;
  std::vector<MessageCall> messages_;
  bool is_reading_ = false;                             // a load could go on but for what it reads
  double owed_ = 0;                                     // seconds that ops have been too fast so far
  std::map<std::int32_t, plan::ChannelClocks> clocks_;  // by tag: of channels whose server the rank is
};

}  // namespace foretrain::exec
