#include "cli/import_chakra.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/units.h"
#include "cli/import_words.h"
#include "cli/verbs.h"
#include "plan/foreign/chakra.h"
#include "reports/table.h"
#include "search/chakra_replay.h"
#include "topologies/cluster_file.h"
#include "topologies/profile.h"

namespace foretrain::cli {

namespace {

namespace fs = std::filesystem;

// What a Chakra trace holds, by type of node and kind of collective.
int contents(const std::string& path, bool json, Console& console) {
  const MappedFile file(path, "import", "a Chakra execution trace");
  struct Sum {
    std::int64_t nodes = 0;
    double flops = 0, bytes = 0;
  };
  std::map<std::string, Sum> sums;
  plan::read_chakra({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path,
                    [&](const plan::ChakraNode& node) {
                      const bool known = node.comm_type >= 0 &&
                                         node.comm_type <= static_cast<std::int64_t>(plan::ChakraCollective::barrier);
                      Sum& sum = sums[node.type == plan::ChakraType::collective && known
                                          ? std::string(name(static_cast<plan::ChakraCollective>(node.comm_type)))
                                          : std::string(name(node.type))];
                      ++sum.nodes;
                      sum.flops += static_cast<double>(node.num_ops);
                      sum.bytes += static_cast<double>(node.tensor_size) + static_cast<double>(node.comm_size);
                    });
  reports::Table table;
  table.title = fmt::format("{}: Chakra execution trace of one rank", path);
  table.columns = {{"nodes of"},
                   {"number", reports::Align::right},
                   {"FLOPs", reports::Align::right},
                   {"bytes", reports::Align::right}};
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const auto& [what, sum] : sums) {
    table.rows.push_back(
        {what, fmt::format("{}", sum.nodes), fmt::format("{:.6g}", sum.flops), fmt::format("{:.6g}", sum.bytes)});
    rows.push_back({{"name", what}, {"nodes", sum.nodes}, {"flops", sum.flops}, {"bytes", sum.bytes}});
  }
  console.result(json ? nlohmann::ordered_json{{"schema", "foretrain.import/1"},
                                               {"kind", "trace"},
                                               {"format", "Chakra execution trace"},
                                               {"nodes", std::move(rows)}}
                                .dump(2) +
                            "\n"
                      : reports::to_text(table, console.colour()));
  return kOk;
}

// "traces/job.12.et": 12; -1 where no number stands before the end.
int rank_of(const fs::path& path) {
  const std::string number = path.stem().extension().string();
  int rank = -1;
  const char* const end = number.data() + number.size();
  const bool is_number = number.size() > 1 && std::from_chars(number.data() + 1, end, rank).ptr == end;
  return is_number && rank >= 0 && rank < kMostCounted ? rank : -1;
}

std::map<int, std::string> by_rank(const std::vector<std::string>& given) {
  std::vector<fs::path> paths(given.begin(), given.end());
  std::error_code error;
  if (paths.size() == 1 && fs::is_directory(paths.front(), error)) {
    const fs::path folder = paths.front();
    paths.clear();
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
      if (entry.path().extension() == ".et") {
        paths.push_back(entry.path());
      }
    }
    if (paths.empty()) {
      throw InputError(fmt::format("{}: no file PREFIX.RANK.et in it", folder.string()));
    }
  }
  std::map<int, std::string> found;
  for (const fs::path& path : paths) {
    const int rank = rank_of(path);
    if (!fs::exists(path, error)) {
      throw InputError(fmt::format("{}: no such file or folder", path.string()));
    }
    if (rank < 0) {
      throw InputError(fmt::format("{}: expected a name PREFIX.RANK.et, as job.0.et", path.string()));
    }
    if (!found.try_emplace(rank, path.string()).second) {
      throw InputError(fmt::format("{}: rank {} has two traces, this and {}", path.string(), rank, found[rank]));
    }
  }
  if (found.rbegin()->first != std::ssize(found) - 1) {
    int missing = 0;
    while (found.count(missing) > 0) {
      ++missing;
    }
    throw InputError(
        fmt::format("{} traces, up to rank {}; rank {} is missing", found.size(), found.rbegin()->first, missing));
  }
  return found;
}

// ASTRA-sim's comm_group.json: {"1": [0, 1], ...}.
std::map<std::string, std::vector<plan::Rank>> groups_of(const fs::path& file, std::int64_t ranks) {
  std::map<std::string, std::vector<plan::Rank>> groups;
  std::error_code error;
  if (!fs::exists(file, error)) {
    return groups;
  }
  const MappedFile content(file.string(), "import", "groups of Chakra traces");
  const auto text = std::string_view(reinterpret_cast<const char*>(content.bytes().data()), content.bytes().size());
  const nlohmann::json document = nlohmann::json::parse(text, nullptr, false);
  if (!document.is_object()) {
    throw InputError(fmt::format("{}: expected an object of groups, {{\"1\": [0, 1], ...}}", file.string()));
  }
  for (const auto& [name, members] : document.items()) {
    std::vector<plan::Rank>& group = groups[name];
    for (const nlohmann::json& member : members) {
      const bool is_rank =
          member.is_number_integer() && member.get<std::int64_t>() >= 0 && member.get<std::int64_t>() < ranks;
      if (!is_rank || std::find(group.begin(), group.end(), member.get<plan::Rank>()) != group.end()) {
        throw InputError(fmt::format("{}: group {}: {} is not allowed; expected each of the {} ranks once at most",
                                     file.string(), name, member.dump(), ranks));
      }
      group.push_back(member.get<plan::Rank>());
    }
  }
  return groups;
}

search::ChakraTraces load(const std::vector<std::string>& paths) {
  search::ChakraTraces traces;
  std::size_t nodes = 0;
  for (const auto& [rank, path] : by_rank(paths)) {
    const MappedFile file(path, "import", "a Chakra execution trace");
    traces.origins.push_back(path);
    traces.nodes.emplace_back();
    plan::read_chakra({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path,
                      [&](const plan::ChakraNode& node) { traces.nodes.back().push_back(node); });
    nodes += traces.nodes.back().size();
    if (nodes > static_cast<std::size_t>(plan::kMostChakraNodes)) {
      throw InputError(fmt::format("{}: more than {} nodes in all", path, plan::kMostChakraNodes));
    }
  }
  traces.groups =
      groups_of(fs::path(traces.origins.front()).parent_path() / "comm_group.json", std::ssize(traces.nodes));
  return traces;
}

Dtype dtype_of(const std::string& word) {
  std::vector<std::string> known;
  for (const Dtype d : {Dtype::fp64, Dtype::fp32, Dtype::tf32, Dtype::fp16, Dtype::bf16, Dtype::fp8}) {
    if (name(d) == word) {
      return d;
    }
    known.emplace_back(name(d));
  }
  throw InputError(fmt::format("dtype={} is not allowed; expected one of {}", word, fmt::join(known, ", ")));
}

topologies::Cluster cluster_of(const ImportWords& given, std::int64_t ranks) {
  topologies::Cluster cluster = topologies::load_system(given.values.at("system"));
  cluster.nodes = given.count("nodes", (ranks + cluster.devices_per_node - 1) / cluster.devices_per_node);
  topologies::load_profile_of(cluster);
  return cluster;
}

int simulated(const ImportWords& given, bool json, Console& console) {
  const search::ChakraTraces traces = load(given.files);
  const topologies::Cluster cluster = cluster_of(given, std::ssize(traces.nodes));
  const search::ChakraReplay r = search::replay(traces, cluster, dtype_of(given.value("dtype", "bf16")));
  const double step = seconds(r.step), recorded = seconds(r.recorded);
  if (json) {
    nlohmann::ordered_json document{{"schema", "foretrain.import/1"},
                                    {"kind", "step"},
                                    {"format", "Chakra execution trace"},
                                    {"system", cluster.name},
                                    {"ranks", traces.nodes.size()},
                                    {"nodes", r.nodes},
                                    {"step_time_s", step},
                                    {"recorded_step_s", nullptr},
                                    {"last_rank", r.last},
                                    {"compute_s", seconds(r.compute)},
                                    {"network_s", seconds(r.network)},
                                    {"exposed_network_s", seconds(r.exposed)},
                                    {"assumed", r.assumed}};
    if (r.recorded.value > 0) {
      document["recorded_step_s"] = recorded;
    }
    console.result(document.dump(2) + "\n");
    return kOk;
  }
  reports::Table table;
  table.title =
      fmt::format("Chakra execution traces of {} ranks, {} nodes, on {}", traces.nodes.size(), r.nodes, cluster.name);
  table.columns = {{""}, {""}, {""}};
  table.rows.push_back(
      {"step time", {to_string(r.step), reports::Tone::strong}, fmt::format("rank {} ends last", r.last)});
  if (r.recorded.value > 0) {
    table.rows.push_back(
        {"as recorded", to_string(r.recorded),
         fmt::format("communication as long as the traces say; {:+.1f} %", 100 * (step / recorded - 1))});
  }
  table.rows.push_back({"compute", to_string(r.compute), "of that rank"});
  table.rows.push_back(
      {"communication", to_string(r.network), fmt::format("of it {} while the device waits", to_string(r.exposed))});
  std::string out = reports::to_text(table, console.colour());
  for (const std::string& a : r.assumed) {
    out += fmt::format("\nassumed  {}", a);
  }
  console.result(out + (r.assumed.empty() ? "" : "\n"));
  return kOk;
}

}  // namespace

int import_chakra(const std::vector<std::string>& words, bool json, Console& console) {
  const ImportWords given = import_words(words, {"system", "nodes", "dtype"}, "Chakra traces",
                                         "FILE..., or a folder, and system=NAME nodes=N dtype=WORD");
  if (given.files.empty()) {
    throw InputError("a FILE is missing; expected: foretrain import chakra FILE");
  }
  if (given.has("system")) {
    return simulated(given, json, console);
  }
  std::error_code error;
  if (given.files.size() > 1 || !given.values.empty() || fs::is_directory(given.files.front(), error)) {
    throw InputError("traces of several ranks are simulated on a system; add system=NAME, of 'foretrain list systems'");
  }
  return contents(given.files.front(), json, console);
}

}  // namespace foretrain::cli
