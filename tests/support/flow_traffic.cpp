#include "tests/support/flow_traffic.h"

#include <chrono>

#include "sim/flow_network.h"

namespace foretrain::sim {

FlowRun run_flows(const Platform& platform, Traffic& traffic) {
  FlowRun run;
  run.ends_s.resize(static_cast<std::size_t>(traffic.size()));
  FlowNetwork network(platform.links);
  std::vector<std::int32_t> tags;  // by flow
  std::vector<LinkIndex> links;
  std::vector<LinkUse> route;
  Time now;
  const Traffic::Send send = [&](std::int32_t tag, const Message& message) {
    links.clear();
    platform.route(message.from, message.to, links);
    route.clear();
    for (const LinkIndex link : links) {
      route.push_back({link, 1, platform.spread[static_cast<std::size_t>(link)]});
    }
    const FlowIndex flow = network.start({.route = route, .bytes = message.bytes, .latency = platform.latency}, now);
    if (static_cast<std::size_t>(flow) >= tags.size()) {
      tags.resize(static_cast<std::size_t>(flow) + 1);
    }
    tags[static_cast<std::size_t>(flow)] = tag;
  };
  const auto from = std::chrono::steady_clock::now();
  traffic.begin(send);
  std::vector<std::int32_t> arrived;
  while (!network.empty()) {
    now = network.next();
    arrived.clear();
    for (const FlowIndex flow : network.advance(now)) {
      arrived.push_back(tags[static_cast<std::size_t>(flow)]);
    }
    for (const std::int32_t tag : arrived) {
      run.ends_s[static_cast<std::size_t>(tag)] = seconds(now);
      traffic.ended(tag, send);
    }
  }
  run.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
  return run;
}

}  // namespace foretrain::sim
