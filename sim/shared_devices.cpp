#include "sim/shared_devices.h"

#include <algorithm>

#include "sim/role_model.h"

namespace foretrain::sim {
namespace {

void remove(std::vector<std::int32_t>& from, std::int32_t id) {
  const auto at = std::find(from.begin(), from.end(), id);
  *at = from.back();
  from.pop_back();
}

template <class T>
T& at_id(std::vector<T>& all, std::int32_t id) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= all.size()) {
    all.resize(index + 1);
  }
  return all[index];
}

}  // namespace

SharedDevices::SharedDevices(std::size_t devices, ShareSpeeds& speeds, Activities& activities, MeetingFlows& flows)
    : speeds_(speeds), activities_(activities), flows_(flows), devices_(devices) {}

void SharedDevices::change(std::int32_t d) {
  if (!device(d).has_changed) {
    device(d).has_changed = true;
    changed_.push_back(d);
  }
}

void SharedDevices::change_communication(std::int32_t id) {
  Communication& c = communication(id);
  if (!c.has_changed) {
    c.has_changed = true;
    changed_communication_.push_back(id);
  }
}

void SharedDevices::start_compute(std::int32_t at, std::int32_t id, Time now, Time duration, const plan::Op& op) {
  at_id(computes_, id) = {&op, at};
  Device& d = device(at);
  if (d.computing++ == 0) {
    d.first = id;
  } else {
    d.more.push_back(id);
  }
  activities_.start_shared(id, now, duration);
  change(at);
}

void SharedDevices::start_communication(const std::vector<std::int32_t>& devices, std::int32_t id, Time now,
                                        Time duration, const DeviceLoad& load) {
  activities_.start_shared(id, now, duration);
  add_communication(devices, id, -1, load);
}

void SharedDevices::start_flow(const std::vector<std::int32_t>& devices, std::int32_t id, std::int32_t flow,
                               const DeviceLoad& load) {
  add_communication(devices, id, flow, load);
}

void SharedDevices::add_communication(const std::vector<std::int32_t>& devices, std::int32_t id, std::int32_t flow,
                                      const DeviceLoad& load) {
  Communication& c = at_id(communications_, id);
  c.devices.assign(devices.begin(), devices.end());
  c.load = load;
  c.flow = flow;
  c.computing = 0;
  for (const std::int32_t at : devices) {
    device(at).load += load;
    device(at).communication.push_back(id);
    c.computing += device(at).was_computing ? 1 : 0;
    change(at);
  }
  change_communication(id);
}

void SharedDevices::end(std::int32_t id) {
  const auto index = static_cast<std::size_t>(id);
  if (index < computes_.size() && computes_[index].device >= 0) {
    Device& d = device(computes_[index].device);
    change(computes_[index].device);
    computes_[index].device = -1;
    --d.computing;
    if (d.first != id) {
      remove(d.more, id);
    } else if (d.computing > 0) {
      d.first = d.more.back();
      d.more.pop_back();
    }
    return;
  }
  if (index < communications_.size()) {
    Communication& c = communications_[index];
    for (const std::int32_t at : c.devices) {
      device(at).load -= c.load;
      remove(device(at).communication, id);
      change(at);
    }
    c.devices.clear();
  }
}

void SharedDevices::set_speed_of(std::int32_t compute, const DeviceLoad& load, Time now) {
  activities_.set_speed(compute, now, speeds_.compute(*computes_[static_cast<std::size_t>(compute)].op, load));
}

void SharedDevices::set_speeds(Time now) {
  for (const std::int32_t at : changed_) {
    Device& d = device(at);
    d.has_changed = false;
    const bool computes = d.computing > 0;
    if (computes) {
      set_speed_of(d.first, d.load, now);
      for (const std::int32_t id : d.more) {
        set_speed_of(id, d.load, now);
      }
    }
    if (computes == d.was_computing) {
      continue;
    }
    d.was_computing = computes;
    for (const std::int32_t id : d.communication) {
      communication(id).computing += computes ? 1 : -1;
      change_communication(id);
    }
  }
  changed_.clear();
  for (const std::int32_t id : changed_communication_) {
    Communication& c = communication(id);
    c.has_changed = false;
    if (c.devices.empty()) {
      continue;
    }
    const std::int64_t speed = c.computing > 0 ? speeds_.communication_beside_compute() : kFullSpeed;
    if (c.flow < 0) {
      activities_.set_speed(id, now, speed);
    } else {
      flows_.set_speed(c.flow, speed, now);
    }
  }
  changed_communication_.clear();
}

}  // namespace foretrain::sim
