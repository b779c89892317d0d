// What must hold for every network, checked route by route against Boost.Graph.
#pragma once

#include <gtest/gtest.h>

#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/dijkstra_shortest_paths.hpp>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "topologies/max_flow.h"
#include "topologies/network.h"
#include "topologies/node_graph.h"

namespace foretrain::topologies::test {

inline Route route(const Network& network, std::int64_t from, std::int64_t to, std::uint64_t salt = 0) {
  Route r;
  network.route(from, to, salt, r);
  return r;
}

// The network as a plain graph; a link costs what NodeRoutes says it costs. Built from ends() alone, not from routes.
class PlainGraph {
 public:
  explicit PlainGraph(const Network& network) : network_(network) {
    for (LinkId id = 0; id < network.link_count(); ++id) {
      const LinkInfo link = network.link(id);
      cost_.push_back(route_cost({"", link.capacity, link.latency, 1}));
      ends_.push_back(network.ends(id));
    }
  }

  std::int64_t cost(LinkId id) const { return cost_[static_cast<std::size_t>(id)]; }

  // From one end point to all vertices. End points pass nothing on.
  std::vector<std::int64_t> shortest(std::int64_t from) const {
    using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS, boost::no_property,
                                        boost::property<boost::edge_weight_t, std::int64_t>>;
    Graph g(static_cast<std::size_t>(network_.vertex_count()));
    for (std::size_t i = 0; i < ends_.size(); ++i) {
      if (ends_[i].from == from || ends_[i].from >= network_.devices() + network_.hosts()) {
        boost::add_edge(static_cast<std::size_t>(ends_[i].from), static_cast<std::size_t>(ends_[i].to), cost_[i], g);
      }
    }
    std::vector<std::int64_t> distance(static_cast<std::size_t>(network_.vertex_count()));
    boost::dijkstra_shortest_paths(g, static_cast<std::size_t>(from), boost::distance_map(distance.data()));
    return distance;
  }

 private:
  const Network& network_;
  std::vector<std::int64_t> cost_;
  std::vector<LinkEnds> ends_;
};

// What enters a vertex leaves it, but at the ends; no link twice; one path is in order and its latencies add up.
inline void expect_flow(const Network& network, std::int64_t from, std::int64_t to, const Route& route) {
  std::map<std::int64_t, std::int64_t> out_minus_in;
  std::set<LinkId> seen;
  Time sum;
  std::int64_t at = from;
  for (const Route::Hop& hop : route.hops) {
    ASSERT_GE(hop.link, 0);
    ASSERT_LT(hop.link, network.link_count());
    EXPECT_TRUE(seen.insert(hop.link).second) << "link " << hop.link << " twice";
    EXPECT_GE(hop.share, 1);
    EXPECT_LE(hop.share, route.whole);
    const LinkEnds ends = network.ends(hop.link);
    out_minus_in[ends.from] += hop.share;
    out_minus_in[ends.to] -= hop.share;
    sum += network.link(hop.link).latency;
    if (route.whole == 1) {
      EXPECT_EQ(ends.from, at);
      at = ends.to;
    }
  }
  if (route.whole == 1) {
    EXPECT_EQ(at, to);
    EXPECT_EQ(route.latency, sum);
  }
  for (const auto& [vertex, balance] : out_minus_in) {
    EXPECT_EQ(balance, vertex == from ? route.whole
                       : vertex == to ? -route.whole
                                      : 0)
        << network.vertex_name(from) << " -> " << network.vertex_name(to) << " at " << network.vertex_name(vertex);
  }
}

// Cost of the route over the shortest, times `whole`: sum of shares x costs - whole x shortest.
inline std::int64_t excess(const PlainGraph& graph, const Route& route, std::int64_t shortest) {
  std::int64_t cost = 0;
  for (const Route::Hop& hop : route.hops) {
    cost += hop.share * graph.cost(hop.link);
  }
  return cost - route.whole * shortest;
}

// Every route between devices and hosts flows, and is as short as any: on all of its paths.
inline void expect_shortest_routes(const Network& network, std::int64_t allowed_excess = 0) {
  const PlainGraph graph(network);
  Route route;
  const std::int64_t ends = network.devices() + network.hosts();
  for (std::int64_t from = 0; from < ends; ++from) {
    const std::vector<std::int64_t> shortest = graph.shortest(from);
    for (std::int64_t to = 0; to < ends; ++to) {
      network.route(from, to, 7, route);
      expect_flow(network, from, to, route);
      EXPECT_EQ(route.hops.empty(), from == to);
      const std::int64_t more = excess(graph, route, shortest[static_cast<std::size_t>(to)]);
      EXPECT_GE(more, 0);
      EXPECT_LE(more, allowed_excess * route.whole) << network.vertex_name(from) << " -> " << network.vertex_name(to);
      if (::testing::Test::HasFailure()) {
        return;
      }
    }
  }
}

// Between the first and the last half of the devices, over all links.
inline double halves_flow(const Network& network) {
  std::vector<Arc> arcs;
  for (LinkId id = 0; id < network.link_count(); ++id) {
    const LinkEnds ends = network.ends(id);
    arcs.push_back({ends.from, ends.to, network.link(id).capacity});
  }
  std::vector<std::int64_t> first, last;
  for (std::int64_t d = 0; d < network.devices(); ++d) {
    (d < network.devices() / 2 ? first : last).push_back(d);
  }
  return max_flow(network.vertex_count(), arcs, first, last).value;
}

}  // namespace foretrain::topologies::test
