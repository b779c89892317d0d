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

}  // namespace

SharedDevices::SharedDevices(std::size_t devices, ShareSpeeds& speeds, Activities& activities)
    : speeds_(speeds), activities_(activities), devices_(devices) {}

void SharedDevices::change(std::int32_t d) {
  if (!device(d).has_changed) {
    device(d).has_changed = true;
    changed_.push_back(d);
  }
}

void SharedDevices::change_communication(std::int32_t id) {
  UnderWay& c = under_way(id);
  if (!c.has_changed) {
    c.has_changed = true;
    changed_communication_.push_back(id);
  }
}

SharedDevices::UnderWay& SharedDevices::begin(std::int32_t id) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= under_way_.size()) {
    under_way_.resize(index + 1);
  }
  return under_way_[index];
}

void SharedDevices::start_compute(std::int32_t d, std::int32_t id, Time now, Time duration, const plan::Op& op) {
  UnderWay& compute = begin(id);
  compute.op = &op;
  compute.devices.assign(1, d);
  device(d).computes.push_back(id);
  activities_.start_shared(id, now, duration);
  change(d);
}

void SharedDevices::start_communication(const std::vector<std::int32_t>& devices, std::int32_t id, Time now,
                                        Time duration, const DeviceLoad& load) {
  UnderWay& c = begin(id);
  c.op = nullptr;
  c.devices.assign(devices.begin(), devices.end());
  c.load = load;
  c.computing = 0;
  for (const std::int32_t d : devices) {
    device(d).load += load;
    device(d).communication.push_back(id);
    c.computing += device(d).was_computing ? 1 : 0;
    change(d);
  }
  activities_.start_shared(id, now, duration);
  change_communication(id);
}

void SharedDevices::end(std::int32_t id) {
  if (static_cast<std::size_t>(id) >= under_way_.size()) {
    return;
  }
  UnderWay& ended = under_way(id);
  for (const std::int32_t d : ended.devices) {
    if (ended.op != nullptr) {
      remove(device(d).computes, id);
    } else {
      device(d).load -= ended.load;
      remove(device(d).communication, id);
    }
    change(d);
  }
  ended.devices.clear();
}

void SharedDevices::set_speeds(Time now) {
  for (const std::int32_t at : changed_) {
    Device& d = device(at);
    d.has_changed = false;
    for (const std::int32_t id : d.computes) {
      activities_.set_speed(id, now, speeds_.compute(*under_way(id).op, d.load));
    }
    const bool computes = !d.computes.empty();
    if (computes == d.was_computing) {
      continue;
    }
    d.was_computing = computes;
    for (const std::int32_t id : d.communication) {
      under_way(id).computing += computes ? 1 : -1;
      change_communication(id);
    }
  }
  changed_.clear();
  for (const std::int32_t id : changed_communication_) {
    UnderWay& c = under_way(id);
    c.has_changed = false;
    if (!c.devices.empty()) {
      activities_.set_speed(id, now, c.computing > 0 ? speeds_.communication_beside_compute() : kFullSpeed);
    }
  }
  changed_communication_.clear();
}

}  // namespace foretrain::sim
