#include "topologies/network_environment.h"

#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "base/json.h"
#include "topologies/fabric_file.h"

namespace foretrain::topologies {
namespace {

constexpr const char* kFile = "topologies/network_environments.json";
const std::vector<std::string> kCollectives{"all_reduce", "reduce_scatter", "all_gather", "broadcast",
                                            "reduce",     "all_to_all",     "sendrecv"};

std::map<std::string, CollectiveConstants> read_constants(ObjectReader reader) {
  std::map<std::string, CollectiveConstants> result;
  for (const std::string& kind : kCollectives) {
    if (!reader.has(kind)) {
      continue;
    }
    ObjectReader r = reader.object(kind);
    CollectiveConstants c;
    c.ll_latency = r.number("ll_latency", std::nullopt, 1e-6, 1e6);
    c.ll_rate = r.number("ll_rate", std::nullopt, 1e-9, 1);
    c.latency = r.number("latency", std::nullopt, 1e-6, 1e6);
    if (r.has("tree_efficiency")) {
      c.tree_efficiency = r.number("tree_efficiency", std::nullopt, 1e-6, 2);
    }
    c.efficiency = r.number("efficiency", std::nullopt, 1e-6, 2);
    c.ramp = r.number("ramp", std::nullopt, 0.1, 10);
    c.source = r.text("source", std::nullopt);
    r.finish();
    result[kind] = c;
  }
  reader.finish();
  return result;
}

NetworkEnvironment read_environment(ObjectReader reader) {
  NetworkEnvironment e;
  e.name = reader.text("name", std::nullopt);
  e.source = reader.text("source", std::nullopt);
  const std::vector<std::string> generations(kGenerationNames.begin(), kGenerationNames.end());
  const std::string generation = reader.word("generation", std::nullopt, generations);
  for (std::size_t g = 0; g < generations.size(); ++g) {
    if (generation == generations[g]) {
      e.generation = static_cast<GpuGeneration>(g);
    }
  }
  e.node_rate = link_bandwidth(reader, "node_rate", std::nullopt);
  e.fabric_rate = link_bandwidth(reader, "fabric_rate", std::nullopt);
  e.channels = static_cast<int>(reader.integer("channels", 16, 2, 1024));
  e.nvlink = reader.boolean("nvlink", true);
  e.in_switch = reader.boolean("in_switch", true);
  e.amd_host = reader.boolean("amd_host", false);
  e.nvlink_ranks = static_cast<int>(reader.integer("nvlink_ranks", 0, 0, 1 << 20));
  e.beyond_rate = e.nvlink_ranks > 0 ? link_bandwidth(reader, "beyond_rate", std::nullopt) : e.node_rate;
  e.domain = static_cast<int>(reader.integer("domain", 0, 0, 1 << 20));
  e.tables = reader.texts("tables");
  e.node_systems = reader.has("node_systems") ? reader.texts("node_systems") : std::vector<std::string>{};
  e.fabric_systems = reader.has("fabric_systems") ? reader.texts("fabric_systems") : std::vector<std::string>{};
  ObjectReader constants = reader.object("constants");
  e.node = read_constants(constants.object("node"));
  e.fabric = read_constants(constants.object("fabric"));
  constants.finish();
  reader.finish();
  return e;
}

std::vector<NetworkEnvironment> read(const JsonDocument& document) {
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  reader.word("schema", std::nullopt, {"foretrain.network_environments/1"});
  std::vector<NetworkEnvironment> result;
  for (ObjectReader& r : reader.objects("environments")) {
    result.push_back(read_environment(r));
  }
  reader.finish();
  mistakes.throw_if_any();
  return result;
}

// "*" matches any text. What follows the last one is tried at every later place, what stands before it never again.
bool matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, after = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      after = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++after;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace

std::vector<NetworkEnvironment> load_network_environments(const std::string& path) {
  return read(JsonDocument::from_file(path));
}

const std::vector<NetworkEnvironment>& network_environments() {
  static const std::vector<NetworkEnvironment> all = load_network_environments(catalogue_home() + "/" + kFile);
  return all;
}

std::vector<NetworkEnvironment> network_environments_from_text(std::string_view text, const std::string& origin) {
  return read(JsonDocument::from_text(text, origin));
}

const NetworkEnvironment* environment_of(const std::vector<NetworkEnvironment>& all, const std::string& table) {
  for (const NetworkEnvironment& e : all) {
    for (const std::string& pattern : e.tables) {
      if (matches(pattern, table)) {
        return &e;
      }
    }
  }
  return nullptr;
}

}  // namespace foretrain::topologies
