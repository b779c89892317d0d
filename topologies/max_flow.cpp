#include "topologies/max_flow.h"

#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/push_relabel_max_flow.hpp>

namespace foretrain::topologies {

namespace {

using Traits = boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
using Graph = boost::adjacency_list<
    boost::vecS, boost::vecS, boost::directedS, boost::no_property,
    boost::property<boost::edge_capacity_t, std::int64_t,
                    boost::property<boost::edge_residual_capacity_t, std::int64_t,
                                    boost::property<boost::edge_reverse_t, Traits::edge_descriptor>>>>;

void add(Graph& graph, std::int64_t from, std::int64_t to, std::int64_t capacity) {
  const auto forward = boost::add_edge(static_cast<std::size_t>(from), static_cast<std::size_t>(to), graph).first;
  const auto back = boost::add_edge(static_cast<std::size_t>(to), static_cast<std::size_t>(from), graph).first;
  boost::put(boost::edge_capacity, graph, forward, capacity);
  boost::put(boost::edge_capacity, graph, back, 0);
  boost::put(boost::edge_reverse, graph, forward, back);
  boost::put(boost::edge_reverse, graph, back, forward);
}

}  // namespace

Bandwidth max_flow(std::int64_t vertices, const std::vector<Arc>& arcs, const std::vector<std::int64_t>& sources,
                   const std::vector<std::int64_t>& sinks) {
  constexpr std::int64_t kUnlimited = std::int64_t{1} << 60;
  Graph graph(static_cast<std::size_t>(vertices) + 2);
  for (const Arc& arc : arcs) {
    add(graph, arc.from, arc.to, static_cast<std::int64_t>(arc.capacity.value));
  }
  for (const std::int64_t v : sources) {
    add(graph, vertices, v, kUnlimited / static_cast<std::int64_t>(sources.size()));
  }
  for (const std::int64_t v : sinks) {
    add(graph, v, vertices + 1, kUnlimited / static_cast<std::int64_t>(sinks.size()));
  }
  return {static_cast<double>(
      boost::push_relabel_max_flow(graph, static_cast<std::size_t>(vertices), static_cast<std::size_t>(vertices) + 1))};
}

}  // namespace foretrain::topologies
