#include "reports/collective.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/units.h"
#include "reports/table.h"
#include "reports/text.h"

namespace foretrain::reports {
namespace {

using Json = nlohmann::ordered_json;

std::string bandwidth_text(double rate) {
  return rate > 0 ? to_string(Bandwidth{rate}) : "-";
}

std::string heading(const CollectiveReport& r) {
  return fmt::format("{} of {} ranks on {} {}{} of {}, {} to a {}; network {}", r.kind, r.ranks, r.nodes, r.unit,
                     r.nodes == 1 ? "" : "s", r.system, r.per_node, r.unit, r.network_model);
}

double algbw(const CollectiveAt& at) {
  const double seconds = at.chosen().seconds;
  return seconds > 0 ? static_cast<double>(at.bytes) / seconds : 0;
}

Json flows_json(const std::vector<CollectiveFlows>& all) {
  Json result = Json::array();
  for (const CollectiveFlows& f : all) {
    const bool on = f.refusal.empty();
    result.push_back({{"algorithm", f.algorithm},
                      {"pieces", on ? Json(f.pieces) : Json(nullptr)},
                      {"rounds", on ? Json(f.rounds) : Json(nullptr)},
                      {"full_bisection_s", on ? number(f.full_bisection) : Json(nullptr)},
                      {"routed_s", on ? number(f.routed) : Json(nullptr)},
                      {"transfers", on ? Json(f.transfers) : Json(nullptr)},
                      {"flows", on ? Json(f.flows) : Json(nullptr)},
                      {"refusal", on ? Json(nullptr) : Json(f.refusal)}});
  }
  return result;
}

std::string flows_text(const CollectiveReport& r, bool colour) {
  Table t;
  t.title = fmt::format("in lock step on {}", r.fabric.empty() ? "one node" : r.fabric);
  t.columns = {{"algorithm"},
               {"pieces", Align::right},
               {"rounds", Align::right},
               {"full bisection", Align::right},
               {"routed", Align::right},
               {"transfers", Align::right},
               {"flows", Align::right},
               {""}};
  for (const CollectiveFlows& f : r.sizes.front().flows) {
    if (!f.refusal.empty()) {
      t.rows.push_back({{f.algorithm, Tone::dim}, "-", "-", "-", "-", "-", "-", {f.refusal, Tone::dim}});
      continue;
    }
    t.rows.push_back({f.algorithm,
                      std::to_string(f.pieces),
                      count(f.rounds),
                      seconds_text(f.full_bisection),
                      {seconds_text(f.routed), Tone::strong},
                      count(f.transfers),
                      count(f.flows),
                      ""});
  }
  return to_text(t, colour) +
         "full bisection: closed form, links at their own speed; routed: flows on the network as it is.\n"
         "transfers: of the rounds that differ; flows: that stand for them.\n";
}

}  // namespace

const CollectiveWay& CollectiveAt::chosen() const {
  const auto found = std::find_if(ways.begin(), ways.end(), [](const CollectiveWay& w) { return w.chosen; });
  CHECK(found != ways.end(), "no way is chosen for {} bytes", bytes);
  return *found;
}

double bus_factor(const std::string& kind, int ranks) {
  const double n = ranks;
  if (kind == "all_reduce") {
    return 2 * (n - 1) / n;
  }
  return kind == "broadcast" || kind == "reduce" ? 1 : (n - 1) / n;
}

Json to_json(const CollectiveReport& r) {
  Json sizes = Json::array();
  for (const CollectiveAt& at : r.sizes) {
    Json ways = Json::array();
    for (const CollectiveWay& w : at.ways) {
      const bool on = w.disabled.empty();
      ways.push_back({{"algorithm", w.algorithm},
                      {"protocol", w.protocol.empty() ? Json(nullptr) : Json(w.protocol)},
                      {"latency_s", on && !w.protocol.empty() ? number(w.latency) : Json(nullptr)},
                      {"algbw_bytes_per_s", on ? number(w.algbw) : Json(nullptr)},
                      {"table_s", on && !w.protocol.empty() ? number(w.table_seconds) : Json(nullptr)},
                      {"time_s", on ? number(w.seconds) : Json(nullptr)},
                      {"disabled", on ? Json(nullptr) : Json(w.disabled)},
                      {"chosen", w.chosen}});
    }
    const CollectiveWay& best = at.chosen();
    sizes.push_back({{"bytes", at.bytes},
                     {"algorithm", best.algorithm},
                     {"protocol", best.protocol.empty() ? Json(nullptr) : Json(best.protocol)},
                     {"time_s", number(best.seconds)},
                     {"algbw_bytes_per_s", number(algbw(at))},
                     {"busbw_bytes_per_s", number(algbw(at) * bus_factor(r.kind, r.ranks))},
                     {"candidates", std::move(ways)}});
    if (!at.flows.empty()) {
      sizes.back()["lock_step"] = flows_json(at.flows);
    }
  }
  return {{"schema", "foretrain.explain_collective/1"},
          {"kind", r.kind},
          {"system", r.system},
          {"network_model", r.network_model},
          {"ranks", r.ranks},
          {"unit", r.unit},
          {"nodes", r.nodes},
          {"per_node", r.per_node},
          {"sizes", std::move(sizes)}};
}

std::string to_text(const CollectiveReport& r, bool colour) {
  const CollectiveAt& at = r.sizes.front();
  Table t;
  t.title = heading(r) + fmt::format(", {} bytes", count(at.bytes));
  t.columns = {
      {"algorithm"},          {"protocol"}, {"latency", Align::right}, {"algbw", Align::right}, {"table", Align::right},
      {"time", Align::right}, {""}};
  for (const CollectiveWay& w : at.ways) {
    const Tone tone = w.chosen ? Tone::strong : w.disabled.empty() ? Tone::plain : Tone::dim;
    if (!w.disabled.empty()) {
      t.rows.push_back({{w.algorithm, tone}, "-", "-", "-", "-", "-", {w.disabled, tone}});
      continue;
    }
    const bool library = !w.protocol.empty();
    t.rows.push_back({{w.algorithm, tone},
                      library ? w.protocol : "-",
                      library ? seconds_text(w.latency) : "-",
                      bandwidth_text(w.algbw),
                      library ? seconds_text(w.table_seconds) : "-",
                      {seconds_text(w.seconds), tone},
                      {w.chosen  ? "chosen"
                       : library ? ""
                                 : "not the library's; by --collective",
                       tone}});
  }
  return to_text(t, colour) +
         "table: the time that NCCL's own table gives, which chooses; time: as forecast, of the\n"
         "chosen one as a whole, from its least latency to its highest algbw, of the others held to their protocol.\n"
         "Without a protocol: closed form in lock step, algbw at this size.\n" +
         (at.flows.empty() ? "" : "\n" + flows_text(r, colour));
}

std::string to_sweep_text(const CollectiveReport& r, bool colour) {
  Table t;
  t.title = heading(r);
  t.columns = {{"size (B)", Align::right},
               {"time (us)", Align::right},
               {"algbw (GB/s)", Align::right},
               {"busbw (GB/s)", Align::right},
               {"algorithm"},
               {"protocol"}};
  for (const CollectiveAt& at : r.sizes) {
    const double rate = algbw(at) / 1e9;
    t.rows.push_back({std::to_string(at.bytes), fmt::format("{:.2f}", at.chosen().seconds * 1e6),
                      fmt::format("{:.2f}", rate), fmt::format("{:.2f}", rate * bus_factor(r.kind, r.ranks)),
                      at.chosen().algorithm, at.chosen().protocol.empty() ? "-" : at.chosen().protocol});
  }
  return to_text(t, colour);
}

}  // namespace foretrain::reports
