#include "reports/report_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plan/memory.h"
#include "reports/figures.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

constexpr std::size_t kLargestShown = 8;

const plan::Role& role_of(const Report& r, const Lane& lane) {
  return r.estimate.graph->roles[static_cast<std::size_t>(lane.role)];
}

std::string spaced(std::string text) {
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

}  // namespace

std::vector<const Lane*> compute_lanes(const Pipeline& p) {
  std::vector<const Lane*> lanes;
  for (const Lane& lane : p.lanes) {
    if (lane.stream == plan::kCompute) {
      lanes.push_back(&lane);
    }
  }
  return lanes;
}

std::string lane_name(const Report& r, const Lane& lane) {
  const std::vector<const Lane*> lanes = compute_lanes(r.pipeline);
  const bool alone =
      std::count_if(lanes.begin(), lanes.end(), [&](const Lane* l) { return l->role == lane.role; }) == 1;
  return alone ? role_of(r, lane).name : fmt::format("{}, rank {}", role_of(r, lane).name, lane.rank);
}

Time busy(const Lane& lane) {
  Time sum;
  for (const Bar& bar : lane.bars) {
    sum += bar.busy;
  }
  return sum;
}

Table figures_table(const Report& r) {
  const Estimate& e = r.estimate;
  const workloads::Workload& w = e.job->workload;
  const double step = seconds(e.step_time);
  const Efficiency eff = efficiency(*e.job, *e.graph, step);
  const double tokens = static_cast<double>(w.global_batch * w.tokens_per_sequence()) / step;
  const bool known = std::isfinite(e.error_band.low_seconds) && std::isfinite(e.error_band.high_seconds);
  const Bytes used = e.fit.shared ? e.fit.demand : e.fit.device().device_visible();
  Table t;
  t.title = "Summary";
  t.columns = {{"figure"}, {"value"}, {"basis"}};
  t.rows = {
      {"step time", to_string(e.step_time), fmt::format("{}, {}", e.compute_model, e.network_model)},
      {"error band",
       known ? fmt::format("{} to {}", seconds_text(e.error_band.low_seconds), seconds_text(e.error_band.high_seconds))
             : "unknown",
       e.error_band.basis},
      {"throughput", fmt::format("{} {}/s", compact(tokens), w.model.counted_in()),
       fmt::format("{} per device", compact(tokens / static_cast<double>(eff.devices)))},
      {"MFU", percent(eff.mfu),
       fmt::format("{} devices x {}, the dense {} peak; HFU {}", count(eff.devices),
                   std::isfinite(eff.peak_flops) ? to_string(FlopRate{eff.peak_flops}) : "-", name(w.precision.compute),
                   percent(eff.hfu))},
      {"memory", to_string(used),
       fmt::format("of {}, {}: {}", to_string(e.fit.capacity),
                   e.fit.shared ? "all ranks together" : e.graph->roles[e.fit.fullest].name,
                   e.fit.fits() ? "fits" : "does not fit")}};
  return t;
}

Table breakdown_table(const Report& r) {
  const plan::Breakdown mean = mean_over_ranks(*r.estimate.graph, r.estimate.by_role);
  Table t;
  t.title = "Where the step goes, mean over ranks";
  t.columns = {{"part"}, {"time", Align::right}, {"of the step", Align::right}};
  for (const auto& [name, time] : breakdown_parts(mean)) {
    if (time.value != 0) {
      t.rows.push_back({name, to_string(time), percent(seconds(time) / seconds(mean.total()))});
    }
  }
  return t;
}

Table pipeline_table(const Report& r) {
  Table t;
  t.title = "Each stage's compute stream in the step";
  t.columns = {{"stage"},
               {"ranks", Align::right},
               {"first start", Align::right},
               {"last end", Align::right},
               {"at work", Align::right},
               {"of the step", Align::right}};
  const double step = seconds(r.pipeline.end - r.pipeline.start);
  for (const Lane* lane : compute_lanes(r.pipeline)) {
    t.rows.push_back({lane_name(r, *lane), count(lane->ranks), to_string(lane->bars.front().start - r.pipeline.start),
                      to_string(lane->bars.back().end - r.pipeline.start), to_string(busy(*lane)),
                      percent(seconds(busy(*lane)) / step)});
  }
  return t;
}

Table memory_table(const Report& r) {
  const Estimate& e = r.estimate;
  Table t;
  t.title = "Memory of one rank, by stage";
  t.columns = {{"stage"}, {"ranks", Align::right}, {"layers", Align::right}, {"peak", Align::right}};
  for (int k = 0; k < plan::kBufferKinds; ++k) {
    t.columns.push_back({spaced(std::string(plan::name(static_cast<plan::BufferKind>(k)))), Align::right});
  }
  t.columns.push_back({"on the device", Align::right});
  for (std::size_t i = 0; i < e.graph->roles.size(); ++i) {
    const plan::Role& role = e.graph->roles[i];
    std::vector<Cell> row{role.name, count(plan::count(e.graph->mesh, role.ranks)),
                          count(static_cast<std::int64_t>(role.global_layer.size())), to_string(role.memory.arena)};
    for (const Bytes bytes : role.memory.by_kind) {
      row.emplace_back(bytes.value == 0 ? "-" : to_string(bytes));
    }
    row.emplace_back(to_string(e.fit.roles[i].device_visible()));
    t.rows.push_back(std::move(row));
  }
  return t;
}

Table largest_table(const Report& r) {
  const plan::Role& role = r.estimate.graph->roles[hungriest_role(*r.estimate.graph)];
  Table t;
  t.title = fmt::format("Largest tensors of {}, all copies", role.name);
  t.columns = {{"tensor"}, {"kind"}, {"bytes", Align::right}};
  for (const plan::LargeBuffer& b : plan::largest_buffers(role, kLargestShown)) {
    if (b.bytes.value > 0) {
      t.rows.push_back({b.name, spaced(std::string(plan::name(b.kind))), to_string(b.bytes)});
    }
  }
  return t;
}

Table network_table(const NetworkUse& n) {
  Table t;
  t.title = "How busy the network's links are" + (n.shape.empty() ? "" : " (" + n.shape + ")");
  t.columns = {{"class"},
               {"links", Align::right},
               {"idle", Align::right},
               {"bandwidth", Align::right},
               {"busiest", Align::right},
               {"mean", Align::right}};
  for (const LinkClassUse& c : n.classes) {
    t.rows.push_back(
        {c.name, count(c.links), count(c.idle), to_string(c.capacity), percent(c.busiest), percent(c.mean)});
  }
  return t;
}

Table comparison_table(const Comparison& c) {
  Table t;
  t.title = fmt::format("Forecast against reality: step time {}, measured {}: {}", seconds_text(c.predicted_step),
                        seconds_text(c.measured_step), signed_percent(c.error()));
  t.columns = {{"kind of op"}, {"forecast", Align::right}, {"measured", Align::right}, {"error", Align::right}};
  for (const ComparedTime& k : c.by_kind) {
    t.rows.push_back({spaced(k.name), seconds_text(k.predicted_seconds), seconds_text(k.measured_seconds),
                      signed_percent(k.error())});
  }
  return t;
}

std::string to_markdown(const Report& r) {
  std::vector<Table> tables{figures_table(r), breakdown_table(r), pipeline_table(r), memory_table(r), largest_table(r)};
  if (r.network) {
    tables.push_back(network_table(*r.network));
  }
  if (!r.resources.empty()) {
    tables.push_back(resources_table(r.resources));
  }
  if (r.search) {
    for (Table& t : search_tables(*r.search)) {
      tables.push_back(std::move(t));
    }
  }
  if (r.comparison) {
    tables.push_back(comparison_table(*r.comparison));
  }
  std::string out = "# " + headline(*r.estimate.job) + "\n";
  for (Table& t : tables) {
    out += "\n## " + t.title + "\n\n";
    t.title.clear();
    out += to_markdown(t);
  }
  for (const std::string& note : r.estimate.notes) {
    out += "\n" + note + "\n";
  }
  if (!r.no_resources.empty()) {
    out += "\n" + r.no_resources + "\n";
  }
  return out;
}

}  // namespace foretrain::reports
