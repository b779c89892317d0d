#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/units.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "reports/collective.h"
#include "sim/collective/lock_step.h"
#include "sim/network.h"
#include "topologies/cluster_file.h"
#include "topologies/fabric.h"
#include "topologies/network.h"
#include "topologies/profile.h"

namespace foretrain::cli {

namespace {

constexpr std::int64_t kMostBytes = std::int64_t{1} << 50;

// "64MiB" or a plain number of bytes.
std::int64_t size_of(const std::string& option, const std::string& text) {
  const bool plain = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  std::int64_t bytes = 0;
  try {
    bytes = parse_bytes(plain ? text + " B" : text).value;
  } catch (const InputError& e) {
    throw InputError(fmt::format("{}: {}", option, e.what()));
  }
  if (bytes > kMostBytes) {
    throw InputError(fmt::format("{}: \"{}\" is not allowed; expected at most 1 PiB", option, text));
  }
  return bytes;
}

std::vector<std::int64_t> sweep_of(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) {
    throw InputError(fmt::format("--sweep: \"{}\" is not allowed; expected FROM:TO, as 8:8GiB", text));
  }
  const std::int64_t from = size_of("--sweep", text.substr(0, colon)), to = size_of("--sweep", text.substr(colon + 1));
  if (from < 1 || from > to) {
    throw InputError(fmt::format("--sweep: \"{}\" is not allowed; expected 1 <= FROM <= TO", text));
  }
  std::vector<std::int64_t> sizes;
  for (std::int64_t bytes = from; bytes <= to; bytes *= 2) {
    sizes.push_back(bytes);
  }
  return sizes;
}

// Extra latency of ranks that fill the first nodes, of as many sites as the system has.
sim::ExtraLatency extra_latency(topologies::Cluster cluster, const sim::GroupPlacement& group) {
  const int per_unit = topologies::devices_per_unit(cluster);
  const int sites = cluster.fabric == nullptr ? 1 : cluster.fabric->sites.count;
  cluster.nodes = std::int64_t{(group.nodes + sites - 1) / sites} * sites * (per_unit / cluster.devices_per_node);
  const sim::LongRoutes routes(cluster);
  if (group.nodes == 1 || !routes.any()) {
    return {};
  }
  std::vector<plan::Rank> members;
  for (int r = 0; r < group.ranks; ++r) {
    members.push_back(plan::Rank{r / group.per_node} * per_unit + r % group.per_node);
  }
  return routes.of(members);
}

// The shape of the network that they take.
std::string add_flows(topologies::Cluster cluster, sim::collective::Kind kind, const sim::GroupPlacement& group,
                      reports::CollectiveAt& at) {
  const auto layout = sim::collective::Layout::packed(group.ranks, group.per_node);
  for (const sim::collective::LockStep& w : sim::collective::lock_step(cluster, kind, Bytes{at.bytes}, layout)) {
    at.flows.push_back({w.algorithm, w.pieces, w.rounds, w.transfers, w.flows, w.full_bisection, w.routed, w.refusal});
  }
  cluster.nodes = std::int64_t{layout.nodes()} * (topologies::devices_per_unit(cluster) / cluster.devices_per_node);
  return topologies::make_network(cluster)->fabric_shape();
}

}  // namespace

int explain_collective(const std::vector<std::string>& arguments, Console& console) {
  std::string kind = "all_reduce", bytes, sweep, system, profile, network = "alpha_beta", collectives;
  std::int64_t ranks = 0, per_node = 0;
  bool json = false, flows = false;
  Options options("explain collective", "every way to do a collective, with its time");
  options.text("kind", "KIND", &kind,
               "all_reduce, reduce_scatter, all_gather, broadcast, all_to_all, ... [all_reduce]");
  options.text("system", "SYSTEM", &system, "a name of 'foretrain list systems', or a file");
  options.text("profile", "FILE", &profile, "in place of the system's, as 'foretrain import' makes of nccl-tests");
  options.integer("group", &ranks, 2, 1 << 20, "ranks that take part");
  options.integer("per-node", &per_node, 1, 1 << 20,
                  "ranks on a node, or on a domain of nodes on one NVSwitch [all its devices]");
  options.text("bytes", "SIZE", &bytes, "the total buffer: 64MiB, 1 GB, 4096");
  options.text("sweep", "FROM:TO", &sweep, "a table as of nccl-tests, sizes doubling: 8:8GiB");
  options.text("collective", "KIND=ALGORITHM", &collectives, "not the library's choice: all_reduce=ring:simple");
  options.word("network", &network, {"alpha_beta"}, "the model that knows of algorithms");
  options.flag("flows", &flows, "also round by round as flows on the system's network");
  options.flag("json", &json, "one document, foretrain.explain_collective/1");
  options.examples({"foretrain explain collective --kind all_reduce --bytes 64MiB --group 16 --system dgx-h100",
                    "foretrain explain collective --kind all_gather --sweep 8:8GiB --group 8 --system dgx-a100-80gb"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  for (const auto& [missing, name] : {std::pair{system.empty(), "--system SYSTEM"}, {ranks == 0, "--group N"}}) {
    if (missing) {
      throw InputError(fmt::format("{} is missing; see foretrain explain collective --help", name));
    }
  }
  if (bytes.empty() == sweep.empty()) {
    throw InputError("expected one of --bytes SIZE and --sweep FROM:TO");
  }
  if (flows && bytes.empty()) {
    throw InputError("--flows goes with --bytes SIZE: a sweep has no column for it");
  }
  topologies::Cluster cluster = topologies::load_system(system);
  cluster.profile_path = profile.empty() ? cluster.profile_path : profile;
  topologies::load_profile_of(cluster);
  const int per_unit = topologies::devices_per_unit(cluster);
  const std::string unit = per_unit > cluster.devices_per_node ? "domain" : "node";
  const std::int64_t on_node = per_node > 0 ? per_node : std::min<std::int64_t>(ranks, per_unit);
  if (on_node > per_unit) {
    throw InputError(
        fmt::format("--per-node: {} is not allowed; a {} of {} has {} devices", on_node, unit, cluster.name, per_unit));
  }
  if (cluster.this_machine && ranks > on_node) {
    throw InputError(
        fmt::format("--group: {} is not allowed; {} is one node, of {} devices", ranks, cluster.name, on_node));
  }
  reports::CollectiveReport report;
  const sim::collective::Kind k = sim::collective::kind_from_name(kind);
  report.kind = kind;
  report.system = cluster.name;
  report.unit = unit;
  report.network_model = network;
  report.ranks = static_cast<int>(ranks);
  report.per_node = static_cast<int>(std::min(on_node, ranks));
  report.nodes = static_cast<int>((ranks + on_node - 1) / on_node);
  std::vector<sim::CollectiveOverride> overrides = sim::parse_collective_overrides(collectives);
  if (std::any_of(overrides.begin(), overrides.end(), [&](const auto& o) { return o.kind != k; })) {
    throw InputError(fmt::format("--collective: \"{}\" is not allowed; expected {}=ALGORITHM, as --kind says",
                                 collectives, sim::collective::name(k)));
  }
  const auto model = sim::make_network_model(network, cluster, std::move(overrides));
  const int on_last = report.ranks - (report.nodes - 1) * report.per_node;
  sim::GroupPlacement group{report.ranks, report.nodes, report.per_node, on_last};
  group.extra = extra_latency(cluster, group);
  for (const std::int64_t size :
       sweep.empty() ? std::vector<std::int64_t>{size_of("--bytes", bytes)} : sweep_of(sweep)) {
    reports::CollectiveAt at;
    at.bytes = size;
    for (const sim::CollectiveCandidate& c : model->candidates(k, Bytes{size}, group)) {
      at.ways.push_back(
          {c.algorithm, c.protocol, c.latency, c.algbw, c.table_seconds, c.seconds, c.disabled, c.chosen});
    }
    if (flows) {
      report.fabric = add_flows(cluster, k, group, at);
    }
    report.sizes.push_back(std::move(at));
  }
  console.result(json            ? reports::to_json(report).dump(1) + "\n"
                 : sweep.empty() ? reports::to_text(report, console.colour())
                                 : reports::to_sweep_text(report, console.colour()));
  return kOk;
}

}  // namespace foretrain::cli
