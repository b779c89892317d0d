#include "search/chakra_replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <queue>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "sim/extra_latency.h"
#include "sim/network.h"
#include "topologies/network.h"
#include "topologies/profile.h"

namespace foretrain::search {
namespace {

using plan::ChakraCollective;
using plan::ChakraNode;
using plan::ChakraType;
using plan::CollectiveKind;
using plan::Rank;

bool is_communication(const ChakraNode& n) {
  return n.type == ChakraType::collective || n.type == ChakraType::send || n.type == ChakraType::recv;
}

constexpr Time kMostTime{INT64_MAX / 2};                    // 53 days
constexpr std::int64_t kMostBytes = std::int64_t{1} << 40;  // times ranks still a number of bytes

// kMostTime for all that is longer.
Time duration_of(const ChakraNode& n) {
  constexpr std::int64_t kPerMicrosecond = 1'000'000;
  const std::uint64_t most = kMostTime.value / kPerMicrosecond;
  return n.duration_ps > 0 ? std::min(Time{n.duration_ps}, kMostTime)
                           : Time{static_cast<std::int64_t>(std::min(n.duration_us, most)) * kPerMicrosecond};
}

class Replay {
 public:
  Replay(const ChakraTraces& traces, const topologies::Cluster& cluster, Dtype dtype, bool as_recorded)
      : traces_(traces),
        cluster_(cluster),
        as_recorded_(as_recorded),
        per_unit_(topologies::devices_per_unit(cluster)),
        network_(sim::make_network_model("alpha_beta", cluster)),
        long_routes_(cluster) {
    set_rates(dtype);
    everyone_.resize(traces.nodes.size());
    for (std::size_t r = 0; r < everyone_.size(); ++r) {
      everyone_[r] = static_cast<Rank>(r);
      add_rank(static_cast<Rank>(r));
    }
    check_meetings();
  }

  ChakraReplay run() {
    for (Rank r : everyone_) {
      for (std::size_t i = 0; i < ranks_[at(r)].nodes.size(); ++i) {
        if (ranks_[at(r)].nodes[i].waits_for == 0) {
          come(r, i);
        }
      }
    }
    while (!events_.empty()) {
      const auto [time, order, rank, node] = events_.top();
      events_.pop();
      now_ = time;
      finish(rank, node);
    }
    check_all_done();
    return result();
  }

 private:
  struct Node {
    std::int32_t waits_for = 0, meeting = -1;
    std::vector<std::uint32_t> before;  // nodes that wait for it
    bool done = false;
  };
  struct RankState {
    std::vector<Node> nodes;
    std::array<std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>>, 2> waiting;
    std::array<bool, 2> busy{};  // device, host
    Time computed, end;
    std::vector<std::pair<Time, Time>> computing, communicating;
  };
  // One collective, or one message.
  struct Meeting {
    std::vector<std::pair<Rank, std::uint32_t>> members;
    std::size_t expected = 0, come = 0;
    std::int32_t previous = -1, next = -1;  // of the same group
    bool over = false;
  };
  using Event = std::tuple<Time, std::int64_t, Rank, std::uint32_t>;

  static std::size_t at(Rank r) { return static_cast<std::size_t>(r); }
  const ChakraNode& chakra(Rank r, std::size_t i) const { return traces_.nodes[at(r)][i]; }

  void set_rates(Dtype dtype) {
    const auto peak = cluster_.device.peak.find(dtype);
    if (peak == cluster_.device.peak.end()) {
      throw InputError(fmt::format("dtype={}: {} has no rate for it", name(dtype), cluster_.device.name));
    }
    flops_ = static_cast<double>(peak->second.value);
    bytes_ = static_cast<double>(cluster_.device.memory_bandwidth.value);
    if (cluster_.profile != nullptr && cluster_.profile->has_roofline) {
      const topologies::Roofline& r = cluster_.profile->roofline;
      const auto reached = r.matmul.find(dtype);
      flops_ *= reached == r.matmul.end() ? 1 : reached->second.value;
      bytes_ *= r.memory.value;
      launch_ = r.launch.value;
    }
  }

  void add_rank(Rank rank) {
    const std::vector<ChakraNode>& nodes = traces_.nodes[at(rank)];
    const std::string& origin = traces_.origins[at(rank)];
    RankState state;
    state.nodes.resize(nodes.size());
    std::unordered_map<std::uint64_t, std::uint32_t> index;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (!index.try_emplace(nodes[i].id, static_cast<std::uint32_t>(i)).second) {
        throw InputError(fmt::format("{}: two nodes have the id {}", origin, nodes[i].id));
      }
    }
    std::map<std::string, std::int64_t> seen;  // of each meeting place so far
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      for (const std::vector<std::uint64_t>* deps : {&nodes[i].data_deps, &nodes[i].control_deps}) {
        for (const std::uint64_t id : *deps) {
          const auto found = index.find(id);
          if (found == index.end()) {
            throw InputError(fmt::format("{}: node {} depends on {}, which is not there", origin, nodes[i].id, id));
          }
          state.nodes[found->second].before.push_back(static_cast<std::uint32_t>(i));
          ++state.nodes[i].waits_for;
        }
      }
      if (is_communication(nodes[i])) {
        const std::string place = place_of(nodes[i], rank);
        state.nodes[i].meeting = meet(place, seen[place]++, rank, static_cast<std::uint32_t>(i));
      }
    }
    ranks_.push_back(std::move(state));
  }

  const std::vector<Rank>& members_of(const ChakraNode& n) const {
    const auto found = traces_.groups.find(n.group);
    return found == traces_.groups.end() ? everyone_ : found->second;
  }

  std::string place_of(const ChakraNode& n, Rank rank) const {
    const auto refuse = [&](const std::string& what) {
      throw InputError(fmt::format("{}: node {} \"{}\": {}", traces_.origins[at(rank)], n.id, n.name, what));
    };
    if (n.comm_size < 0 || n.comm_size > kMostBytes) {
      refuse(fmt::format("comm_size {}; expected from 0 to {} bytes", n.comm_size, kMostBytes));
    }
    if (n.type == ChakraType::collective) {
      const std::vector<Rank>& members = members_of(n);
      if (std::find(members.begin(), members.end(), rank) == members.end()) {
        refuse(fmt::format("rank {} is not in group {}", rank, n.group));
      }
      return "group " + n.group;
    }
    const Rank own = n.type == ChakraType::send ? n.comm_src : n.comm_dst;
    const Rank peer = n.type == ChakraType::send ? n.comm_dst : n.comm_src;
    if (own != rank || peer == rank || peer < 0 || peer >= std::ssize(everyone_)) {
      refuse(fmt::format("a message from {} to {} in the trace of rank {}; expected one of its own, to one of {} ranks",
                         n.comm_src, n.comm_dst, rank, everyone_.size()));
    }
    return fmt::format("message {} to {}, tag {}", n.comm_src, n.comm_dst, n.comm_tag);
  }

  std::int32_t meet(const std::string& place, std::int64_t k, Rank rank, std::uint32_t node) {
    std::vector<std::int32_t>& all = places_[place];
    if (std::ssize(all) <= k) {
      Meeting m;
      const bool group = chakra(rank, node).type == ChakraType::collective;
      m.expected = group ? members_of(chakra(rank, node)).size() : 2;
      m.previous = group && k > 0 ? all.back() : -1;
      if (m.previous >= 0) {
        meetings_[static_cast<std::size_t>(m.previous)].next = static_cast<std::int32_t>(meetings_.size());
      }
      all.push_back(static_cast<std::int32_t>(meetings_.size()));
      meetings_.push_back(std::move(m));
    }
    const std::int32_t id = all[static_cast<std::size_t>(k)];
    meetings_[static_cast<std::size_t>(id)].members.emplace_back(rank, node);
    return id;
  }

  // Before anything runs: who is missing would else be found as a wait for ever.
  void check_meetings() const {
    for (const auto& [place, all] : places_) {
      for (std::size_t k = 0; k < all.size(); ++k) {
        const Meeting& m = meetings_[static_cast<std::size_t>(all[k])];
        const auto [rank, node] = m.members.front();
        const ChakraNode& first = chakra(rank, node);
        if (m.members.size() != m.expected) {
          throw InputError(fmt::format("{}: node {} \"{}\", number {} of {}: {} of {} ranks have it",
                                       traces_.origins[at(rank)], first.id, first.name, k + 1, place, m.members.size(),
                                       m.expected));
        }
        for (const auto& [r, i] : m.members) {
          const ChakraNode& other = chakra(r, i);
          if (other.comm_size != first.comm_size ||
              (first.type == ChakraType::collective) != (other.type == ChakraType::collective) ||
              (first.type == ChakraType::collective && other.comm_type != first.comm_type)) {
            throw InputError(fmt::format("{}: node {} \"{}\", number {} of {}, is another than node {} of {}",
                                         traces_.origins[at(r)], other.id, other.name, k + 1, place, first.id,
                                         traces_.origins[at(rank)]));
          }
        }
      }
    }
  }

  void come(Rank r, std::size_t i) {
    const ChakraNode& n = chakra(r, i);
    Node& node = ranks_[at(r)].nodes[i];
    if (node.meeting >= 0) {
      Meeting& m = meetings_[static_cast<std::size_t>(node.meeting)];
      ++m.come;
      begin_if_ready(m);
    } else if (n.type == ChakraType::compute) {
      const std::size_t unit = n.is_cpu_op ? 1 : 0;
      ranks_[at(r)].waiting[unit].push(static_cast<std::uint32_t>(i));
      compute_next(r, unit);
    } else {  // memory and metadata
      at_end(r, i, duration_of(n));
    }
  }

  void compute_next(Rank r, std::size_t unit) {
    RankState& rank = ranks_[at(r)];
    if (rank.busy[unit] || rank.waiting[unit].empty()) {
      return;
    }
    const std::uint32_t i = rank.waiting[unit].top();
    rank.waiting[unit].pop();
    rank.busy[unit] = true;
    const Time took = compute_time(chakra(r, i));
    if (unit == 0) {
      rank.computing.emplace_back(now_, now_ + took);
    }
    at_end(r, i, took);
  }

  Time compute_time(const ChakraNode& n) {
    const Time said = duration_of(n);
    if (said.value > 0 || (n.num_ops == 0 && n.tensor_size == 0)) {
      return said;
    }
    ++without_duration_;
    return time_from_seconds(
        launch_ + std::max(static_cast<double>(n.num_ops) / flops_, static_cast<double>(n.tensor_size) / bytes_));
  }

  void begin_if_ready(Meeting& m) {
    if (m.come < m.expected || (m.previous >= 0 && !meetings_[static_cast<std::size_t>(m.previous)].over)) {
      return;
    }
    const auto [first_rank, first_node] = m.members.front();
    Time took = communication_time(chakra(first_rank, first_node));
    if (as_recorded_) {  // of the member that came last: the others' include their wait
      took = duration_of(chakra(first_rank, first_node));
      for (const auto& [r, i] : m.members) {
        took = std::min(took, duration_of(chakra(r, i)));
      }
    }
    for (const auto& [r, i] : m.members) {
      ranks_[at(r)].communicating.emplace_back(now_, now_ + took);
      at_end(r, i, took);
    }
  }

  Time communication_time(const ChakraNode& n) {
    if (n.type != ChakraType::collective) {
      const bool same = n.comm_src / per_unit_ == n.comm_dst / per_unit_;
      const double extra = same || !long_routes_.any() ? 0 : long_routes_.between(n.comm_src, n.comm_dst);
      return time_from_seconds(network_->message(Bytes{n.comm_size}, same) + extra);
    }
    const std::vector<Rank>& members = members_of(n);
    if (members.size() < 2) {
      return {};
    }
    const auto [kind, bytes] = kind_of(n, std::ssize(members));
    const std::string key = fmt::format("{} {} {}", n.group, static_cast<int>(kind), bytes);
    const auto known = prices_.find(key);
    return known != prices_.end()
               ? known->second
               : prices_.emplace(key, time_from_seconds(network_->collective(kind, Bytes{bytes}, placement(members))))
                     .first->second;
  }

  // Of an all_gather Chakra counts what a rank brings.
  static std::pair<CollectiveKind, std::int64_t> kind_of(const ChakraNode& n, std::int64_t members) {
    switch (static_cast<ChakraCollective>(n.comm_type)) {
      case ChakraCollective::all_reduce: return {CollectiveKind::all_reduce, n.comm_size};
      case ChakraCollective::all_gather: return {CollectiveKind::all_gather, n.comm_size * members};
      case ChakraCollective::all_to_all: return {CollectiveKind::all_to_all, n.comm_size};
      case ChakraCollective::reduce_scatter:
      case ChakraCollective::reduce_scatter_block: return {CollectiveKind::reduce_scatter, n.comm_size};
      case ChakraCollective::reduce:
      case ChakraCollective::broadcast: return {CollectiveKind::broadcast, n.comm_size};
      case ChakraCollective::barrier: return {CollectiveKind::all_reduce, 0};
      case ChakraCollective::gather:
      case ChakraCollective::scatter: break;
    }
    throw InputError(
        fmt::format("node {} \"{}\": collective {} is not simulated; expected all_reduce, reduce, "
                    "all_gather, broadcast, all_to_all, reduce_scatter or barrier",
                    n.id, n.name, n.comm_type));
  }

  sim::GroupPlacement placement(const std::vector<Rank>& members) const {
    std::map<Rank, int> on;
    for (const Rank r : members) {
      ++on[r / per_unit_];
    }
    sim::GroupPlacement g{static_cast<int>(members.size()), static_cast<int>(on.size()), 0, 1 << 30};
    for (const auto& [node, ranks] : on) {
      g.per_node = std::max(g.per_node, ranks);
      g.fewest = std::min(g.fewest, ranks);
    }
    if (g.nodes > 1 && long_routes_.any()) {
      std::vector<Rank> sorted = members;
      std::sort(sorted.begin(), sorted.end());
      g.extra = long_routes_.of(sorted);
    }
    return g;
  }

  void at_end(Rank r, std::size_t i, Time took) {
    if (took > kMostTime - now_) {
      throw InputError(fmt::format("{}: node {} \"{}\" would end after {}, up to which times are counted",
                                   traces_.origins[at(r)], chakra(r, i).id, chakra(r, i).name, to_string(kMostTime)));
    }
    events_.emplace(now_ + took, order_++, r, static_cast<std::uint32_t>(i));
  }

  void finish(Rank r, std::uint32_t i) {
    RankState& rank = ranks_[at(r)];
    Node& node = rank.nodes[i];
    node.done = true;
    rank.end = now_;
    ++done_;
    if (node.meeting >= 0) {
      Meeting& m = meetings_[static_cast<std::size_t>(node.meeting)];
      if (!std::exchange(m.over, true) && m.next >= 0) {
        begin_if_ready(meetings_[static_cast<std::size_t>(m.next)]);
      }
    } else if (chakra(r, i).type == ChakraType::compute) {
      rank.busy[chakra(r, i).is_cpu_op ? 1 : 0] = false;
    }
    for (const std::uint32_t next : node.before) {
      if (--rank.nodes[next].waits_for == 0) {
        come(r, next);
      }
    }
    compute_next(r, 0);
    compute_next(r, 1);
  }

  void check_all_done() const {
    for (const Rank r : everyone_) {
      for (std::size_t i = 0; i < ranks_[at(r)].nodes.size(); ++i) {
        const Node& node = ranks_[at(r)].nodes[i];
        if (!node.done && node.waits_for == 0) {
          throw InputError(fmt::format("{}: node {} \"{}\" waits for ranks that wait for others, and none goes on",
                                       traces_.origins[at(r)], chakra(r, i).id, chakra(r, i).name));
        }
      }
      if (const auto& nodes = ranks_[at(r)].nodes;
          std::any_of(nodes.begin(), nodes.end(), [](const Node& n) { return !n.done; })) {
        throw InputError(fmt::format("{}: nodes depend on each other in a circle", traces_.origins[at(r)]));
      }
    }
  }

  // Length of the union, and of the part of it that `covered` leaves open.
  static std::pair<Time, Time> lengths(std::vector<std::pair<Time, Time>> spans,
                                       const std::vector<std::pair<Time, Time>>& covered) {
    std::sort(spans.begin(), spans.end());
    Time all, open, reached;
    std::size_t c = 0;
    for (const auto& [begin, end] : spans) {
      const Time from = std::max(begin, reached);
      if (end <= from) {
        continue;
      }
      all += end - from;
      open += end - from;
      while (c < covered.size() && covered[c].second <= from) {
        ++c;
      }
      for (std::size_t k = c; k < covered.size() && covered[k].first < end; ++k) {
        open = open - (std::min(end, covered[k].second) - std::max(from, covered[k].first));
      }
      reached = end;
    }
    return {all, open};
  }

  ChakraReplay result() const {
    ChakraReplay out;
    for (const Rank r : everyone_) {
      if (ranks_[at(r)].end > out.step) {
        out.step = ranks_[at(r)].end;
        out.last = r;
      }
      out.nodes += std::ssize(ranks_[at(r)].nodes);
    }
    const RankState& last = ranks_[at(out.last)];
    out.compute = lengths(last.computing, {}).first;
    std::tie(out.network, out.exposed) = lengths(last.communicating, last.computing);
    out.without_duration = without_duration_;
    return out;
  }

  const ChakraTraces& traces_;
  const topologies::Cluster& cluster_;
  const bool as_recorded_;
  const int per_unit_;
  std::unique_ptr<sim::NetworkModel> network_;
  sim::LongRoutes long_routes_;
  double flops_ = 1, bytes_ = 1, launch_ = 0;
  std::vector<Rank> everyone_;
  std::vector<RankState> ranks_;
  std::vector<Meeting> meetings_;
  std::map<std::string, std::vector<std::int32_t>> places_;
  std::unordered_map<std::string, Time> prices_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  Time now_;
  std::int64_t order_ = 0, done_ = 0, without_duration_ = 0;
};

}  // namespace

ChakraReplay replay(const ChakraTraces& traces, const topologies::Cluster& cluster, Dtype dtype) {
  if (std::ssize(traces.nodes) > cluster.device_count()) {
    throw InputError(fmt::format("traces of {} ranks, and {} has {} devices; expected nodes=N of at least {}",
                                 traces.nodes.size(), cluster.name, cluster.device_count(),
                                 (std::ssize(traces.nodes) + cluster.devices_per_node - 1) / cluster.devices_per_node));
  }
  bool all_recorded = true;
  std::int64_t memory = 0;
  for (const std::vector<ChakraNode>& rank : traces.nodes) {
    for (const ChakraNode& n : rank) {
      all_recorded = all_recorded && (!is_communication(n) || duration_of(n).value > 0);
      memory += (n.type == ChakraType::mem_load || n.type == ChakraType::mem_store) && duration_of(n).value == 0;
    }
  }
  ChakraReplay out = Replay(traces, cluster, dtype, false).run();
  if (all_recorded) {
    out.recorded = Replay(traces, cluster, dtype, true).run().step;
  }
  if (out.without_duration > 0) {
    out.assumed.push_back(
        fmt::format("{} compute nodes have no duration: their FLOPs and bytes at the rates of {} in {}",
                    out.without_duration, cluster.device.name, name(dtype)));
  }
  if (memory > 0) {
    out.assumed.push_back(fmt::format("{} memory nodes have no duration: they take no time", memory));
  }
  return out;
}

}  // namespace foretrain::search
