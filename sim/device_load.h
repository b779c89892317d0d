// What the communication kernels on a device take from the compute kernels beside them.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>

namespace foretrain::sim {

// Integers, so that sums do not depend on an order.
struct DeviceLoad {
  std::int64_t blocks = 0;   // multiprocessors occupied
  std::int64_t traffic = 0;  // bytes/s of the device's memory
  bool is_none() const { return blocks == 0 && traffic == 0; }
  DeviceLoad& operator+=(const DeviceLoad& other) {
    blocks += other.blocks;
    traffic += other.traffic;
    return *this;
  }
  DeviceLoad& operator-=(const DeviceLoad& other) {
    blocks -= other.blocks;
    traffic -= other.traffic;
    return *this;
  }
  friend auto operator<=>(const DeviceLoad&, const DeviceLoad&) = default;
};

// Of a meeting whose members know it by different figures.
inline DeviceLoad larger(const DeviceLoad& x, const DeviceLoad& y) {
  return {std::max(x.blocks, y.blocks), std::max(x.traffic, y.traffic)};
}

}  // namespace foretrain::sim
