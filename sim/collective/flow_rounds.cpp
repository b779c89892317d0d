#include "sim/collective/flow_rounds.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/error.h"
#include "sim/collective/transfer_classes.h"
#include "sim/flow_network.h"

namespace foretrain::sim::collective {
namespace {

constexpr double kMostOfOneLink = 1e14;  // bytes/s that a flow network counts (sim/fair_share.h)

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

bool is_through_one_switch(const topologies::Network& network, const topologies::Route& route) {
  return route.hops.size() == 2 && route.whole == 1 && network.unit_of(network.ends(route.hops[0].link).to) >= 0;
}

// Transfers of a round by their ends and sizes, with the routes they take.
class Router {
 public:
  Router(const Layout& layout, const topologies::Network& network, int devices_per_node, const FlowOptions& options)
      : layout_(layout), network_(network), devices_per_node_(devices_per_node), options_(options) {
    CHECK(layout.most_on_node() <= devices_per_node && device(layout.ranks() - 1) < network.devices(),
          "{} ranks on {} nodes of {} devices", layout.ranks(), layout.nodes(), devices_per_node);
    index_of_.assign(at(network.link_count()), -1);
    for (const LinkSpeed& s : options.speeds) {
      CHECK(s.link >= 0 && s.link < network.link_count() && s.factor > 0, "link {} at {}", s.link, s.factor);
      speeds_[s.link] *= s.factor;
    }
  }

  RoutedTransfers routed(const std::vector<Transfer>& transfers);

 private:
  struct Link {
    double capacity;
    int width;  // by which capacity and uses are divided, so that the capacity can be counted
  };

  std::int64_t device(int rank) const {
    const int node = layout_.node(rank);
    return std::int64_t{node} * devices_per_node_ + rank - layout_.first(node);
  }
  struct Ends {
    int from, to;
    std::int64_t count;
    friend bool operator==(const Ends&, const Ends&) = default;
  };
  void route(const Ends& t);
  void to_or_from_switch(const Ends& t);
  Link link_of(topologies::LinkId id) const;
  void list(const std::vector<Transfer>& transfers);

  const Layout& layout_;
  const topologies::Network& network_;
  const int devices_per_node_;
  const FlowOptions& options_;
  struct Speed {
    double factor = 1;
    void operator*=(double f) { factor *= f; }
  };
  std::map<topologies::LinkId, Speed> speeds_;
  std::vector<LinkIndex> index_of_;  // by link; -1: not in use
  std::vector<topologies::LinkId> used_;
  std::vector<int> widths_;  // by index
  topologies::Route found_;
  std::vector<std::int32_t> first_;  // scratch of list
  std::vector<Ends> ends_;           // of the round's transfers
};

// To be folded, by sender, receiver and size; senders by counting, as rounds list hundreds of thousands of transfers.
void Router::list(const std::vector<Transfer>& transfers) {
  ends_.resize(transfers.size());
  if (!options_.fold_ranks) {
    std::transform(transfers.begin(), transfers.end(), ends_.begin(), [](const Transfer& t) {
      return Ends{t.from, t.to, t.count};
    });
    return;
  }
  first_.assign(at(layout_.ranks()) + at(layout_.nodes()) + 1, 0);
  for (const Transfer& t : transfers) {
    ++first_[at(t.from) + 1];
  }
  std::partial_sum(first_.begin(), first_.end(), first_.begin());
  for (const Transfer& t : transfers) {
    ends_[at(first_[at(t.from)]++)] = {t.from, t.to, t.count};
  }
  const auto less = [](const Ends& a, const Ends& b) { return std::pair{a.to, a.count} < std::pair{b.to, b.count}; };
  for (auto begin = ends_.begin(); begin != ends_.end();) {
    const auto end = ends_.begin() + first_[at(begin->from)];  // counted up to the next sender's first
    if (!std::is_sorted(begin, end, less)) {
      std::sort(begin, end, less);
    }
    begin = end;
  }
}

Router::Link Router::link_of(topologies::LinkId id) const {
  const topologies::LinkInfo info = network_.link(id);
  const auto speed = speeds_.find(id);
  const double capacity =
      info.capacity.value * options_.efficiency * (speed == speeds_.end() ? 1.0 : speed->second.factor);
  const int width = capacity > kMostOfOneLink ? info.width : 1;
  return {capacity / width, width};
}

// found_: from its first switch on for one that starts there, up to it for one that ends there.
void Router::to_or_from_switch(const Ends& t) {
  const bool up = t.to >= layout_.ranks();
  const int rank = up ? t.from : t.to, node = layout_.node(rank);
  const int neighbour = rank == layout_.first(node) ? rank + 1 : layout_.first(node);
  up ? network_.route(device(rank), device(neighbour), 0, found_)
     : network_.route(device(neighbour), device(rank), 0, found_);
  CHECK(is_through_one_switch(network_, found_), "ranks {} and {} are not on one switch", rank, neighbour);
  found_.hops.erase(found_.hops.begin() + (up ? 1 : 0));
}

void Router::route(const Ends& t) {
  if (std::max(t.from, t.to) >= layout_.ranks()) {
    to_or_from_switch(t);
  } else {
    network_.route(device(t.from), device(t.to), 0, found_);
  }
}

RoutedTransfers Router::routed(const std::vector<Transfer>& transfers) {
  RoutedTransfers out;
  for (const topologies::LinkId link : used_) {
    index_of_[at(link)] = -1;
  }
  used_.clear();
  widths_.clear();
  list(transfers);
  for (std::size_t i = 0; i < ends_.size();) {
    const Ends& t = ends_[i];
    std::size_t end = i + 1;
    while (options_.fold_ranks && end < ends_.size() && ends_[end] == t) {
      ++end;
    }
    route(t);
    RoutedTransfer& routed = out.transfers.emplace_back();
    routed.count = t.count;
    routed.copies = static_cast<std::int64_t>(end - i);
    routed.latency = found_.latency;
    routed.first_hop = static_cast<std::int32_t>(out.route.size());
    routed.hops = static_cast<std::int32_t>(found_.hops.size());
    CHECK(out.route.size() + found_.hops.size() < INT32_MAX, "the routes of a round have too many links");
    for (const topologies::Route::Hop& hop : found_.hops) {
      LinkIndex& index = index_of_[at(hop.link)];
      if (index < 0) {
        index = static_cast<LinkIndex>(used_.size());
        used_.push_back(hop.link);
        const Link link = link_of(hop.link);
        widths_.push_back(link.width);
        out.capacities.push_back({link.capacity});
      }
      out.route.push_back({index, hop.share, found_.whole * widths_[at(index)]});
    }
    i = end;
  }
  return out;
}

Time round_time(const TransferClasses& classes, Bytes bytes, const Shape& shape) {
  FlowNetwork network(classes.capacities);
  for (const TransferClasses::Class& c : classes.classes) {
    const std::int64_t whole = shape.buffers * c.count, common = std::gcd(whole, shape.chunks);
    FlowSpec flow;
    flow.route = c.route;
    if (__builtin_mul_overflow(bytes.value, whole / common, &flow.bytes.value)) {
      fail_overflow();
    }
    flow.parts = shape.chunks / common;
    flow.latency = c.latency;
    network.start(flow, Time{});
  }
  Time now;
  while (!network.empty()) {
    now = network.next();
    network.advance(now);
  }
  return now;
}

}  // namespace

std::string flow_refusal(const Algorithm& algorithm, const Layout& layout, const topologies::Network& network,
                         int devices_per_node) {
  if (algorithm.name().rfind("in_switch", 0) != 0) {
    return "";
  }
  topologies::Route route;
  for (int node = 0; node < layout.nodes(); ++node) {
    const std::int64_t first = std::int64_t{node} * devices_per_node;
    for (int place = 1; place < layout.on_node(node); ++place) {
      network.route(first, first + place, 0, route);
      if (!is_through_one_switch(network, route)) {
        return "the devices of a node do not all hang on one switch";
      }
    }
  }
  return "";
}

FlowRounds flow_rounds(const Algorithm& algorithm, const Request& request, Bytes bytes,
                       const topologies::Network& network, int devices_per_node, const FlowOptions& options) {
  CHECK(options.efficiency > 0, "an efficiency of {}", options.efficiency);
  const Shape shape = algorithm.shape(request);
  Router router(*request.layout, network, devices_per_node, options);
  std::map<int, Time> known;
  std::vector<Transfer> transfers;
  FlowRounds result;
  result.rounds = shape.steps;
  for (int i = 0; i < shape.steps; ++i) {
    const int first = options.fold_rounds ? algorithm.same_round(request, i) : i;
    auto found = known.find(first);
    if (found == known.end()) {
      transfers.clear();
      algorithm.step(request, i, transfers);
      const RoutedTransfers routed = router.routed(transfers);
      const TransferClasses classes = options.fold_ranks ? fold(routed) : unfolded(routed);
      found = known.emplace(first, round_time(classes, bytes, shape)).first;
      ++result.simulated;
      for (const TransferClasses::Class& c : classes.classes) {
        result.transfers += c.members;
      }
      const auto flows = static_cast<std::int64_t>(classes.classes.size());
      result.flows += flows;
      result.most_flows = std::max(result.most_flows, flows);
    }
    result.time += found->second;
  }
  return result;
}

}  // namespace foretrain::sim::collective
