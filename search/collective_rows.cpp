#include "search/collective_rows.h"

#include <fmt/format.h>

#include "sim/collective_price.h"

namespace foretrain::search {

using reports::ValidationRow;

namespace {

constexpr double kShortestTime = 1e-6;  // us: less is no measurement, and no figure to divide by

const std::map<std::string, std::string>& words() {
  static const std::map<std::string, std::string> table{
      {"all_reduce", "all_reduce"}, {"all_gather", "all_gather"}, {"reduce_scatter", "reduce_scatter"},
      {"broadcast", "broadcast"},   {"reduce", "reduce"},         {"alltoall", "all_to_all"},
      {"all_to_all", "all_to_all"}, {"sendrecv", "sendrecv"}};
  return table;
}

}  // namespace

CollectiveForecasts::CollectiveForecasts(const std::string& constants)
    : environments_(constants.empty() ? topologies::network_environments()
                                      : topologies::load_network_environments(constants)) {}

ValidationRow CollectiveForecasts::forecast(const RowReader& line) const {
  ValidationRow r;
  r.id = line.text("id", true);
  r.group = line.text("table", true);
  r.unit = "us";
  const std::string kind = line.text("collective", true), version = line.text("nccl_version", false);
  const std::optional<double> bytes = line.number("bytes"), time = line.number("time_us");
  const std::optional<std::int64_t> ranks = line.integer("ranks", 1), nodes = line.integer("nodes", 1);
  const bool healthy = line.boolean("healthy").value_or(true);
  r.what = kind;
  r.bytes = bytes.value_or(0);
  r.measured = time;
  const topologies::NetworkEnvironment* environment = topologies::environment_of(environments_, r.group);
  const auto word = words().find(kind);
  if (!healthy) {
    r.skipped = "the source calls the system unhealthy";
  } else if (!time || *time < kShortestTime) {
    r.skipped = "no time";
  } else if (!bytes) {
    r.skipped = "no size";
  } else if (!ranks || !nodes) {
    r.skipped = "the number of ranks or nodes is not stated";
  } else if (*ranks < 2 || *nodes > *ranks) {
    r.skipped = fmt::format("{} ranks on {} nodes", *ranks, *nodes);
  } else if (*ranks % *nodes != 0) {
    r.skipped = fmt::format("{} ranks on {} nodes; the model knows nodes with as many ranks each", *ranks, *nodes);
  } else if (word == words().end()) {
    std::vector<std::string> known;
    for (const auto& w : words()) {
      known.push_back(w.first);
    }
    r.skipped = fmt::format("\"{}\" is no collective; known: {}", kind, fmt::join(known, ", "));
  } else if (environment == nullptr) {
    r.skipped = "topologies/network_environments.json has no system for this table";
  } else {
    predict(*environment, word->second, version, static_cast<int>(*ranks), static_cast<int>(*nodes), r);
  }
  return r;
}

void CollectiveForecasts::predict(const topologies::NetworkEnvironment& e, const std::string& word,
                                  const std::string& version, int ranks, int nodes, ValidationRow& r) const {
  sim::PriceRequest request;
  request.sendrecv = word == "sendrecv";
  if (!request.sendrecv) {
    request.kind = sim::collective::kind_from_name(word);
  }
  nodes = e.domain > 0 ? (ranks + e.domain - 1) / e.domain : nodes;
  request.group = {ranks, nodes, (ranks + nodes - 1) / nodes};
  const auto& table = nodes == 1 ? e.node : e.fabric;
  const auto found = table.find(word);
  const sim::CollectivePricer pricer(e, topologies::newest_nccl(), chooser(version));
  r.system = e.name;
  r.fitted = found != table.end();
  r.predicted =
      1e6 * pricer.price(request, r.bytes, r.fitted ? found->second : topologies::CollectiveConstants{}).seconds;
}

const topologies::NcclConstants& CollectiveForecasts::chooser(const std::string& version) const {
  const std::string known = topologies::nccl_constants_for(version);
  const auto found = chooser_.find(known);
  return found != chooser_.end() ? found->second
                                 : chooser_.emplace(known, topologies::load_nccl_constants(known)).first->second;
}

}  // namespace foretrain::search
