#include "cli/list_topologies.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "base/output_file.h"
#include "reports/text.h"
#include "topologies/cluster_file.h"
#include "topologies/drawing.h"
#include "topologies/fabric.h"
#include "topologies/network.h"
#include "topologies/node_shapes.h"

namespace foretrain::cli {

namespace {

constexpr std::int64_t kListedNodes = 32, kDrawnNodes = 4;

struct Entry {
  CatalogueItem item;
  topologies::Cluster cluster;
};

std::vector<Entry> entries(const std::string& name) {
  std::vector<Entry> found;
  if (!name.empty()) {
    const topologies::Cluster cluster = topologies::load_system(name);
    found.push_back({{cluster.name, cluster.description,
                      is_catalogue_name(name) ? catalogue_path(topologies::kSystemFolder, "system", name) : name},
                     cluster});
    return found;
  }
  for (const CatalogueItem& item : catalogue_items(topologies::kSystemFolder)) {
    found.push_back({item, topologies::load_system(item.path)});
  }
  return found;
}

struct ClassCount {
  topologies::LinkInfo link;
  std::int64_t links = 0;
};

// By LinkInfo::link_class.
std::vector<ClassCount> count_classes(const topologies::Network& network) {
  std::vector<ClassCount> classes(network.link_classes().size());
  for (topologies::LinkId id = 0; id < network.link_count(); ++id) {
    const topologies::LinkInfo link = network.link(id);
    ClassCount& entry = classes[static_cast<std::size_t>(link.link_class)];
    entry.link = link;
    ++entry.links;
  }
  return classes;
}

void draw(const TopologyOptions& options, topologies::Cluster cluster, int nodes_per_domain) {
  cluster.nodes = options.nodes > 0 ? options.nodes : cluster.this_machine ? 1 : kDrawnNodes * nodes_per_domain;
  const auto network = topologies::make_network(cluster);
  const std::string title = fmt::format("{}: {} devices in {} {}{}", cluster.name, network->devices(), cluster.nodes,
                                        cluster.nodes == 1 ? "node" : "nodes",
                                        network->fabric_shape().empty() ? "" : "; " + network->fabric_shape());
  if (!options.dot.empty()) {
    write_file(options.dot, topologies::to_dot(*network, title));
  }
  if (!options.svg.empty()) {
    write_file(options.svg, topologies::to_svg(*network, title));
  }
}

}  // namespace

void list_topologies(const TopologyOptions& options, nlohmann::ordered_json& items, reports::Table& table,
                     std::string& note) {
  if (options.name.empty() && !(options.dot.empty() && options.svg.empty())) {
    throw InputError("--dot and --svg draw one system; expected its name: foretrain list topologies NAME --svg FILE");
  }
  using reports::Align;
  table.columns = {{"topology"},
                   {"node"},
                   {"fabric"},
                   {"nodes", Align::right},
                   {"devices", Align::right},
                   {"links", Align::right},
                   {"bisection", Align::right}};
  for (Entry& entry : entries(options.name)) {
    topologies::Cluster& cluster = entry.cluster;
    if (cluster.this_machine && options.nodes > 1 && !options.name.empty()) {
      throw InputError(fmt::format("--nodes: {} is not allowed; {} is one node", options.nodes, cluster.name));
    }
    const topologies::Fabric fabric = cluster.fabric != nullptr ? *cluster.fabric : topologies::default_fabric(cluster);
    cluster.nodes = options.nodes > 0 && !cluster.this_machine ? options.nodes
                    : cluster.this_machine                     ? 1
                                                               : kListedNodes;
    const auto network = topologies::make_network(cluster);
    const std::string node = cluster.is_gpu         ? "ranks share a GPU, or have one each"
                             : cluster.this_machine ? fmt::format("{} cores sharing memory", cluster.devices_per_node)
                                                    : topologies::describe(fabric.node);
    const std::string shape = network->fabric_shape().empty() ? "-" : network->fabric_shape();
    items.push_back({{"name", entry.item.name},
                     {"description", entry.item.description},
                     {"path", entry.item.path},
                     {"node", node},
                     {"fabric", network->fabric_shape()},
                     {"nodes", cluster.nodes},
                     {"devices", network->devices()},
                     {"links", network->link_count()},
                     {"bisection_bytes_per_s", network->bisection().value},
                     {"link_classes", nlohmann::ordered_json::array()}});
    reports::Table classes;
    classes.columns = {{"link class"},
                       {"links", Align::right},
                       {"bandwidth", Align::right},
                       {"cables", Align::right},
                       {"latency", Align::right}};
    const std::vector<ClassCount> counts = count_classes(*network);
    for (std::size_t c = 0; c < counts.size(); ++c) {
      if (const auto& [link, links] = counts[c]; links > 0) {
        const std::string& name = network->link_classes()[c];
        items.back()["link_classes"].push_back({{"name", name},
                                                {"links", links},
                                                {"bytes_per_s", link.capacity.value},
                                                {"cables", link.width},
                                                {"latency_s", seconds(link.latency)}});
        classes.rows.push_back({name, reports::count(links), to_string(link.capacity), reports::count(link.width),
                                to_string(link.latency)});
      }
    }
    note = reports::to_text(classes, false);
    table.rows.push_back({entry.item.name, node, shape, reports::count(cluster.nodes),
                          reports::count(network->devices()), reports::count(network->link_count()),
                          to_string(network->bisection())});
    if (!options.dot.empty() || !options.svg.empty()) {
      draw(options, cluster, fabric.node.nodes_per_domain);
    }
  }
  if (options.name.empty()) {
    note =
        "Links are directed; cables over which every flow is spread evenly are one link. --nodes N: at another size; "
        "NAME: its links; NAME --svg FILE: a picture.\n";
  }
}

}  // namespace foretrain::cli
