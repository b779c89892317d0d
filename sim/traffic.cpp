#include "sim/traffic.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace foretrain::sim {
namespace {

constexpr Wide kPicoseconds = 1'000'000'000'000;
constexpr double kFastest = 1e14;  // B/s, of a flow

std::int32_t use_of(double part) {
  return static_cast<std::int32_t>(std::llround(std::min(part, 1024.0) * kWholeUse));
}

std::int64_t divided(std::int64_t a, std::size_t b) {
  const auto divisor = static_cast<std::int64_t>(b);
  return (a + divisor / 2) / divisor;
}

}  // namespace

std::vector<std::span<const plan::Rank>> by_node(std::span<const plan::Rank> members, int devices_per_node) {
  std::vector<std::span<const plan::Rank>> nodes;
  for (std::size_t i = 0, begin = 0; i < members.size(); ++i) {
    if (i + 1 == members.size() || members[i + 1] / devices_per_node != members[i] / devices_per_node) {
      nodes.push_back(members.subspan(begin, i + 1 - begin));
      begin = i + 1;
    }
  }
  return nodes;
}

MeetingTraffic make_traffic(Pattern pattern, Time duration, const Traffic& traffic,
                            const topologies::Cluster& cluster) {
  MeetingTraffic result;
  TrafficShape& shape = result.shape;
  const bool leaves = traffic.fabric_load > 0;
  const double load = leaves ? traffic.fabric_load : traffic.node_load;
  const double unit = std::min((leaves ? cluster.inter : cluster.intra).bandwidth.value, kFastest);
  shape.pattern = pattern;
  shape.unit = rate_of(Bandwidth{unit});
  shape.node_use = kWholeUse;
  if (leaves) {
    shape.fabric_use = kWholeUse;
    shape.node_use = use_of(traffic.node_load * cluster.intra.bandwidth.value / (load * unit));
  }
  AloneFlow& flow = result.flow;
  const Time transfer = duration - std::min(duration, time_from_seconds(traffic.latency));
  flow.latency = duration;
  if (transfer.value == 0 || !(load > 0)) {
    return result;
  }
  const double part = std::min(1.0, load / seconds(transfer));
  flow.cap = std::clamp<Rate>(std::llround(static_cast<double>(shape.unit) * part), 1, shape.unit);
  const Wide of_a_byte = kPicoseconds * kRateUnits;
  flow.bytes = {static_cast<std::int64_t>(static_cast<Wide>(flow.cap) * transfer.value / of_a_byte)};
  const Wide taken = (flow.bytes.value * of_a_byte + flow.cap - 1) / flow.cap;
  flow.latency.value -= static_cast<std::int64_t>(taken);
  return result;
}

void add_streams(const TrafficShape& shape, std::span<const plan::Rank> members, int devices_per_node,
                 const std::function<bool(plan::Rank)>& wanted, std::vector<Stream>& out) {
  const auto add = [&](plan::Rank from, plan::Rank to, std::int64_t use) {
    if (use > 0 && from != to && wanted(from)) {
      out.push_back({from, to, use});
    }
  };
  if (shape.pattern == Pattern::message) {
    add(members[0], members[1], kWholeUse);
    return;
  }
  const auto nodes = by_node(members, devices_per_node);
  if (shape.pattern == Pattern::hosts) {
    for (std::size_t n = 0; nodes.size() > 1 && n < nodes.size(); ++n) {
      add(nodes[n].front(), nodes[(n + 1) % nodes.size()].front(), kWholeUse);
    }
    return;
  }
  if (shape.pattern == Pattern::to_root || shape.pattern == Pattern::from_root) {
    const plan::Rank root = members[static_cast<std::size_t>(shape.root)];
    const auto at_root = static_cast<std::size_t>(std::count_if(
        members.begin(), members.end(), [&](plan::Rank r) { return r / devices_per_node == root / devices_per_node; }));
    for (const plan::Rank r : members) {
      const bool same = r / devices_per_node == root / devices_per_node;
      const std::int64_t all = same || shape.fabric_use == 0 ? shape.node_use : shape.fabric_use;
      const std::size_t peers = same ? at_root - 1 : members.size() - at_root;
      if (r != root) {
        shape.pattern == Pattern::to_root ? add(r, root, divided(all, peers)) : add(root, r, divided(all, peers));
      }
    }
    return;
  }
  // A shape is of one role's groups; where another role's members put some of them on more nodes it has no part
  // outside.
  const std::int64_t outside = shape.fabric_use > 0 ? shape.fabric_use : shape.node_use;
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    const std::span<const plan::Rank> here = nodes[n], next = nodes[(n + 1) % nodes.size()];
    if (shape.pattern == Pattern::ring) {
      for (std::size_t i = 0; i < here.size(); ++i) {
        add(here[i], here[(i + 1) % here.size()], shape.node_use);
      }
      for (std::size_t rail = 0; nodes.size() > 1 && rail < std::max(here.size(), next.size()); ++rail) {
        add(here[rail % here.size()], next[rail % next.size()], outside);
      }
      continue;
    }
    for (const plan::Rank from : here) {
      for (const auto& there : nodes) {
        const bool same = there.data() == here.data();
        const std::size_t peers = same ? here.size() - 1 : members.size() - here.size();
        for (std::size_t i = 0; peers > 0 && wanted(from) && i < there.size(); ++i) {
          add(from, there[i], divided(same ? shape.node_use : outside, peers));
        }
      }
    }
  }
}

}  // namespace foretrain::sim
