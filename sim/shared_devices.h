// Which compute ops and which communication are under way on each device, and the speeds that follow. Used by
// engine.cpp only. Speeds follow from who is there, and are set once per instant: no result depends on the order inside
// an instant.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/activities.h"
#include "sim/device_share.h"
#include "sim/meeting_flows.h"

namespace foretrain::sim {

class SharedDevices {
 public:
  // One device per actor. The others must outlive it.
  SharedDevices(std::size_t devices, ShareSpeeds& speeds, Activities& activities, MeetingFlows& flows);

  // Starts the op as activity `id` on the device.
  void start_compute(std::int32_t device, std::int32_t id, Time now, Time duration, const plan::Op& op);
  // Starts the communication as activity `id` on the devices, each of them once.
  void start_communication(const std::vector<std::int32_t>& devices, std::int32_t id, Time now, Time duration,
                           const DeviceLoad& load);
  // The same of what runs as a flow: `flow` is under way.
  void start_flow(const std::vector<std::int32_t>& devices, std::int32_t id, std::int32_t flow, const DeviceLoad& load);
  // Of either; others are not known here.
  void end(std::int32_t id);
  // After all starts and ends of an instant.
  void set_speeds(Time now);

 private:
  struct Device {
    DeviceLoad load;
    std::int32_t computing = 0;  // ops
    bool was_computing = false;  // when speeds were set last
    bool has_changed = false;
    std::int32_t first = -1;                        // id of one of the ops that compute
    std::vector<std::int32_t> more, communication;  // ids of the others, which are few; and of communication
  };
  struct Compute {  // by id; no device: not under way
    const plan::Op* op = nullptr;
    std::int32_t device = -1;
  };
  struct Communication {  // by id; no devices: not under way
    std::vector<std::int32_t> devices;
    DeviceLoad load;
    std::int32_t flow = -1;      // -1: an activity
    std::int64_t computing = 0;  // devices that compute
    bool has_changed = false;
  };
  Device& device(std::int32_t d) { return devices_[static_cast<std::size_t>(d)]; }
  Communication& communication(std::int32_t id) { return communications_[static_cast<std::size_t>(id)]; }
  void set_speed_of(std::int32_t compute, const DeviceLoad& load, Time now);
  void change(std::int32_t d);
  void change_communication(std::int32_t id);
  void add_communication(const std::vector<std::int32_t>& devices, std::int32_t id, std::int32_t flow,
                         const DeviceLoad& load);

  ShareSpeeds& speeds_;
  Activities& activities_;
  MeetingFlows& flows_;
  std::vector<Device> devices_;
  std::vector<Compute> computes_;
  std::vector<Communication> communications_;
  std::vector<std::int32_t> changed_, changed_communication_;
};

}  // namespace foretrain::sim
