#include "tests/support/packet_level.h"

namespace foretrain::sim {

// Out of hosts, into hosts, up from leaves, down to leaves.
Platform as_flows(const LeafSpine& network) {
  constexpr double kShare = static_cast<double>(kPayload) / (kPayload + kHeaders);
  const int hosts = network.hosts(), per_leaf = network.hosts_per_leaf, leaves = network.leaves;
  Platform platform;
  platform.hosts = hosts;
  platform.latency = Time{2 * network.latency.value};
  platform.links.assign(static_cast<std::size_t>(2 * hosts), {network.host.value * kShare});
  platform.links.resize(static_cast<std::size_t>(2 * (hosts + leaves)), {network.uplink.value * kShare});
  platform.spread.assign(platform.links.size(), 1);
  platform.route = [=](int from, int to, std::vector<LinkIndex>& route) {
    route.push_back(from);
    if (from / per_leaf != to / per_leaf) {
      route.push_back(2 * hosts + from / per_leaf);
      route.push_back(2 * hosts + leaves + to / per_leaf);
    }
    route.push_back(hosts + to);
  };
  return platform;
}

}  // namespace foretrain::sim
