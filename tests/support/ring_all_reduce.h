// Ring all-reduce as messages: 2 (n-1) steps; a host sends its next chunk when it has sent the last one and received
// another.
#pragma once

#include "tests/support/flow_traffic.h"

namespace foretrain::sim {

class RingAllReduce : public Traffic {
 public:
  RingAllReduce(int hosts, Bytes buffer)
      : hosts_(hosts), steps_(2 * (hosts - 1)), chunk_(Bytes{buffer.value / hosts}), met_(index(size())) {}
  std::int32_t size() const override { return hosts_ * steps_; }
  std::vector<std::pair<int, int>> pairs() const override {
    std::vector<std::pair<int, int>> pairs;
    for (int h = 0; h < hosts_; ++h) {
      pairs.emplace_back(h, (h + 1) % hosts_);
    }
    return pairs;
  }
  void begin(const Send& send) override {
    for (int h = 0; h < hosts_; ++h) {
      send(h, message(h));
    }
  }
  void ended(std::int32_t tag, const Send& send) override {
    const int host = tag % hosts_, step = tag / hosts_ + 1;
    if (step < steps_) {
      for (const int h : {host, (host + 1) % hosts_}) {
        const std::int32_t next = step * hosts_ + h;
        if (++met_[index(next)] == 2) {
          send(next, message(h));
        }
      }
    }
  }

 private:
  static std::size_t index(std::int32_t i) { return static_cast<std::size_t>(i); }
  Message message(int h) const { return {h, (h + 1) % hosts_, chunk_}; }
  int hosts_, steps_;
  Bytes chunk_;
  std::vector<std::uint8_t> met_;  // by message: which of the two it waits for has come
};

}  // namespace foretrain::sim
