#include "search/run_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "search/whole_run.h"

namespace foretrain::search {

namespace {

using reports::ValidationRow;
constexpr double kDay = 86400, kHour = 3600;
constexpr double kBytesPerParameter = 14;  // state_bytes of Adam in mixed precision
constexpr double kGpusPerNode = 8;
constexpr double kUnknownStep = 10;  // seconds; only how finely checkpoints can be placed depends on it

// A number, or a text with one in it: ">90%", "35+", "over 100" are lower bounds.
struct Figure {
  double value = 0;
  bool at_least = false;
};
std::optional<Figure> figure(const std::string& word) {
  const std::size_t digits = word.find_first_of("0123456789");
  if (digits == std::string::npos) {
    return std::nullopt;
  }
  Figure f;
  const auto [rest, error] = std::from_chars(word.data() + digits, word.data() + word.size(), f.value);
  const std::string_view behind(rest, static_cast<std::size_t>(word.data() + word.size() - rest));
  f.at_least = digits > 0 || behind.find('+') != std::string_view::npos;
  f.value /= behind.find('%') != std::string_view::npos ? 100 : 1;
  return error == std::errc{} ? std::optional(f) : std::nullopt;
}

struct PublishedRun {
  std::int64_t gpus = 0;
  double seconds = 0;
  RunFacts facts;
  RunWishes wishes;
};

// Of `seconds` that pass in the mean.
reports::WholeRun forecast(PublishedRun run, const topologies::Operations& operations) {
  const auto steps_in = [&](double time) {
    return std::max<std::int64_t>(1, std::llround(time / run.facts.step_seconds));
  };
  RunWishes first = run.wishes;
  first.steps = steps_in(run.seconds);
  first.runs = 1;  // its expectation is what counts
  const double longer = whole_run(run.facts, operations, first).elapsed_seconds.expected / run.seconds;
  run.wishes.steps = steps_in(run.seconds / longer);
  return whole_run(run.facts, operations, run.wishes);
}

double share_of(const topologies::Operations& operations, const std::string& kinds) {
  double share = 0;
  for (const topologies::FailureCause& c : operations.causes) {
    const bool is_hardware = c.kind == "gpu" || c.kind == "host" || c.kind == "network";
    share += kinds.empty() || kinds == c.kind || (kinds == "hardware" && is_hardware) ? c.share : 0;
  }
  return share;
}

ValidationRow row_of(const ValidationRow& common, const char* what, const char* unit, const Figure& published,
                     const reports::Spread& s, double share) {
  ValidationRow r = common;
  r.id += fmt::format("/{}", what);
  r.what = what;
  r.unit = unit;
  r.measured = published.value;
  r.at_least = published.at_least;
  r.predicted = s.p50 * share;
  r.low = s.p5 * share;
  r.high = s.p95 * share;
  return r;
}

}  // namespace

bool is_run_row(const nlohmann::json& object) {
  const auto group = object.find("group");
  const std::string name = group != object.end() && group->is_string() ? group->get<std::string>() : "";
  return object.contains("run") || name == "step_time_distribution" || name == "variability";
}

std::vector<ValidationRow> forecast_run(const RowReader& reader, const topologies::Operations& catalogue) {
  ValidationRow common;
  common.kind = reports::RowKind::whole_run;
  common.id = reader.text("id", true);
  common.group = reader.text("group", true);
  const auto skipped = [&common](const std::string& why) {
    ValidationRow r = common;
    r.skipped = why;
    return std::vector<ValidationRow>{r};
  };
  if (!reader.has("run")) {
    return skipped("not a run: what happens in one, an input of the forecast (topologies/operations.json)");
  }
  const RowReader run = reader.object("run"), checkpoint = reader.object("checkpoint"),
                  recovery = reader.object("recovery"), failures = reader.object("failures"),
                  goodput = reader.object("goodput");
  common.system = run.text("gpu");
  const std::optional<Figure> failed = figure(failures.word("unexpected")),
                              trained = figure(goodput.word("effective_training_time"));
  if (!failed && !trained) {
    return skipped("neither failures nor effective training time are published as a number");
  }
  const std::optional<Figure> gpus = figure(run.word("gpus"));
  const std::optional<double> days = run.number("duration_days"), parameters = run.number("parameters_b");
  const std::optional<Figure> named = figure(run.text("model").substr(run.text("model").find_last_of(" -") + 1));
  const double billions = parameters.value_or(named ? named->value : 0);
  if (!gpus || gpus->at_least || gpus->value < 1 || gpus->value > 1e7 || !days || *days <= 0 || *days > 1e4) {
    return skipped("on how many GPUs, or how long, is not published as a number");
  }
  common.ranks = std::llround(gpus->value);

  PublishedRun published;
  published.seconds = *days * kDay;
  RunFacts& facts = published.facts;
  facts.devices = common.ranks;
  facts.step_seconds = checkpoint.number("iteration_seconds").value_or(kUnknownStep);
  const double nodes = std::ceil(gpus->value / kGpusPerNode);
  const std::optional<double> storage = checkpoint.number("storage_gb_s"), save = checkpoint.number("save_seconds");
  const double bytes_per_second = storage ? *storage * 1e9 : nodes * catalogue.storage_per_node.value;
  facts.write_seconds = save.value_or(billions * 1e9 * kBytesPerParameter / bytes_per_second);
  if (!(facts.write_seconds > 0) || !(facts.step_seconds > 0)) {
    return skipped("neither the checkpoint's time nor the model's size is published as a number");
  }
  if (const auto interval = checkpoint.integer("interval_iterations", 1)) {
    published.wishes.checkpoint_steps = *interval;
  }

  topologies::Operations operations = catalogue;
  std::erase_if(operations.sites, [&](const auto& site) { return common.id.find(site.name) != std::string::npos; });
  const std::optional<double> least = recovery.number("least_hours"), most = recovery.number("most_hours");
  if (least && most && *least <= *most) {
    operations.detect = {0, 0};
    operations.resume = {*least * kHour, *most * kHour};
  }
  for (const topologies::Site& site : operations.sites) {
    common.notes.push_back("fails as " + site.name);
  }
  const reports::WholeRun forecasted = forecast(published, operations);
  std::vector<ValidationRow> rows;
  if (failed) {
    rows.push_back(row_of(common, "failures", "failures", *failed, forecasted.failures,
                          share_of(operations, failures.text("only"))));
  }
  if (trained) {
    const bool counts_slow_steps = goodput.boolean("counts_slow_steps").value_or(false);
    rows.push_back(row_of(common, "goodput", "of the time", *trained,
                          counts_slow_steps ? forecasted.training : forecasted.goodput, 1));
  }
  return rows;
}

}  // namespace foretrain::search
