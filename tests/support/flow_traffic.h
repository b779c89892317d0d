// A platform and a traffic that our flows and SimGrid's both can run: who sends what to whom, and what follows when it
// has arrived.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "base/units.h"
#include "sim/fair_share.h"

namespace foretrain::sim {

struct Platform {
  int hosts = 0;
  std::vector<Bandwidth> links;
  std::vector<int> spread;  // by link: a flow that crosses it puts 1/spread of its rate there
  Time latency;             // of every route
  std::function<void(int from, int to, std::vector<LinkIndex>& route)> route;
};

struct Message {
  int from = 0, to = 0;
  Bytes bytes;
};

class Traffic {
 public:
  using Send = std::function<void(std::int32_t tag, const Message& message)>;

  virtual ~Traffic() = default;
  virtual std::int32_t size() const = 0;                       // messages in all; their tags are 0 to size - 1
  virtual std::vector<std::pair<int, int>> pairs() const = 0;  // that any message takes, each once
  virtual void begin(const Send& send) = 0;
  virtual void ended(std::int32_t tag, const Send& send) = 0;  // at the instant at which it arrives
};

struct FlowRun {
  double wall_s = 0;           // of the simulation alone: the platform stands before
  std::vector<double> ends_s;  // simulated, by tag
};

FlowRun run_flows(const Platform& platform, Traffic& traffic);

}  // namespace foretrain::sim
