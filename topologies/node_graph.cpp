#include "topologies/node_graph.h"

#include <algorithm>
#include <boost/graph/compressed_sparse_row_graph.hpp>
#include <boost/graph/dijkstra_shortest_paths.hpp>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"

namespace foretrain::topologies {

namespace {

constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();

bool passes_on(VertexKind kind) {
  return kind == VertexKind::nv_switch || kind == VertexKind::pcie_switch || kind == VertexKind::socket;
}

struct Edge {
  std::int64_t cost;
};
using Graph = boost::compressed_sparse_row_graph<boost::directedS, boost::no_property, Edge>;

// Distances from `source` over links that leave it or a vertex that passes traffic on.
std::vector<std::int64_t> distances(const NodeGraph& graph, const std::vector<std::int64_t>& cost, int source) {
  std::vector<std::pair<int, int>> ends;
  std::vector<Edge> edges;
  for (std::size_t i = 0; i < graph.links.size(); ++i) {
    const NodeGraph::Link& link = graph.links[i];
    if (link.from == source || passes_on(graph.vertices[static_cast<std::size_t>(link.from)].kind)) {
      ends.emplace_back(link.from, link.to);
      edges.push_back({cost[i]});
    }
  }
  const Graph g(boost::edges_are_unsorted_multi_pass, ends.begin(), ends.end(), edges.begin(), graph.vertices.size());
  std::vector<std::int64_t> distance(graph.vertices.size(), kFar);
  boost::dijkstra_shortest_paths(
      g, static_cast<std::size_t>(source),
      boost::weight_map(boost::get(&Edge::cost, g))
          .distance_map(boost::make_iterator_property_map(distance.begin(), boost::get(boost::vertex_index, g))));
  return distance;
}

// The links of the route to `to`, walked back along links that lie on a shortest route, the lowest of each vertex.
std::vector<int> walk_back(const NodeGraph& graph, const std::vector<std::vector<int>>& into,
                           const std::vector<std::int64_t>& cost, const std::vector<std::int64_t>& distance, int source,
                           int to) {
  std::vector<int> path;
  for (int at = to; at != source;) {
    int best = -1;
    for (const int i : into[static_cast<std::size_t>(at)]) {
      const int from = graph.links[static_cast<std::size_t>(i)].from;
      const bool usable = from == source || passes_on(graph.vertices[static_cast<std::size_t>(from)].kind);
      const std::int64_t before = distance[static_cast<std::size_t>(from)];
      if (usable && before != kFar &&
          before + cost[static_cast<std::size_t>(i)] == distance[static_cast<std::size_t>(at)]) {
        best = i;
        break;
      }
    }
    CHECK(best >= 0, "a reached vertex has no way back");
    path.push_back(best);
    at = graph.links[static_cast<std::size_t>(best)].from;
  }
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace

const char* name(VertexKind kind) {
  switch (kind) {
    case VertexKind::device: return "GPU";
    case VertexKind::host: return "memory";
    case VertexKind::nv_switch: return "NVSwitch";
    case VertexKind::pcie_switch: return "PCIe switch";
    case VertexKind::socket: return "CPU";
    case VertexKind::adapter: return "NIC";
  }
  return "";
}

int NodeGraph::add(VertexKind kind) {
  int index = 0;
  for (const Vertex& vertex : vertices) {
    index += vertex.kind == kind ? 1 : 0;
  }
  devices += kind == VertexKind::device ? 1 : 0;
  hosts += kind == VertexKind::host ? 1 : 0;
  vertices.push_back({kind, index});
  return static_cast<int>(vertices.size()) - 1;
}

int NodeGraph::add_class(LinkClass link_class) {
  for (std::size_t i = 0; i < classes.size(); ++i) {
    const LinkClass& c = classes[i];
    if (c.name == link_class.name && c.capacity == link_class.capacity && c.latency == link_class.latency &&
        c.width == link_class.width) {
      return static_cast<int>(i);
    }
  }
  CHECK(link_class.capacity.value > 0, "a link of class {} without bandwidth", link_class.name);
  classes.push_back(std::move(link_class));
  return static_cast<int>(classes.size()) - 1;
}

void NodeGraph::join(int a, int b, int out_class, int back_class) {
  links.push_back({a, b, out_class});
  links.push_back({b, a, back_class});
}

std::string NodeGraph::vertex_name(int vertex) const {
  const Vertex& v = vertices[static_cast<std::size_t>(vertex)];
  return fmt::format("{} {}", name(v.kind), v.index);
}

std::int64_t route_cost(const LinkClass& link_class) {
  const double transfer = std::ceil(double{1 << 20} / link_class.capacity.value * 1e12);
  return std::max<std::int64_t>(1, link_class.latency.value + static_cast<std::int64_t>(std::min(transfer, 1e18)));
}

NodeRoutes::NodeRoutes(const NodeGraph& graph) : graph_(&graph), row_(graph.vertices.size(), -1) {
  std::vector<int> ends;
  for (std::size_t v = 0; v < graph.vertices.size(); ++v) {
    if (!passes_on(graph.vertices[v].kind)) {
      row_[v] = static_cast<int>(ends.size());
      ends.push_back(static_cast<int>(v));
    }
  }
  ends_ = ends.size();
  paths_.resize(ends_ * ends_);
  std::vector<std::int64_t> cost;
  std::vector<std::vector<int>> into(graph.vertices.size());
  for (std::size_t i = 0; i < graph.links.size(); ++i) {
    cost.push_back(route_cost(graph.classes[static_cast<std::size_t>(graph.links[i].link_class)]));
    into[static_cast<std::size_t>(graph.links[i].to)].push_back(static_cast<int>(i));
  }
  // Devices that have the same nearest adapters take turns among them: two GPUs and two NICs on a switch are two pairs.
  std::map<std::vector<int>, int> turns;
  for (const int from : ends) {
    const std::vector<std::int64_t> distance = distances(graph, cost, from);
    const auto reach = [&](int v) { return distance[static_cast<std::size_t>(v)]; };
    for (const int to : ends) {
      if (reach(to) != kFar) {
        paths_[static_cast<std::size_t>(row_[static_cast<std::size_t>(from)]) * ends_ +
               static_cast<std::size_t>(row_[static_cast<std::size_t>(to)])] =
            walk_back(graph, into, cost, distance, from, to);
      } else if (to < graph.devices && from < graph.devices) {
        throw InputError(fmt::format("the node is disconnected: no link leads from {} to {}", graph.vertex_name(from),
                                     graph.vertex_name(to)));
      }
    }
    if (from >= graph.devices) {
      continue;
    }
    std::vector<int> nearest;
    for (std::size_t n = 0; n < graph.adapters.size(); ++n) {
      const std::int64_t best = nearest.empty() ? kFar : reach(graph.adapters[static_cast<std::size_t>(nearest[0])]);
      const std::int64_t here = reach(graph.adapters[n]);
      if (here < best) {
        nearest.clear();
      }
      if (here != kFar && here <= best) {
        nearest.push_back(static_cast<int>(n));
      }
    }
    if (nearest.empty() && !graph.adapters.empty()) {
      throw InputError(fmt::format("the node is disconnected: {} reaches no adapter", graph.vertex_name(from)));
    }
    const int turn = turns[nearest]++;
    adapter_of_.push_back(nearest.empty() ? -1 : nearest[static_cast<std::size_t>(turn) % nearest.size()]);
    int host = -1;
    for (int h = graph.devices; h < graph.devices + graph.hosts; ++h) {
      host = reach(h) != kFar && (host < 0 || reach(h) < reach(host)) ? h : host;
    }
    host_of_.push_back(host < 0 ? -1 : host - graph.devices);
  }
}

const std::vector<int>& NodeRoutes::between(int from_vertex, int to_vertex) const {
  const int from = row_[static_cast<std::size_t>(from_vertex)], to = row_[static_cast<std::size_t>(to_vertex)];
  CHECK(from >= 0 && to >= 0, "no route starts or ends at a switch");
  return paths_[static_cast<std::size_t>(from) * ends_ + static_cast<std::size_t>(to)];
}

Time NodeRoutes::latency(const std::vector<int>& links) const {
  Time sum;
  for (const int i : links) {
    const int link_class = graph_->links[static_cast<std::size_t>(i)].link_class;
    sum += graph_->classes[static_cast<std::size_t>(link_class)].latency;
  }
  return sum;
}

}  // namespace foretrain::topologies
