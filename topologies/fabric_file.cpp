#include "topologies/fabric_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "topologies/exact_text.h"
#include "topologies/node_graph_file.h"

namespace foretrain::topologies {

namespace {

constexpr Bandwidth kLeast{1e3}, kMost{1e14};
constexpr Time kLongest{10'000'000'000'000};  // 10 s
constexpr int kMaxCount = 65'536;
constexpr int kMaxDomain = 1024;  // devices, of which a table holds every pair

const std::vector<std::pair<std::string, NodeKind>> kNodeKinds{{"nvswitch", NodeKind::nv_switch},
                                                               {"all_to_all", NodeKind::all_to_all},
                                                               {"hybrid_cube_mesh", NodeKind::hybrid_cube_mesh},
                                                               {"pairs", NodeKind::pairs},
                                                               {"pcie", NodeKind::pcie},
                                                               {"graph", NodeKind::graph}};

int count(ObjectReader& reader, const std::string& key, std::optional<int> fallback, int low = 1,
          int high = kMaxCount) {
  return static_cast<int>(
      reader.integer(key, fallback ? std::optional<std::int64_t>(*fallback) : std::nullopt, low, high));
}

std::shared_ptr<const PcieTree> read_pcie(ObjectReader reader) {
  if (!reader.present()) {
    return nullptr;
  }
  PcieTree p;
  p.switches = count(reader, "switches", 0, 0, kMaxDomain);
  p.sockets = count(reader, "sockets", 1, 1, 64);
  p.bandwidth = link_bandwidth(reader, "bandwidth", std::nullopt);
  if (p.sockets > 1 || reader.has("socket_bandwidth")) {
    p.socket_bandwidth = link_bandwidth(reader, "socket_bandwidth", std::nullopt);
  }
  if (reader.has("memory_bandwidth")) {
    p.memory_bandwidth = link_bandwidth(reader, "memory_bandwidth", std::nullopt);
  }
  p.latency = link_latency(reader, "latency", Time{});
  reader.finish();
  return std::make_shared<PcieTree>(p);
}

// Several adapters for each device are one, with several cables: a device's traffic is striped over them.
void merge_adapters(NodeShape& n) {
  const int each = n.adapters / n.devices;
  n.ports_per_adapter *= each;
  n.adapter_bandwidth.value *= each;
  n.adapters = n.devices;
}

// An imported node: its graph says all but what an adapter carries.
NodeShape read_imported(ObjectReader& reader, NodeShape n, const Cluster& cluster) {
  const auto graph = read_node_graph(reader.object("graph"));
  const double adapters = graph == nullptr ? 1 : static_cast<double>(std::max<std::size_t>(1, graph->adapters.size()));
  n.adapter_bandwidth =
      link_bandwidth(reader, "adapter_bandwidth",
                     Bandwidth{std::clamp(cluster.inter.bandwidth.value * cluster.devices_per_node / adapters,
                                          kLeast.value, kMost.value)});
  n.ports_per_adapter = count(reader, "adapter_cables", 1, 1, 64);
  reader.finish();
  if (n.nodes_per_domain > 1) {
    reader.mistake("nodes_per_domain", "a domain of several nodes has an nvswitch; this kind is graph");
  }
  if (graph != nullptr) {
    if (graph->devices != cluster.devices_per_node) {
      reader.mistake("graph", fmt::format("has {} GPUs; the system has {} devices per node", graph->devices,
                                          cluster.devices_per_node));
    }
    n.adapters = static_cast<int>(graph->adapters.size());
    graph->adapter_bandwidth = n.adapter_bandwidth;
    n.graph = graph;
  }
  return n;
}

NodeShape read_node(ObjectReader reader, const Cluster& cluster) {
  NodeShape n;
  std::vector<std::string> words;
  for (const auto& [word, kind] : kNodeKinds) {
    words.push_back(word);
  }
  const std::string word = reader.word("kind", "nvswitch", words);
  n.kind = kNodeKinds[static_cast<std::size_t>(std::find(words.begin(), words.end(), word) - words.begin())].second;
  const int devices = cluster.devices_per_node;
  n.nodes_per_domain = count(reader, "nodes_per_domain", 1, 1, kMaxDomain);
  n.devices = std::min(n.nodes_per_domain * std::min(devices, kMaxDomain), kMaxDomain);
  if (n.nodes_per_domain * std::int64_t{devices} > kMaxDomain) {
    reader.mistake("nodes_per_domain",
                   fmt::format("{} nodes of {} devices are a domain of {}; expected at most {}", n.nodes_per_domain,
                               devices, n.nodes_per_domain * std::int64_t{devices}, kMaxDomain));
  }
  const bool mesh = n.kind == NodeKind::all_to_all || n.kind == NodeKind::hybrid_cube_mesh || n.kind == NodeKind::pairs;
  if (mesh) {
    n.bandwidth = link_bandwidth(reader, "link_bandwidth", std::nullopt);
  } else if (n.kind == NodeKind::nv_switch) {
    n.bandwidth = link_bandwidth(reader, "bandwidth", cluster.intra.bandwidth);
  }
  if (n.kind == NodeKind::all_to_all || n.kind == NodeKind::pairs) {
    n.links_per_pair = count(reader, "links_per_pair", 1, 1, 1000);
  }
  n.latency = link_latency(reader, "latency", cluster.intra.latency);
  if (n.kind == NodeKind::graph) {
    return read_imported(reader, std::move(n), cluster);
  }
  const int adapters = count(reader, "adapters", devices, 1, 1024);
  n.adapters = adapters * n.nodes_per_domain;
  n.adapter_bandwidth = link_bandwidth(
      reader, "adapter_bandwidth",
      Bandwidth{std::clamp(cluster.inter.bandwidth.value * devices / adapters, kLeast.value, kMost.value)});
  n.ports_per_adapter = count(reader, "adapter_cables", 1, 1, 64);
  n.pcie = read_pcie(reader.object("pcie", false));
  reader.finish();

  if (adapters > devices && adapters % devices != 0) {
    reader.mistake("adapters", fmt::format("{} adapters for {} devices; expected at most {}, or a multiple of it",
                                           adapters, devices, devices));
  } else if (adapters > devices) {
    merge_adapters(n);
  }
  if (n.kind == NodeKind::hybrid_cube_mesh && n.devices != 8) {
    reader.mistake("kind", fmt::format("a hybrid cube mesh has 8 devices; this node has {}", n.devices));
  }
  if (mesh && n.nodes_per_domain > 1) {
    reader.mistake("nodes_per_domain", fmt::format("a domain of several nodes has an nvswitch; this kind is {}", word));
  }
  const bool needs_pcie =
      n.kind == NodeKind::pcie || n.kind == NodeKind::hybrid_cube_mesh || (n.kind == NodeKind::pairs && n.devices > 2);
  if (needs_pcie && n.pcie == nullptr) {
    reader.mistake("pcie", fmt::format("devices of a node of kind {} are disconnected without it", word));
  }
  return n;
}

std::vector<double> read_oversubscription(ObjectReader& reader) {
  std::vector<double> values;
  const nlohmann::json* raw = reader.raw("oversubscription");
  if (raw == nullptr) {
    return values;
  }
  const nlohmann::json list = raw->is_array() ? *raw : nlohmann::json::array({*raw});
  for (const nlohmann::json& value : list) {
    const double number = value.is_number() ? value.get<double>() : 0;
    if (!(number >= 1 && number <= 1000) || values.size() >= 3) {
      reader.mistake(
          "oversubscription",
          fmt::format("{} is not allowed; expected a number from 1 to 1000, or one for each of up to 3 tiers",
                      shown(*raw)));
      return {};
    }
    values.push_back(number);
  }
  return values;
}

FatTree read_fat_tree(ObjectReader& reader, int adapters_per_node) {
  FatTree t;
  t.rails = count(reader, "rails", 1, 1, 1024);
  if (adapters_per_node % t.rails != 0) {
    reader.mistake("rails",
                   fmt::format("{} rails for {} adapters per node; expected a divisor", t.rails, adapters_per_node));
  }
  t.radix = count(reader, "radix", 64, 2, kMaxCount);
  t.tiers = reader.has("tiers") ? count(reader, "tiers", std::nullopt, 1, 4) : 0;
  t.oversubscription = read_oversubscription(reader);
  t.leaf_ports = reader.has("leaf_ports") ? count(reader, "leaf_ports", std::nullopt) : 0;
  t.pod_leaves = reader.has("pod_leaves") ? count(reader, "pod_leaves", std::nullopt) : 0;
  if (reader.has("cable")) {
    t.cable = link_bandwidth(reader, "cable", std::nullopt);
  }
  t.pxn = reader.boolean("pxn", false);
  return t;
}

Dragonfly read_dragonfly(ObjectReader& reader, Bandwidth adapter) {
  Dragonfly d;
  d.routers = count(reader, "routers", std::nullopt, 1, 4096);
  d.ports = count(reader, "adapters_per_router", std::nullopt, 1, 4096);
  d.global_links = count(reader, "global_links", std::nullopt, 1, 4096);
  d.local_bandwidth = link_bandwidth(reader, "local_bandwidth", adapter);
  d.global_bandwidth = link_bandwidth(reader, "global_bandwidth", adapter);
  return d;
}

Torus read_torus(ObjectReader& reader, Bandwidth adapter) {
  Torus t;
  double routers = 1;
  for (const std::int64_t size : reader.integers("dims", 1)) {
    routers *= static_cast<double>(size);
    t.dims.push_back(static_cast<int>(std::min<std::int64_t>(size, kMaxCount)));
  }
  if (t.dims.empty() || t.dims.size() > 6 || routers > 1e7) {
    reader.mistake("dims", "expected 1 to 6 sizes, such as [8, 8, 4], and at most 10 million routers");
    t.dims = {1};
  }
  t.ports = count(reader, "adapters_per_router", 1, 1, 4096);
  t.bandwidth = link_bandwidth(reader, "bandwidth", adapter);
  return t;
}

Sites read_sites(ObjectReader reader) {
  Sites s;
  if (reader.present()) {
    s.count = count(reader, "count", std::nullopt, 2, 1000);
    s.bandwidth = link_bandwidth(reader, "bandwidth", std::nullopt);
    const std::size_t before = reader.mistakes().count();
    s.latency = reader.time("latency", std::nullopt);
    if (reader.mistakes().count() == before && s.latency > kLongest) {
      reader.mistake("latency", fmt::format("{} is no latency of a link; expected at most 10 s", to_string(s.latency)));
    }
    reader.finish();
  }
  return s;
}

nlohmann::json node_to_json(const NodeShape& n) {
  if (n.kind == NodeKind::graph) {
    return {{"kind", "graph"},
            {"latency", exact(n.latency)},
            {"adapter_bandwidth", exact(n.adapter_bandwidth)},
            {"adapter_cables", n.ports_per_adapter},
            {"graph", to_json(*n.graph)}};
  }
  const int nodes = n.nodes_per_domain;
  const auto kind =
      std::find_if(kNodeKinds.begin(), kNodeKinds.end(), [&](const auto& k) { return k.second == n.kind; });
  nlohmann::json j{{"kind", kind->first},
                   {"latency", exact(n.latency)},
                   {"nodes_per_domain", nodes},
                   {"adapters", n.adapters / nodes},
                   {"adapter_bandwidth", exact(n.adapter_bandwidth)},
                   {"adapter_cables", n.ports_per_adapter}};
  if (n.kind == NodeKind::nv_switch) {
    j["bandwidth"] = exact(n.bandwidth);
  } else if (n.kind != NodeKind::pcie) {
    j["link_bandwidth"] = exact(n.bandwidth);
  }
  if (n.kind == NodeKind::all_to_all || n.kind == NodeKind::pairs) {
    j["links_per_pair"] = n.links_per_pair;
  }
  if (n.pcie != nullptr) {
    const PcieTree& p = *n.pcie;
    j["pcie"] = {{"switches", p.switches},
                 {"sockets", p.sockets},
                 {"bandwidth", exact(p.bandwidth)},
                 {"latency", exact(p.latency)}};
    if (p.socket_bandwidth.value > 0) {
      j["pcie"]["socket_bandwidth"] = exact(p.socket_bandwidth);
    }
    if (p.memory_bandwidth.value > 0) {
      j["pcie"]["memory_bandwidth"] = exact(p.memory_bandwidth);
    }
  }
  return j;
}

}  // namespace

Time link_latency(ObjectReader& reader, const std::string& key, Time fallback) {
  const Time t = reader.time(key, fallback);
  if (t > kLongest) {
    reader.mistake(key, fmt::format("{} is no latency of a link; expected at most 10 s", to_string(t)));
    return fallback;
  }
  return t;
}

Bandwidth link_bandwidth(ObjectReader& reader, const std::string& key, std::optional<Bandwidth> fallback) {
  const std::size_t before = reader.mistakes().count();
  const Bandwidth b = reader.bandwidth(key, fallback);
  if (reader.mistakes().count() != before || !reader.has(key)) {
    return fallback.value_or(kLeast);
  }
  if (b.value <= 0) {
    reader.mistake(key, "must be more than zero");
  } else if (b < kLeast || b > kMost) {
    reader.mistake(key, fmt::format("{} is no bandwidth of a link; expected 1 kB/s to 100 TB/s", to_string(b)));
  } else {
    return b;
  }
  return fallback.value_or(kLeast);
}

std::shared_ptr<const Fabric> read_fabric(ObjectReader reader, const Cluster& cluster) {
  if (!reader.present()) {
    return nullptr;
  }
  const std::size_t before = reader.mistakes().count();
  Fabric f;
  f.node = read_node(reader.object("node", false), cluster);
  const Bandwidth adapter = f.node.adapter_bandwidth;
  const std::string kind = reader.word("kind", "non_blocking", {"non_blocking", "fat_tree", "dragonfly", "torus"});
  if (kind == "fat_tree") {
    f.network = read_fat_tree(reader, f.node.adapters / f.node.nodes_per_domain);
  } else if (kind == "dragonfly") {
    f.network = read_dragonfly(reader, adapter);
  } else if (kind == "torus") {
    f.network = read_torus(reader, adapter);
  }
  f.routing = reader.word("routing", "sprayed", {"sprayed", "hashed"}) == "hashed" ? Routing::hashed : Routing::sprayed;
  f.latency = link_latency(reader, "latency", cluster.inter.latency);
  f.switch_latency = link_latency(reader, "switch_latency", Time{});
  f.sites = read_sites(reader.object("sites", false));
  if (f.sites.count > 1 && (kind == "dragonfly" || kind == "torus")) {
    reader.mistake("sites",
                   fmt::format("a {} has no gateway to other sites; expected kind fat_tree or non_blocking", kind));
  }
  reader.finish();
  return reader.mistakes().count() == before ? std::make_shared<const Fabric>(f) : nullptr;
}

nlohmann::json to_json(const Fabric& f) {
  nlohmann::json j{{"node", node_to_json(f.node)},
                   {"routing", f.routing == Routing::hashed ? "hashed" : "sprayed"},
                   {"latency", exact(f.latency)},
                   {"switch_latency", exact(f.switch_latency)},
                   {"kind", "non_blocking"}};
  if (const auto* t = std::get_if<FatTree>(&f.network)) {
    j["kind"] = "fat_tree";
    j["rails"] = t->rails;
    j["radix"] = t->radix;
    j["pxn"] = t->pxn;
    if (t->tiers > 0) {
      j["tiers"] = t->tiers;
    }
    if (!t->oversubscription.empty()) {
      j["oversubscription"] = t->oversubscription;
    }
    if (t->leaf_ports > 0) {
      j["leaf_ports"] = t->leaf_ports;
    }
    if (t->pod_leaves > 0) {
      j["pod_leaves"] = t->pod_leaves;
    }
    if (t->cable.value > 0) {
      j["cable"] = exact(t->cable);
    }
  } else if (const auto* d = std::get_if<Dragonfly>(&f.network)) {
    j.update({{"kind", "dragonfly"},
              {"routers", d->routers},
              {"adapters_per_router", d->ports},
              {"global_links", d->global_links},
              {"local_bandwidth", exact(d->local_bandwidth)},
              {"global_bandwidth", exact(d->global_bandwidth)}});
  } else if (const auto* torus = std::get_if<Torus>(&f.network)) {
    j.update({{"kind", "torus"},
              {"dims", torus->dims},
              {"adapters_per_router", torus->ports},
              {"bandwidth", exact(torus->bandwidth)}});
  }
  if (f.sites.count > 1) {
    j["sites"] = {
        {"count", f.sites.count}, {"bandwidth", exact(f.sites.bandwidth)}, {"latency", exact(f.sites.latency)}};
  }
  return j;
}

}  // namespace foretrain::topologies
