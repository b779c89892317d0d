#include "sim/shared_devices.h"

#include <algorithm>

#include "sim/role_model.h"

namespace foretrain::sim {

SharedDevices::SharedDevices(std::size_t devices, ShareSpeeds& speeds, Activities& activities)
    : speeds_(speeds), activities_(activities), devices_(devices) {}

void SharedDevices::change(std::int32_t device) {
  Device& d = devices_[static_cast<std::size_t>(device)];
  if (!d.has_changed) {
    d.has_changed = true;
    changed_.push_back(device);
  }
}

void SharedDevices::change_communication(std::int32_t id, Communication& c) {
  if (!c.has_changed) {
    c.has_changed = true;
    changed_communication_.push_back(id);
  }
}

void SharedDevices::start_compute(std::int32_t device, std::int32_t id, Time now, Time duration, const plan::Op& op) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= compute_device_.size()) {
    compute_device_.resize(index + 1, -1);
  }
  compute_device_[index] = device;
  devices_[static_cast<std::size_t>(device)].computes.push_back({id, &op});
  activities_.start_shared(id, now, duration);
  change(device);
}

void SharedDevices::start_communication(const std::vector<std::int32_t>& devices, std::int32_t id, Time now,
                                        Time duration, const DeviceLoad& load) {
  Communication& c = communications_[id];
  c = {load, devices, 0, false};
  for (const std::int32_t device : devices) {
    Device& d = devices_[static_cast<std::size_t>(device)];
    d.load += load;
    d.communication.push_back(id);
    c.computing += d.was_computing ? 1 : 0;
    change(device);
  }
  activities_.start_shared(id, now, duration);
  change_communication(id, c);
}

void SharedDevices::end(std::int32_t id) {
  const auto index = static_cast<std::size_t>(id);
  if (index < compute_device_.size() && compute_device_[index] >= 0) {
    const std::int32_t device = compute_device_[index];
    auto& computes = devices_[static_cast<std::size_t>(device)].computes;
    computes.erase(std::find_if(computes.begin(), computes.end(), [id](const Compute& c) { return c.id == id; }));
    compute_device_[index] = -1;
    change(device);
    return;
  }
  const auto found = communications_.find(id);
  if (found == communications_.end()) {
    return;
  }
  for (const std::int32_t device : found->second.devices) {
    Device& d = devices_[static_cast<std::size_t>(device)];
    d.load -= found->second.load;
    d.communication.erase(std::find(d.communication.begin(), d.communication.end(), id));
    change(device);
  }
  communications_.erase(found);
}

void SharedDevices::set_speeds(Time now) {
  for (const std::int32_t device : changed_) {
    Device& d = devices_[static_cast<std::size_t>(device)];
    d.has_changed = false;
    for (const Compute& c : d.computes) {
      activities_.set_speed(c.id, now, speeds_.compute(*c.op, d.load));
    }
    const bool computes = !d.computes.empty();
    if (computes == d.was_computing) {
      continue;
    }
    d.was_computing = computes;
    for (const std::int32_t id : d.communication) {
      Communication& c = communications_.find(id)->second;
      c.computing += computes ? 1 : -1;
      change_communication(id, c);
    }
  }
  changed_.clear();
  for (const std::int32_t id : changed_communication_) {
    const auto found = communications_.find(id);
    if (found != communications_.end()) {
      found->second.has_changed = false;
      activities_.set_speed(id, now, found->second.computing > 0 ? speeds_.communication_beside_compute() : kFullSpeed);
    }
  }
  changed_communication_.clear();
}

}  // namespace foretrain::sim
