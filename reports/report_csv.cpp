#include <fmt/format.h>

#include <cmath>

#include "plan/memory.h"
#include "reports/figures.h"
#include "reports/report.h"
#include "reports/report_tables.h"

namespace foretrain::reports {

namespace {

// Enough digits to read the very number back; nothing for one that is none.
std::string exact(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "";
}

struct Rows {
  Table table{"", {{"section"}, {"item"}, {"figure"}, {"value"}, {"unit"}}, {}};

  void add(const std::string& section, const std::string& item, const std::string& figure, double value,
           const std::string& unit) {
    table.rows.push_back({section, item, figure, exact(value), unit});
  }
};

void add_estimate(const Report& r, Rows& rows) {
  const Estimate& e = r.estimate;
  const workloads::Workload& w = e.job->workload;
  const double step = seconds(e.step_time);
  const Efficiency eff = efficiency(*e.job, *e.graph, step);
  const auto add = [&](const char* figure, double value, const std::string& unit) {
    rows.add("summary", "job", figure, value, unit);
  };
  add("step_time", step, "s");
  add("step_time_low", e.error_band.low_seconds, "s");
  add("step_time_high", e.error_band.high_seconds, "s");
  add("throughput", static_cast<double>(w.global_batch * w.tokens_per_sequence()) / step,
      std::string(w.model.counted_in()) + "/s");
  add("devices", static_cast<double>(eff.devices), "");
  add("mfu", eff.mfu, "");
  add("hfu", eff.hfu, "");
  add("fits", e.fit.fits() ? 1 : 0, "");
  add("memory", static_cast<double>((e.fit.shared ? e.fit.demand : e.fit.device().device_visible()).value), "B");
  add("capacity", static_cast<double>(e.fit.capacity.value), "B");
  for (const auto& [name, time] : breakdown_parts(mean_over_ranks(*e.graph, e.by_role))) {
    rows.add("breakdown", "mean", name, seconds(time), "s");
  }
  for (std::size_t i = 0; i < e.by_role.size(); ++i) {
    for (const auto& [name, time] : breakdown_parts(e.by_role[i])) {
      rows.add("breakdown", e.graph->roles[i].name, name, seconds(time), "s");
    }
  }
}

void add_stages(const Report& r, Rows& rows) {
  const Estimate& e = r.estimate;
  for (const Lane* lane : compute_lanes(r.pipeline)) {
    rows.add("pipeline", lane_name(r, *lane), "first_start", seconds(lane->bars.front().start - r.pipeline.start), "s");
    rows.add("pipeline", lane_name(r, *lane), "last_end", seconds(lane->bars.back().end - r.pipeline.start), "s");
    rows.add("pipeline", lane_name(r, *lane), "at_work", seconds(busy(*lane)), "s");
  }
  for (std::size_t i = 0; i < e.graph->roles.size(); ++i) {
    const plan::Role& role = e.graph->roles[i];
    rows.add("memory", role.name, "planned_peak", static_cast<double>(role.memory.arena.value), "B");
    for (int k = 0; k < plan::kBufferKinds; ++k) {
      rows.add("memory", role.name, std::string(plan::name(static_cast<plan::BufferKind>(k))),
               static_cast<double>(role.memory.by_kind[k].value), "B");
    }
    rows.add("memory", role.name, "device_visible", static_cast<double>(e.fit.roles[i].device_visible().value), "B");
  }
}

void add_search(const SearchFigures& s, Rows& rows) {
  for (const auto& [section, plans] : {std::pair{"plans", &s.plans}, {"runners_up", &s.runners_up}}) {
    for (const PlanFigures& p : *plans) {
      rows.add(section, p.strategy, "step_time", p.step_seconds, "s");
      rows.add(section, p.strategy, "tokens_per_s", p.tokens_per_second, "tokens/s");
      rows.add(section, p.strategy, "memory", p.memory_bytes, "B");
      if (p.money) {
        rows.add(section, p.strategy, "money", *p.money, "");
      }
    }
  }
  for (const GridCell& c : s.grid) {
    const std::string item = fmt::format("tp {} pp {}", c.tp, c.pp);
    if (c.step_seconds) {
      rows.add("grid", item, "step_time", *c.step_seconds, "s");
    } else if (c.at_least_seconds) {
      rows.add("grid", item, "at_least", *c.at_least_seconds, "s");
    }
  }
  for (const ScalingPoint& p : s.scaling) {
    const std::string item = fmt::format("{} nodes", p.nodes);
    const auto add = [&](const char* figure, std::optional<double> value, const char* unit) {
      if (value) {
        rows.add("scaling", item, figure, *value, unit);
      }
    };
    add("step_time", p.step_seconds, "s");
    add("tokens_per_s", p.tokens_per_second, "tokens/s");
    add("efficiency", p.efficiency, "");
    add("duration", p.days ? std::optional(*p.days * 86400) : std::nullopt, "s");
    add("device_hours", p.device_hours, "h");
    add("money", p.money, "");
  }
  for (const auto& [reason, n] : s.rejected) {
    rows.add("rejected", reason, "plans", static_cast<double>(n), "");
  }
}

}  // namespace

std::string to_csv(const Report& r) {
  Rows rows;
  add_estimate(r, rows);
  add_stages(r, rows);
  if (r.network) {
    for (const LinkClassUse& c : r.network->classes) {
      rows.add("network", c.name, "links", static_cast<double>(c.links), "");
      rows.add("network", c.name, "bandwidth", c.capacity.value, "B/s");
      rows.add("network", c.name, "busiest", c.busiest, "");
      rows.add("network", c.name, "mean", c.mean, "");
    }
  }
  for (const ResourceGain& g : r.resources) {
    rows.add("resources", g.name, "factor", g.factor, "");
    rows.add("resources", g.name, "step_time", seconds(g.step_time), "s");
    rows.add("resources", g.name, "gain", g.gain, "");
  }
  if (r.search) {
    add_search(*r.search, rows);
  }
  if (r.comparison) {
    for (const ComparedTime& k : r.comparison->by_kind) {
      rows.add("comparison", k.name, "forecast", k.predicted_seconds, "s");
      rows.add("comparison", k.name, "measured", k.measured_seconds, "s");
    }
  }
  return to_csv(rows.table);
}

}  // namespace foretrain::reports
