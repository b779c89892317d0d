#include "reports/whole_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "reports/table.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using Json = nlohmann::ordered_json;
constexpr double kMinute = 60, kHour = 3600, kDay = 86400;
constexpr int kBarWidth = 40;
constexpr std::size_t kComponentsShown = 8;

struct Part {
  const char *name, *title;
  double RunShares::*seconds;
};
constexpr std::array<Part, 5> kParts{{{"useful", "useful", &RunShares::useful},
                                      {"checkpoint", "writing checkpoints", &RunShares::checkpoint},
                                      {"lost_work", "lost work", &RunShares::lost},
                                      {"restart", "restarts", &RunShares::restart},
                                      {"stragglers", "stragglers, jitter", &RunShares::stragglers}}};

Json spread_json(const Spread& s, double unit = 1) {
  return {{"mean", number(s.mean / unit)},
          {"p5", number(s.p5 / unit)},
          {"p50", number(s.p50 / unit)},
          {"p95", number(s.p95 / unit)},
          {"expected", number(s.expected / unit)}};
}

Json checkpoint_json(const CheckpointPlan& c) {
  return {{"state_bytes", c.state.value},
          {"write_s", number(c.write_seconds)},
          {"write_basis", c.write_source},
          {"interval_steps", c.interval_steps},
          {"interval_s", number(c.interval_seconds)},
          {"interval_is", c.is_given ? "given" : "best"},
          {"best_interval_steps", c.best_steps},
          {"best_interval_s", number(c.best_seconds)},
          {"young_s", number(c.young_seconds)},
          {"daly_s", number(c.daly_seconds)}};
}

Json shares_json(const RunShares& s, double over) {
  Json out = Json::object();
  for (const Part& part : kParts) {
    out[part.name] = number(s.*part.seconds / over);
  }
  return out;
}

// What samples and closed form differ by, over the latter.
double difference(const Spread& s) {
  return s.mean / s.expected - 1;
}

Table main_table(const WholeRun& r) {
  Table t;
  t.title = fmt::format("Whole run: {} {}, {} steps of {} on {} devices", compact(r.tokens), r.counted_in,
                        count(r.steps), duration(r.step_seconds), count(r.devices));
  t.columns = {{""}, {"expected", Align::right}, {"5 %", Align::right}, {"50 %", Align::right}, {"95 %", Align::right},
               {""}};
  const auto add = [&t](const char* name, const Spread& s, const auto& text, const std::string& remark) {
    t.rows.push_back(
        {name, {text(s.expected), Tone::strong}, text(s.p5), text(s.p50), text(s.p95), {remark, Tone::dim}});
  };
  const auto whole = [](double v) {
    return v >= 100 ? count(std::llround(v)) : v >= 0.005 ? fmt::format("{:.3g}", v) : std::string("0");
  };
  add("elapsed", r.elapsed_seconds, duration, duration(r.ideal_seconds) + " if nothing went wrong");
  add("device-hours", r.device_hours, whole, "");
  if (r.price) {
    add("money", r.money, whole, fmt::format("at {:g} for a device-hour", *r.price));
  }
  if (r.device_watts) {
    add(
        "energy", r.energy_kwh, [](double kwh) { return compact(kwh * 1e3) + "Wh"; },
        fmt::format("{} W of a device in training, {} W with its node and building", whole(*r.device_watts),
                    whole(*r.facility_watts)));
  }
  add("failures", r.failures, whole,
      r.mtbf_seconds == r.shortest_mtbf ? fmt::format("one in {}", duration(r.mtbf_seconds))
                                        : fmt::format("one in {}; {} to {} by site", duration(r.mtbf_seconds),
                                                      duration(r.shortest_mtbf), duration(r.longest_mtbf)));
  add("planned stops", r.planned_stops, whole, "");
  add("goodput", r.goodput, percent, "useful time over elapsed");
  add("in training", r.training, percent, "with stragglers and jitter, as some publish it");
  return t;
}

Table shares_table(const WholeRun& r) {
  Table t;
  t.title = "Where the run goes, mean";
  t.columns = {{""}, {"", Align::right}, {"", Align::right}, {""}};
  const double elapsed = r.expected.elapsed();
  for (const Part& part : kParts) {
    const double part_seconds = r.expected.*part.seconds, share = part_seconds / elapsed;
    t.rows.push_back({part.title, duration(part_seconds), percent(share),
                      std::string(static_cast<std::size_t>(std::max(0.0, share * kBarWidth + 0.5)), '#')});
  }
  return t;
}

Table components_table(const WholeRun& r) {
  std::vector<const ComponentFailures*> sorted;
  for (const ComponentFailures& c : r.components) {
    sorted.push_back(&c);
  }
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto* a, const auto* b) { return a->count.expected > b->count.expected; });
  Table t;
  t.title = "Failures by component";
  t.columns = {{"component"}, {"class"}, {"expected", Align::right}, {"5 %", Align::right}, {"95 %", Align::right}};
  double rest = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    const ComponentFailures& c = *sorted[i];
    if (i < kComponentsShown) {
      t.rows.push_back({c.name, c.kind, fmt::format("{:.1f}", c.count.expected), fmt::format("{:.0f}", c.count.p5),
                        fmt::format("{:.0f}", c.count.p95)});
    } else {
      rest += c.count.expected;
    }
  }
  if (sorted.size() > kComponentsShown) {
    t.rows.push_back(
        {{fmt::format("{} others", sorted.size() - kComponentsShown), Tone::dim}, "", fmt::format("{:.1f}", rest)});
  }
  return t;
}

std::string checkpoint_text(const CheckpointPlan& c) {
  const std::string every = fmt::format(
      "checkpoints: every {} ({} steps), {}", duration(c.interval_seconds), count(c.interval_steps),
      c.is_given ? fmt::format("as given; the best is {} ({} steps)", duration(c.best_seconds), count(c.best_steps))
                 : "the best found");
  return fmt::format("{}; Young's formula {}, Daly's {}\n  each stops training for {}: {}\n", every,
                     duration(c.young_seconds), duration(c.daly_seconds), duration(c.write_seconds), c.write_source);
}

}  // namespace

RunShares& RunShares::operator+=(const RunShares& o) {
  for (const Part& part : kParts) {
    this->*part.seconds += o.*part.seconds;
  }
  return *this;
}

RunShares RunShares::scaled(double factor) const {
  RunShares s = *this;
  for (const Part& part : kParts) {
    s.*part.seconds *= factor;
  }
  return s;
}

std::string duration(double seconds) {
  constexpr std::array<std::pair<double, const char*>, 4> kUnits{
      {{kDay, "days"}, {kHour, "h"}, {kMinute, "min"}, {1, "s"}}};
  if (!std::isfinite(seconds)) {
    return "-";
  }
  for (const auto& [unit, name] : kUnits) {
    if (std::abs(seconds) >= 2 * unit) {
      const double value = seconds / unit;
      return value < 9999.5 ? fmt::format("{:.1f} {}", value, name) : count(std::llround(value)) + " " + name;
    }
  }
  return seconds_text(seconds);
}

Json to_json(const WholeRun& r) {
  Json components = Json::array();
  for (const ComponentFailures& c : r.components) {
    components.push_back({{"component", c.name}, {"class", c.kind}, {"count", spread_json(c.count)}});
  }
  Json out{{"tokens", number(r.tokens)},
           {"steps", r.steps},
           {"tokens_per_step", number(r.tokens_per_step)},
           {"devices", r.devices},
           {"ideal_days", number(r.ideal_seconds / kDay)},
           {"days", spread_json(r.elapsed_seconds, kDay)},
           {"days_band",
            {{"low", number(r.elapsed_seconds.expected * r.band_low / kDay)},
             {"high", number(r.elapsed_seconds.expected * r.band_high / kDay)}}},
           {"device_hours", spread_json(r.device_hours)},
           {"price_per_device_hour", r.price ? number(*r.price) : Json(nullptr)},
           {"money", r.price ? spread_json(r.money) : Json(nullptr)}};
  out["energy_kwh"] = r.device_watts ? spread_json(r.energy_kwh) : Json(nullptr);
  out["energy_basis"] = {{"device_w", r.device_watts ? number(*r.device_watts) : Json(nullptr)},
                         {"facility_w_per_device", r.facility_watts ? number(*r.facility_watts) : Json(nullptr)},
                         {"share_of_devices", r.device_watts ? number(r.device_share_of_energy) : Json(nullptr)}};
  out["failures"] = {{"unexpected", spread_json(r.failures)},    {"planned", spread_json(r.planned_stops)},
                     {"mtbf_s", number(r.mtbf_seconds)},         {"shortest_mtbf_s", number(r.shortest_mtbf)},
                     {"longest_mtbf_s", number(r.longest_mtbf)}, {"sites", r.sites},
                     {"by_component", std::move(components)}};
  out["restart_s"] = number(r.restart_seconds);
  out["checkpoint"] = checkpoint_json(r.checkpoint);
  out["goodput"] = spread_json(r.goodput);
  out["in_training"] = spread_json(r.training);
  out["split"] = shares_json(r.mean, r.mean.elapsed());
  out["split_expected"] = shares_json(r.expected, r.expected.elapsed());
  out["monte_carlo"] = {
      {"runs", r.runs}, {"seed", r.seed}, {"mean_over_expected_days", number(1 + difference(r.elapsed_seconds))}};
  out["sources"] = r.sources;
  return out;
}

std::string to_text(const WholeRun& r, bool colour) {
  std::string out = to_text(main_table(r), colour);
  if (std::isfinite(r.band_low) && std::isfinite(r.band_high)) {
    out += fmt::format("expected at the ends of the step's error band: {} and {}\n",
                       duration(r.elapsed_seconds.expected * r.band_low),
                       duration(r.elapsed_seconds.expected * r.band_high));
  }
  out += "\n" + to_text(shares_table(r), colour) + "\n" + checkpoint_text(r.checkpoint);
  out += fmt::format("restarts: {} in the mean, reading the checkpoint among it\n\n", duration(r.restart_seconds));
  out += to_text(components_table(r), colour);
  out +=
      fmt::format("{} runs sampled, seed {}; their mean is {} off the closed form's {}\n", count(r.runs), r.seed,
                  fmt::format("{:+.2f} %", 100 * difference(r.elapsed_seconds)), duration(r.elapsed_seconds.expected));
  return out;
}

}  // namespace foretrain::reports
