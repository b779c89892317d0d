#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "cli/job.h"
#include "cli/list_topologies.h"
#include "cli/options.h"
#include "cli/strategy_words.h"
#include "cli/verbs.h"
#include "plan/job.h"
#include "reports/table.h"
#include "reports/text.h"
#include "topologies/cluster_file.h"
#include "workloads/model_file.h"

namespace foretrain::cli {

namespace {

using Json = nlohmann::ordered_json;

// One kind of things: the document's items, and the table of the same.
struct Listing {
  Json items = Json::array();
  Json elsewhere = nullptr;  // of jobs: those that do not run on this machine alone
  reports::Table table;
  std::string note;  // below the table
};

Json item(const CatalogueItem& entry) {
  return {{"name", entry.name}, {"description", entry.description}, {"path", entry.path}};
}

Listing models() {
  Listing out;
  out.table.columns = {{"model"}, {"parameters", reports::Align::right}, {"description"}};
  for (const CatalogueItem& entry : catalogue_items(workloads::kModelFolder)) {
    const std::int64_t parameters = workloads::total_parameters(workloads::load_model(entry.path));
    Json j = item(entry);
    j["parameters"] = parameters;
    out.items.push_back(std::move(j));
    out.table.rows.push_back({entry.name, reports::count(parameters), entry.description});
  }
  return out;
}

Listing systems() {
  Listing out;
  out.table.columns = {
      {"system"}, {"devices per node", reports::Align::right}, {"memory", reports::Align::right}, {"description"}};
  for (const CatalogueItem& entry : catalogue_items(topologies::kSystemFolder)) {
    const topologies::Cluster cluster = topologies::load_system(entry.path);
    Json j = item(entry);
    j["devices_per_node"] = cluster.devices_per_node;
    j["device"] = cluster.device.name;
    j["device_memory_bytes"] = cluster.device.memory.value;
    j["sources"] = cluster.sources;
    out.items.push_back(std::move(j));
    out.table.rows.push_back(
        {entry.name, reports::count(cluster.devices_per_node), to_string(cluster.device.memory), entry.description});
  }
  return out;
}

Listing jobs() {
  Listing out;
  out.elsewhere = Json::array();
  out.table.columns = {{"job"}, {"on"}, {"description"}};
  for (const CatalogueItem& entry : catalogue_items(kJobFolder)) {
    const topologies::Cluster cluster = plan::load_job(entry.path, {}).cluster;
    (cluster.this_machine && !cluster.is_hosts() ? out.items : out.elsewhere).push_back(item(entry));
    out.table.rows.push_back(
        {entry.name, cluster.is_hosts() ? fmt::format("{} hosts", cluster.nodes) : cluster.name, entry.description});
  }
  out.note = fmt::format(
      "A name stands wherever a JOB is asked for. What is on this-machine runs, what is on hosts runs under mpirun\n"
      "(docs/hosts.md); the others are forecasts. The files are in {}/{}.",
      catalogue_home(), kJobFolder);
  return out;
}

Listing strategies() {
  using reports::Tone;
  const auto cell = [](const std::optional<bool>& passed) {
    return !passed ? reports::Cell("not tested", Tone::dim)
                   : reports::Cell(*passed ? "yes" : "FAILED", *passed ? Tone::good : Tone::bad);
  };
  const auto value = [](const std::optional<bool>& passed) { return passed ? Json(*passed) : Json(nullptr); };
  Listing out;
  out.table.columns = {{"strategy"}, {"simulated"}, {"executed"}, {"compared"}, {"description"}};
  for (const StrategyWord& word : strategy_words()) {
    out.items.push_back({{"name", word.name},
                         {"description", word.description},
                         {"path", nullptr},
                         {"simulated", value(word.simulated)},
                         {"executed", value(word.executed)},
                         {"compared", value(word.compared)}});
    out.table.rows.push_back(
        {word.name, cell(word.simulated), cell(word.executed), cell(word.compared), word.description});
  }
  return out;
}

const std::vector<std::pair<std::string, Listing (*)()>>& kinds() {
  static const std::vector<std::pair<std::string, Listing (*)()>> table{
      {"models", models}, {"systems", systems}, {"jobs", jobs}, {"strategies", strategies}};
  return table;
}

void show(const std::string& kind, Listing found, bool json, Console& console) {
  if (json) {
    Json document{{"schema", "foretrain.list/1"}, {"kind", kind}, {"items", std::move(found.items)}};
    if (!found.elsewhere.is_null()) {
      document["elsewhere"] = std::move(found.elsewhere);
    }
    console.result(document.dump(2) + "\n");
  } else {
    console.result(reports::to_text(found.table, console.colour()));
    console.result(found.note.empty() ? "" : "\n" + found.note + "\n");
  }
}

}  // namespace

int list_command(const std::vector<std::string>& arguments, Console& console) {
  std::string kind;
  bool json = false;
  TopologyOptions topology;
  Options options("list", "shows what the catalogue holds and what a job can say");
  options.positional("KIND", &kind, "models, systems, jobs, strategies or topologies");
  options.positional("NAME", &topology.name, "of one system, for topologies only");
  options.flag("json", &json, "one document, foretrain.list/1");
  options.integer("nodes", &topology.nodes, 1, 1'000'000, "topologies: of so many nodes (32)");
  options.text("dot", "FILE", &topology.dot, "topologies: draws the named one for Graphviz (4 nodes)");
  options.text("svg", "FILE", &topology.svg, "topologies: draws the named one as a picture (4 nodes)");
  options.examples({"foretrain list models", "foretrain list strategies --json",
                    "foretrain list topologies dgx-h100 --svg dgx-h100.svg"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  std::vector<std::string> names;
  for (const auto& [name, listing] : kinds()) {
    names.push_back(name);
    if (name == kind) {
      if (!topology.name.empty() || topology.nodes > 0 || !topology.dot.empty() || !topology.svg.empty()) {
        throw InputError(
            fmt::format("NAME, --nodes, --dot and --svg belong to 'list topologies', not to 'list {}'", kind));
      }
      show(kind, listing(), json, console);
      return kOk;
    }
  }
  names.emplace_back("topologies");
  if (kind == names.back()) {
    Listing found;
    list_topologies(topology, found.items, found.table, found.note);
    found.note.pop_back();  // show() ends it
    show(kind, std::move(found), json, console);
    return kOk;
  }
  const std::string near = nearest_word(kind, names);
  throw InputError(fmt::format("{}expected one of: {}{}",
                               kind.empty() ? "what to list is missing; " : fmt::format("\"{}\" is not a list; ", kind),
                               fmt::join(names, ", "),
                               near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near)));
}

}  // namespace foretrain::cli
