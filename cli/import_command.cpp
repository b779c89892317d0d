#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/files.h"
#include "cli/import_report.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "reports/table.h"
#include "topologies/import_topology.h"
#include "topologies/node_graph_file.h"

namespace foretrain::cli {

namespace {

using topologies::NodeGraph;

// What the vertex is joined to by links of one kind ("pcie", "nvlink"): "PCIe switch 3", or how many of them.
std::string neighbours(const NodeGraph& graph, int vertex, const std::string& kind) {
  std::vector<std::string> names;
  for (const NodeGraph::Link& link : graph.links) {
    const std::string& name = graph.classes[static_cast<std::size_t>(link.link_class)].name;
    if (link.from == vertex && name.starts_with(kind)) {
      const std::size_t cables = name.find(" x");
      names.push_back(graph.vertex_name(link.to) +
                      (cables == std::string::npos ? "" : name.substr(cables, name.find(' ', cables + 1) - cables)));
    }
  }
  return names.empty() ? "-" : fmt::format("{}", fmt::join(names, ", "));
}

std::string text(const topologies::ImportedNode& node, bool colour) {
  const NodeGraph& graph = node.graph;
  const topologies::NodeRoutes routes(graph);
  reports::Table table;
  table.title = fmt::format("{}: {} GPUs, {} adapters{}", node.format, graph.devices, graph.adapters.size(),
                            graph.adapter_bandwidth.value > 0 ? " of " + to_string(graph.adapter_bandwidth) : "");
  table.columns = {{"GPU"}, {"NVLink"}, {"PCIe"}, {"nearest adapter"}};
  for (int d = 0; d < graph.devices; ++d) {
    const int adapter = routes.adapter_of(d);
    table.rows.push_back({graph.vertex_name(d), neighbours(graph, d, "nvlink"), neighbours(graph, d, "pcie"),
                          adapter < 0 ? "-" : graph.vertex_name(graph.adapters[static_cast<std::size_t>(adapter)])});
  }
  std::string out = reports::to_text(table, colour);
  for (const std::string& note : node.notes) {
    out += fmt::format("\n{}", note);
  }
  return out + fmt::format("{}\nThe \"node\" of --json is the \"node\" of a system's \"fabric\".\n",
                           node.notes.empty() ? "" : "\n");
}

}  // namespace

int import_command(const std::vector<std::string>& arguments, Console& console) {
  std::string what, path;
  bool json = false;
  Options options("import", "reads what other tools print of a node, and shows what it understood");
  options.positional("WHAT", &what,
                     "topology: of 'nvidia-smi topo -m', the XML of NCCL_TOPO_DUMP_FILE, or that of lstopo");
  options.positional("FILE", &path, "the file");
  options.flag("json", &json, "one document, foretrain.import/1");
  options.examples({"foretrain import topology topo.txt", "foretrain import topology nccl.xml --json"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (what.ends_with(".html")) {
    return import_report(read_text(what), what, {}, "", console);
  }
  if (what != "topology") {
    throw InputError(
        fmt::format("{}; expected: foretrain import topology FILE",
                    what.empty() ? "what to import is missing" : fmt::format("\"{}\" is nothing to import", what)));
  }
  if (path.empty()) {
    throw InputError("a FILE is missing; expected: foretrain import topology FILE");
  }
  const topologies::ImportedNode node = topologies::import_topology(path);
  if (!json) {
    console.result(text(node, console.colour()));
    return kOk;
  }
  nlohmann::ordered_json part{{"kind", "graph"}};
  if (node.graph.adapter_bandwidth.value > 0) {
    part["adapter_bandwidth"] = fmt::format("{} B/s", node.graph.adapter_bandwidth.value);
  }
  part["graph"] = to_json(node.graph);
  console.result(nlohmann::ordered_json{{"schema", "foretrain.import/1"},
                                        {"kind", "topology"},
                                        {"format", node.format},
                                        {"devices", node.graph.devices},
                                        {"adapters", node.graph.adapters.size()},
                                        {"notes", node.notes},
                                        {"node", std::move(part)}}
                     .dump(2) +
                 "\n");
  return kOk;
}

}  // namespace foretrain::cli
