// Ranks of several hosts, joined by TCP. Inside a host as the model of one machine has it. Where a group spans H hosts
// the elements are cut into one share per member; each host sums its own members' values of a share, sends the sum to
// the share's owner, and gets the result back once: two levels, direct, both halves in pieces, one behind the other. A
// thread of its own does that beside each rank's compute. On the busiest host's link, one direction:
//   t = k α + max(L S / (e B), in-host)    S bytes of the whole buffer, α latency and B bandwidth of a host's link
//   all_reduce        k = 2, L = (1 - f) + f (H - 1)       n members, p most and q fewest of them on one host,
//   reduce_scatter    k = 1, L = max(1 - g, f (H - 1))     f = p / n, g = q / n; equal parts: f = g = 1 / H, so
//   all_gather        k = 1, the same                      2 (H - 1) / H and (H - 1) / H
//   broadcast         k = 1, L = H - 1                     the root's host sends to each other one
//   all_to_all        k = 1, L = max of p (n - p) / n, q (n - q) / n
//   gather            k = 1, L = (n - q) / (n - 1)         each by itself, to a root where fewest are
//   distribute        k = 1, L = n - q                     likewise, from the root
//   message           k = 1, L = 1                         between two hosts
// e = 1448 / 1514: what TCP over Ethernet carries of a full frame. In-host: the same kind among p members; one alone
// has nothing to do. What is on a host's link at once shares it (Pattern::hosts).
// Source: exec/host_exchange.h; e measured over network namespaces limited by tc tbf to 100 Mb/s and 1 Gb/s, both ways
// at once: 0.949 and 0.958. Holds for: links slower than the cores that feed them (a few Gb/s).
// Known wrong: the threads that carry take time of the ranks' cores, the more the faster the link; a broadcast, and
// hosts with unequal parts, load every link as the busiest; physical Ethernet has 24 bytes more per frame (e = 0.941);
// what a token bucket holds after a pause passes at once.
#include <algorithm>

#include "sim/network.h"

namespace foretrain::sim {
namespace {

using plan::CollectiveKind;

struct Crossing {
  double latencies = 1;
  double load = 1;  // of the buffer, on the busiest link
};

Crossing crossing(CollectiveKind kind, const GroupPlacement& g) {
  const double n = g.ranks, hosts = g.nodes, most = g.per_node / n, fewest = g.fewest / n;
  switch (kind) {
    case CollectiveKind::all_reduce: return {2, (1 - most) + most * (hosts - 1)};
    case CollectiveKind::reduce_scatter:
    case CollectiveKind::all_gather: return {1, std::max(1 - fewest, most * (hosts - 1))};
    case CollectiveKind::broadcast: return {1, hosts - 1};
    case CollectiveKind::gather: return {1, (n - g.fewest) / (n - 1)};
    case CollectiveKind::distribute: return {1, n - g.fewest};
    case CollectiveKind::all_to_all: break;
  }
  return {1, std::max(g.per_node * (1 - most), g.fewest * (1 - fewest))};
}

class HostsNetwork final : public NetworkModel {
 public:
  HostsNetwork(const topologies::Cluster& cluster, std::unique_ptr<NetworkModel> inside)
      : latency_(seconds(cluster.inter.latency)),
        bandwidth_(cluster.inter.bandwidth.value),
        inside_(std::move(inside)) {}

  std::string_view name() const override { return inside_->name(); }

  double collective(CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const override {
    if (group.nodes == 1) {
      return inside_->collective(kind, bytes, group);
    }
    const Crossing c = crossing(kind, group);
    GroupPlacement here;
    here.ranks = here.per_node = here.fewest = group.per_node;
    return c.latencies * latency_ + std::max(c.load * seconds_of(bytes), inside_->collective(kind, bytes, here));
  }
  std::optional<Traffic> traffic(CollectiveKind kind, Bytes bytes, const GroupPlacement& group) const override {
    if (group.nodes == 1) {
      return {};
    }
    const Crossing c = crossing(kind, group);
    return Traffic{c.latencies * latency_, 0, c.load * seconds_of(bytes)};
  }

  double message(Bytes bytes, bool same_node) const override {
    return same_node ? inside_->message(bytes, true) : latency_ + seconds_of(bytes);
  }
  std::optional<Traffic> message_traffic(Bytes bytes, bool same_node) const override {
    return same_node ? std::nullopt : std::optional(Traffic{latency_, 0, seconds_of(bytes)});
  }

  double slowdown(Bytes bytes, std::int64_t members, std::int64_t active) const override {
    return inside_->slowdown(bytes, members, active);
  }

 private:
  double seconds_of(Bytes bytes) const {
    return static_cast<double>(bytes.value) * topologies::kTcpFrame / topologies::kTcpPayload / bandwidth_;
  }

  const double latency_, bandwidth_;
  const std::unique_ptr<NetworkModel> inside_;
};

}  // namespace

std::unique_ptr<NetworkModel> make_hosts_network(const topologies::Cluster& cluster,
                                                 std::unique_ptr<NetworkModel> inside) {
  return std::make_unique<HostsNetwork>(cluster, std::move(inside));
}

}  // namespace foretrain::sim
