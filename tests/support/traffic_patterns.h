// Traffic (flow_traffic.h) that more than one test or benchmark sends.
#pragma once

#include <random>
#include <set>

#include "tests/support/flow_traffic.h"

namespace foretrain::sim {

// 2 (n-1) steps; a host sends its next chunk when it has sent the last one and received another.
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

// Chains of messages with random ends and sizes: one that arrives is followed by the next of its chain, so that flows
// come and go at instants of no regularity.
class RandomChains : public Traffic {
 public:
  RandomChains(std::mt19937& random, int hosts, std::int32_t chains, std::int32_t messages) : chains_(chains) {
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    for (std::int32_t i = 0; i < messages; ++i) {
      Message m;
      m.from = below(hosts);
      m.to = (m.from + 1 + below(hosts - 1)) % hosts;
      m.bytes = Bytes{1 + below(100'000'000)};
      messages_.push_back(m);
    }
  }
  std::int32_t size() const override { return static_cast<std::int32_t>(messages_.size()); }
  std::vector<std::pair<int, int>> pairs() const override {
    std::set<std::pair<int, int>> pairs;
    for (const Message& m : messages_) {
      pairs.emplace(m.from, m.to);
    }
    return {pairs.begin(), pairs.end()};
  }
  void begin(const Send& send) override {
    for (std::int32_t tag = 0; tag < chains_; ++tag) {
      send(tag, messages_[static_cast<std::size_t>(tag)]);
    }
  }
  void ended(std::int32_t tag, const Send& send) override {
    const std::int32_t next = tag + chains_;
    if (next < size()) {
      send(next, messages_[static_cast<std::size_t>(next)]);
    }
  }

 private:
  std::int32_t chains_;
  std::vector<Message> messages_;
};

}  // namespace foretrain::sim
