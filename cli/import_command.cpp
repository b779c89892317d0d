#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/mapped_file.h"
#include "cli/import_chakra.h"
#include "cli/import_job.h"
#include "cli/import_nccl_tests.h"
#include "cli/import_report.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "reports/report.h"
#include "reports/table.h"
#include "topologies/import_topology.h"
#include "topologies/nccl_tests.h"
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

int import_topology(const std::string& path, bool json, Console& console) {
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

constexpr std::size_t kMostBytes = 64 << 20;  // of a file that is a job

std::string content_of(const std::string& path) {
  const MappedFile file(path, "import", "a file of another tool");
  if (file.bytes().size() > kMostBytes) {
    throw InputError(fmt::format("{}: {} bytes; expected at most {} of a job", path, file.bytes().size(), kMostBytes));
  }
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

int import_command(const std::vector<std::string>& arguments, Console& console) {
  std::string first;
  std::vector<std::string> rest;
  ImportJobArguments a;
  Options options("import", "reads other tools' files; says what it read, what it assumed and what it ignored");
  options.positional("FILE", &first,
                     "Megatron-LM arguments or a launch script with them, torchtitan TOML or flags, DeepSpeed JSON, a "
                     "Hugging Face config.json, a page of 'foretrain report': a job; or of 'nvidia-smi topo -m', the "
                     "XML of NCCL_TOPO_DUMP_FILE or "
                     "that of lstopo, behind the word topology; or what nccl-tests printed, several files, of "
                     "system=NAME: a profile. A word before FILE says what it is: " +
                         fmt::format("{}", fmt::join(kImportKinds, ", ")));
  options.rest("KEY=VALUE", &rest, "fields of the job that the file does not say, or that are to be others");
  options.text("set", "NAME=VALUE,...", &a.variables, "variables of a launch script that it does not set itself");
  options.text("output", "FILE", &a.output, "writes the job there; without it the job goes to stdout", 'o');
  options.flag("json", &a.json, "one document, foretrain.import/1");
  options.examples({"foretrain import pretrain.sh system=dgx-a100-80gb -o job.json",
                    "foretrain import ds_config.json model=llama3-8b seq_len=8192 nodes=2",
                    "foretrain import all_reduce.log all_gather.log system=dgx-h100 -o profile.json",
                    "foretrain import topology topo.txt", "foretrain import topology nccl.xml --json"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  std::string kind;
  if (std::find(std::begin(kImportKinds), std::end(kImportKinds), first) != std::end(kImportKinds)) {
    kind = first;
    first = rest.empty() ? "" : rest.front();
    rest.erase(rest.begin(), rest.empty() ? rest.begin() : rest.begin() + 1);
  }
  if (first.empty()) {
    throw InputError(
        fmt::format("a FILE is missing; expected: foretrain import {}FILE", kind.empty() ? "" : kind + " "));
  }
  if (kind == "topology") {
    return import_topology(first, a.json, console);
  }
  if (kind == "chakra" || first.ends_with(".et")) {
    rest.insert(rest.begin(), first);
    return import_chakra(rest, a.json, console);
  }
  const std::string content = content_of(first);
  if (kind == "nccl-tests" || (kind.empty() && topologies::is_nccl_tests(content))) {
    rest.insert(rest.begin(), first);
    return import_nccl_tests(rest, a.output, a.json, console);
  }
  a.path = first;
  a.overrides = std::move(rest);
  if (reports::is_report_page(content) || first.ends_with(".html")) {
    return import_report(content, first, a.overrides, a.output, a.json, console);
  }
  plan::ForeignFormat format = plan::format_of(content, first);
  for (const plan::ForeignFormat f : {plan::ForeignFormat::megatron, plan::ForeignFormat::torchtitan,
                                      plan::ForeignFormat::deepspeed, plan::ForeignFormat::hf_config}) {
    format = name(f) == kind ? f : format;
  }
  return import_job(format, content, a, console);
}

}  // namespace foretrain::cli
