// Dragonfly with minimal routing (Kim et al. 2008). Groups of a = `routers` routers, joined all to all; router r of a
// group has the global ports r h .. r h + h - 1 of its group (h = `global_links`). With g groups in use, k = a h / (g -
// 1) links (rounded down) join each two groups:
//   copy t of the links from group G to group T leaves at global port t (g - 1) + (T < G ? T : T - 1)
// and arrives at port t (g - 1) + (G < T ? G : G - 1) of T: the two ends name the same cable. Ports beyond k (g - 1)
// are free. A route has at most one global link: local to the router that has it, over it, local to the destination's
// router. sprayed: evenly over the k copies (shares of k). hashed: copy hash mod k. Links: adapters (up 2 p, down 2 p +
// 1); then local, (group a + from) a + to, where from = to stays unused and out of the numbering by to' = to - (to >
// from); then global, (group k + t) (g - 1) + index of the other group, one per direction.
#include <algorithm>

#include "base/error.h"
#include "topologies/interconnect.h"

namespace foretrain::topologies {

namespace {

class DragonflyNetwork : public Interconnect {
 public:
  DragonflyNetwork(const Dragonfly& d, const Ports& ports)
      : ports_(ports), routers_(d.routers), per_router_(d.ports), global_ports_(d.global_links) {
    const std::int64_t per_group = routers_ * per_router_;
    groups_ = std::max<std::int64_t>(1, (ports.count + per_group - 1) / per_group);
    copies_ = groups_ > 1 ? routers_ * global_ports_ / (groups_ - 1) : 0;
    if (groups_ > 1 && copies_ == 0) {
      throw InputError(fmt::format(
          "{} groups of {} routers with {} global links each are disconnected: {} links leave a group, {} are "
          "needed",
          groups_, routers_, global_ports_, routers_ * global_ports_, groups_ - 1));
    }
    first_local_ = 2 * ports.count;
    first_global_ = first_local_ + groups_ * routers_ * (routers_ - 1);
    const auto rate = [&](Bandwidth given) { return given.value > 0 ? given : ports.bandwidth; };
    classes_ = {{"adapter up", ports.bandwidth, ports.latency, ports.cables},
                {"adapter down", ports.bandwidth, Time{}, ports.cables},
                {"local", rate(d.local_bandwidth), ports.switch_latency},
                {"global", rate(d.global_bandwidth), ports.switch_latency}};
  }

  std::int64_t link_count() const override { return first_global_ + groups_ * copies_ * (groups_ - 1); }
  const std::vector<LinkClass>& classes() const override { return classes_; }
  int link_class(std::int64_t link) const override {
    return link < first_local_ ? static_cast<int>(link % 2) : link < first_global_ ? 2 : 3;
  }

  LinkEnds ends(std::int64_t link) const override {
    if (link < first_local_) {
      const std::int64_t port = link / 2, router = ports_.count + port / per_router_;
      return link % 2 == 0 ? LinkEnds{port, router} : LinkEnds{router, port};
    }
    if (link < first_global_) {
      const std::int64_t i = link - first_local_, from = i / (routers_ - 1) % routers_;
      const std::int64_t group = i / (routers_ - 1) / routers_, to = i % (routers_ - 1);
      return {router_vertex(group, from), router_vertex(group, to + (to >= from ? 1 : 0))};
    }
    const std::int64_t i = link - first_global_, other = i % (groups_ - 1);
    const std::int64_t t = i / (groups_ - 1) % copies_, group = i / (groups_ - 1) / copies_;
    const std::int64_t to = other + (other >= group ? 1 : 0);
    return {router_vertex(group, gateway_router(group, to, t)), router_vertex(to, gateway_router(to, group, t))};
  }

  std::int64_t vertex_count() const override { return ports_.count + groups_ * routers_; }
  std::string vertex_name(std::int64_t v) const override {
    const std::int64_t router = v - ports_.count;
    return v < ports_.count ? fmt::format("port {}", v)
                            : fmt::format("router {}.{}", router / routers_, router % routers_);
  }

  void route(std::int64_t from, std::int64_t to, std::uint64_t hash, Route& out) const override {
    const std::int64_t a = from / per_router_, b = to / per_router_;
    const std::int64_t group_a = a / routers_, group_b = b / routers_;
    const bool spread = group_a != group_b && ports_.routing == Routing::sprayed;
    out.whole = spread ? static_cast<std::int32_t>(copies_) : 1;
    push(out, 2 * from, out.whole);
    std::int64_t switches = 0;  // beyond the first, of the longest path
    if (group_a == group_b && a != b) {
      push(out, local(group_a, a % routers_, b % routers_), 1);
      switches = 1;
    } else if (group_a != group_b) {
      const std::int64_t first = spread ? 0 : static_cast<std::int64_t>(hash % static_cast<std::uint64_t>(copies_));
      const std::int64_t last = spread ? copies_ : first + 1;
      for (std::int64_t t = first; t < last; ++t) {
        if (const std::int64_t r = gateway_router(group_a, group_b, t); r != a % routers_) {
          add(out, local(group_a, a % routers_, r));
        }
      }
      for (std::int64_t t = first; t < last; ++t) {
        push(out, global(group_a, group_b, t), 1);
      }
      for (std::int64_t t = first; t < last; ++t) {
        const std::int64_t r = gateway_router(group_b, group_a, t);
        switches = std::max<std::int64_t>(
            switches, 1 + (r != b % routers_ ? 1 : 0) + (gateway_router(group_a, group_b, t) != a % routers_ ? 1 : 0));
        if (r != b % routers_) {
          add(out, local(group_b, r, b % routers_));
        }
      }
    }
    push(out, 2 * to + 1, out.whole);
    out.latency += {ports_.latency.value + switches * ports_.switch_latency.value};
  }

  // Between the first and the last half of the groups: their global links; in one group its local ones.
  Bandwidth bisection() const override {
    const double ports = static_cast<double>(ports_.count / 2) * ports_.bandwidth.value;
    const std::int64_t units = groups_ > 1 ? groups_ : routers_;
    const double cut =
        static_cast<double>((units / 2) * (units - units / 2)) *
        (groups_ > 1 ? static_cast<double>(copies_) * classes_[3].capacity.value : classes_[2].capacity.value);
    return {units > 1 ? std::min(ports, cut) : ports};
  }

  std::string shape() const override {
    return groups_ == 1 ? fmt::format("1 group of {} routers", routers_)
                        : fmt::format("{} groups of {} routers, {} links between each two", groups_, routers_, copies_);
  }

 private:
  std::int64_t router_vertex(std::int64_t group, std::int64_t router) const {
    return ports_.count + group * routers_ + router;
  }
  std::int64_t index_of(std::int64_t group, std::int64_t other) const { return other < group ? other : other - 1; }
  // The router of `group` that copy t of its link to group `to` starts at.
  std::int64_t gateway_router(std::int64_t group, std::int64_t to, std::int64_t t) const {
    return (t * (groups_ - 1) + index_of(group, to)) / global_ports_;
  }
  std::int64_t local(std::int64_t group, std::int64_t from, std::int64_t to) const {
    return first_local_ + (group * routers_ + from) * (routers_ - 1) + to - (to > from ? 1 : 0);
  }
  std::int64_t global(std::int64_t group, std::int64_t to, std::int64_t t) const {
    return first_global_ + (group * copies_ + t) * (groups_ - 1) + index_of(group, to);
  }
  static void push(Route& out, std::int64_t link, std::int32_t share) {
    out.hops.push_back({static_cast<LinkId>(link), share});
  }
  // Copies that share a router share the local link to it; those of one router come in a row.
  static void add(Route& out, std::int64_t link) {
    if (out.hops.back().link == link) {
      ++out.hops.back().share;
    } else {
      push(out, link, 1);
    }
  }

  Ports ports_;
  std::int64_t routers_, per_router_, global_ports_;
  std::int64_t groups_ = 1, copies_ = 0, first_local_ = 0, first_global_ = 0;
  std::vector<LinkClass> classes_;
};

}  // namespace

std::unique_ptr<Interconnect> make_dragonfly(const Dragonfly& dragonfly, const Ports& ports) {
  return std::make_unique<DragonflyNetwork>(dragonfly, ports);
}

}  // namespace foretrain::topologies
