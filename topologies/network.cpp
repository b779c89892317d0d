// The nodes' graphs and the fabric between them, put together.
//   units: nodes, or domains of several nodes; unit u has the devices [u D, (u + 1) D) and the adapters [u A, (u + 1)
//   A) links: unit u's link i is u L + i; then those of the interconnect vertices: devices, hosts, the other vertices
//   of unit 0, of unit 1, ..., then the switches of the interconnect
#include "topologies/network.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "base/error.h"
#include "topologies/fabric.h"
#include "topologies/interconnect.h"
#include "topologies/max_flow.h"
#include "topologies/node_shapes.h"

namespace foretrain::topologies {

namespace {

// Mixes 64 bits (the finaliser of SplitMix64), so that neighbouring pairs take unrelated paths.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

class ClusterNetwork : public Network {
 public:
  ClusterNetwork(const Fabric& fabric, std::int64_t nodes, int devices_per_node)
      : graph_(make_node_graph(fabric.node)),
        routes_(graph_),
        nodes_per_unit_(fabric.node.nodes_per_domain),
        per_unit_(graph_.devices),
        used_per_node_(devices_per_node),
        devices_(nodes * devices_per_node),
        units_((nodes + nodes_per_unit_ - 1) / nodes_per_unit_),
        idle_devices_(devices_ < units_ * per_unit_) {
    if (const auto* tree = std::get_if<FatTree>(&fabric.network)) {
      pxn_ = tree->pxn;
    }
    classes_ = graph_.classes;
    if (units_ > 1) {
      make_fabric(fabric);
    }
    for (const LinkClass& c : classes_) {
      names_.push_back(c.name);
    }
    if (units_ * unit_links() + (fabric_ ? fabric_->link_count() : 0) > std::numeric_limits<LinkId>::max()) {
      throw InputError(fmt::format("a network of {} devices has more links than can be counted ({})", devices_,
                                   std::numeric_limits<LinkId>::max()));
    }
  }

  std::int64_t devices() const override { return devices_; }
  std::int64_t hosts() const override { return units_ * graph_.hosts; }
  std::int64_t host_of(std::int64_t device) const override {
    const Place place = place_of(device);
    const int host = routes_.host_of(place.vertex);
    return host < 0 ? -1 : devices_ + place.unit * graph_.hosts + host;
  }

  LinkId link_count() const override {
    return static_cast<LinkId>(first_fabric_link() + (fabric_ ? fabric_->link_count() : 0));
  }
  LinkInfo link(LinkId id) const override {
    CHECK(id >= 0 && id < link_count(), "link {} of {}", id, link_count());
    const int c = id < first_fabric_link()
                      ? graph_.links[static_cast<std::size_t>(id % unit_links())].link_class
                      : static_cast<int>(graph_.classes.size()) + fabric_->link_class(id - first_fabric_link());
    const LinkClass& link_class = classes_[static_cast<std::size_t>(c)];
    return {link_class.capacity, link_class.latency, c, link_class.width};
  }
  const std::vector<std::string>& link_classes() const override { return names_; }

  void route(std::int64_t from, std::int64_t to, std::uint64_t salt, Route& out) const override {
    out.clear();
    if (from == to) {
      return;
    }
    const Place a = place_of(from), b = place_of(to);
    if (a.unit == b.unit) {
      append(a.unit, routes_.between(a.vertex, b.vertex), out);
      return;
    }
    std::optional<int> neighbour;  // in a's unit, on b's rail
    int adapter_a = adapter_of(a);
    const int adapter_b = adapter_of(b);
    if (pxn_ && a.vertex < graph_.devices && b.vertex < graph_.devices &&
        !fabric_->same_rail(port(a.unit, adapter_a), port(b.unit, adapter_b))) {
      neighbour = b.vertex;
      adapter_a = adapter_b;
      append(a.unit, routes_.between(a.vertex, *neighbour), out);
    }
    append(a.unit, routes_.between(neighbour.value_or(a.vertex), adapter_vertex(adapter_a)), out);
    const std::size_t begin = out.hops.size();
    const std::uint64_t hash =
        mixed(mixed(mixed(static_cast<std::uint64_t>(from)) ^ static_cast<std::uint64_t>(to)) ^ salt);
    fabric_->route(port(a.unit, adapter_a), port(b.unit, adapter_b), hash, out);
    const std::size_t end = out.hops.size();
    for (std::size_t i = begin; i < end; ++i) {
      out.hops[i].link += static_cast<LinkId>(first_fabric_link());
    }
    append(b.unit, routes_.between(adapter_vertex(adapter_b), b.vertex), out);
    for (std::size_t i = 0; out.whole > 1 && i < out.hops.size(); ++i) {
      out.hops[i].share = i < begin || i >= end ? out.whole : out.hops[i].share;
    }
  }

  bool non_blocking() const override { return fabric_ == nullptr || fabric_->non_blocking(); }

  std::int64_t vertex_count() const override {
    return first_switch() + (fabric_ ? fabric_->vertex_count() - ports() : 0);
  }
  LinkEnds ends(LinkId id) const override {
    if (id < first_fabric_link()) {
      const NodeGraph::Link& link = graph_.links[static_cast<std::size_t>(id % unit_links())];
      return {vertex(id / unit_links(), link.from), vertex(id / unit_links(), link.to)};
    }
    const LinkEnds e = fabric_->ends(id - first_fabric_link());
    return {fabric_vertex(e.from), fabric_vertex(e.to)};
  }
  std::string vertex_name(std::int64_t v) const override {
    if (v >= first_switch()) {
      return fabric_->vertex_name(v - first_switch() + ports());
    }
    int inside = 0;
    if (v < devices_ + hosts()) {
      inside = place_of(v).vertex;
    } else {
      inside = static_cast<int>((v - devices_ - hosts()) % rest()) + (idle_devices_ ? 0 : graph_.devices);
      inside += inside < graph_.devices ? 0 : graph_.hosts;
    }
    return units_ > 1 ? fmt::format("node {} {}", unit_of(v), graph_.vertex_name(inside)) : graph_.vertex_name(inside);
  }
  std::int64_t unit_of(std::int64_t v) const override {
    return v >= first_switch() ? -1 : v < devices_ + hosts() ? place_of(v).unit : (v - devices_ - hosts()) / rest();
  }
  std::string fabric_shape() const override { return fabric_ ? fabric_->shape() : ""; }

  // One node alone: what passes between the first and the last half of its devices.
  Bandwidth bisection() const override {
    if (fabric_) {
      return fabric_->bisection();
    }
    std::vector<Arc> arcs;
    for (LinkId id = 0; id < link_count(); ++id) {
      const LinkEnds e = ends(id);
      arcs.push_back({e.from, e.to, link(id).capacity});
    }
    std::vector<std::int64_t> first, last;
    for (std::int64_t d = 0; d < devices_; ++d) {
      (d < devices_ / 2 ? first : last).push_back(d);
    }
    return max_flow(vertex_count(), arcs, first, last);
  }

 private:
  struct Place {
    std::int64_t unit;
    int vertex;  // in graph_
  };

  std::int64_t unit_links() const { return static_cast<std::int64_t>(graph_.links.size()); }
  std::int64_t first_fabric_link() const { return units_ * unit_links(); }
  std::int64_t adapters() const { return static_cast<std::int64_t>(graph_.adapters.size()); }
  std::int64_t ports() const { return units_ * adapters(); }
  std::int64_t port(std::int64_t unit, int adapter) const { return unit * adapters() + adapter; }
  int adapter_vertex(int adapter) const { return graph_.adapters[static_cast<std::size_t>(adapter)]; }

  Place place_of(std::int64_t end_point) const {
    CHECK(end_point >= 0 && end_point < devices_ + hosts(), "end point {} of {}", end_point, devices_ + hosts());
    if (end_point >= devices_) {
      const std::int64_t host = end_point - devices_;
      return {host / graph_.hosts, graph_.devices + static_cast<int>(host % graph_.hosts)};
    }
    const std::int64_t node = end_point / used_per_node_, local = end_point % used_per_node_;
    return {node / nodes_per_unit_, static_cast<int>(node % nodes_per_unit_ * (per_unit_ / nodes_per_unit_) + local)};
  }
  // A host memory sends through the adapter of the first device that it is nearest to.
  int adapter_of(const Place& place) const {
    for (int d = 0; place.vertex >= graph_.devices && d < graph_.devices; ++d) {
      if (routes_.host_of(d) == place.vertex - graph_.devices) {
        return routes_.adapter_of(d);
      }
    }
    return place.vertex < graph_.devices ? routes_.adapter_of(place.vertex) : 0;
  }

  // Where all devices are used, `rest` are the switches, sockets and adapters of a unit; else idle devices stand first.
  std::int64_t rest() const {
    return static_cast<std::int64_t>(graph_.vertices.size()) - graph_.hosts - (idle_devices_ ? 0 : graph_.devices);
  }
  std::int64_t first_switch() const { return devices_ + hosts() + units_ * rest(); }
  std::int64_t vertex(std::int64_t unit, int v) const {
    const std::int64_t first_rest = devices_ + hosts() + unit * rest();
    if (v >= graph_.devices + graph_.hosts) {
      return first_rest + v - graph_.hosts - (idle_devices_ ? 0 : graph_.devices);
    }
    if (v >= graph_.devices) {
      return devices_ + unit * graph_.hosts + v - graph_.devices;
    }
    const int per_node = per_unit_ / nodes_per_unit_;
    const std::int64_t device = (unit * nodes_per_unit_ + v / per_node) * used_per_node_ + v % per_node;
    return v % per_node < used_per_node_ && device < devices_ ? device : first_rest + v;
  }
  std::int64_t fabric_vertex(std::int64_t v) const {
    return v < ports() ? vertex(v / adapters(), adapter_vertex(static_cast<int>(v % adapters())))
                       : first_switch() + v - ports();
  }

  void append(std::int64_t unit, const std::vector<int>& links, Route& out) const {
    for (const int i : links) {
      out.hops.push_back({static_cast<LinkId>(unit * unit_links() + i), 1});
    }
    out.latency += routes_.latency(links);
  }

  void make_fabric(const Fabric& fabric) {
    if (graph_.adapters.empty()) {
      throw InputError(fmt::format("{} nodes without an adapter are disconnected", units_));
    }
    if (units_ % fabric.sites.count != 0) {
      throw InputError(fmt::format("{} sites share {} {}; expected a multiple of {}", fabric.sites.count, units_,
                                   nodes_per_unit_ == 1 ? "nodes" : "domains", fabric.sites.count));
    }
    // fabric.latency is from device to device: what the way to the adapter and from it takes is not counted twice.
    const int adapter = adapter_vertex(routes_.adapter_of(0));
    const Time access{routes_.latency(routes_.between(0, adapter)).value +
                      routes_.latency(routes_.between(adapter, 0)).value};
    Ports ports;
    ports.count = units_ * adapters();
    ports.bandwidth = graph_.adapter_bandwidth;
    ports.cables = fabric.node.ports_per_adapter;
    ports.latency = {std::max<std::int64_t>(0, fabric.latency.value - access.value)};
    ports.switch_latency = fabric.switch_latency;
    ports.routing = fabric.routing;
    fabric_ = make_interconnect(fabric, ports);
    classes_.insert(classes_.end(), fabric_->classes().begin(), fabric_->classes().end());
  }

  NodeGraph graph_;
  NodeRoutes routes_;
  int nodes_per_unit_, per_unit_, used_per_node_;
  std::int64_t devices_, units_;
  bool idle_devices_;  // the job leaves some out; their links are there
  bool pxn_ = false;
  std::unique_ptr<Interconnect> fabric_;  // null with one unit
  std::vector<LinkClass> classes_;        // the node's, then the fabric's
  std::vector<std::string> names_;
};

}  // namespace

Fabric default_fabric(const Cluster& cluster) {
  constexpr int kMaxDevices = 1024;  // a table holds the routes of every pair of a node
  if (cluster.devices_per_node > kMaxDevices) {
    throw InputError(fmt::format("{}: a node of {} devices; a network is made of nodes of up to {}", cluster.name,
                                 cluster.devices_per_node, kMaxDevices));
  }
  Fabric fabric;
  fabric.node.devices = cluster.devices_per_node;
  fabric.node.adapters = cluster.is_hosts() ? 1 : cluster.devices_per_node;
  fabric.node.bandwidth = cluster.intra.bandwidth;
  fabric.node.latency = cluster.intra.latency;
  fabric.node.adapter_bandwidth = cluster.inter.bandwidth;
  fabric.latency = cluster.inter.latency;
  return fabric;
}

std::unique_ptr<Network> make_network(const Cluster& cluster) {
  CHECK(cluster.nodes >= 1 && cluster.devices_per_node >= 1, "a cluster without devices");
  const Fabric fabric = cluster.fabric != nullptr ? *cluster.fabric : default_fabric(cluster);
  try {
    return std::make_unique<ClusterNetwork>(fabric, cluster.nodes, cluster.devices_per_node);
  } catch (const InputError& e) {
    throw cluster.name.empty() ? e : InputError(fmt::format("{}: {}", cluster.name, e.what()));
  }
}

int devices_per_unit(const Cluster& cluster) {
  return cluster.devices_per_node * (cluster.fabric != nullptr ? cluster.fabric->node.nodes_per_domain : 1);
}

}  // namespace foretrain::topologies
