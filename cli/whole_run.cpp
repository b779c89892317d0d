#include "cli/whole_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "reports/figures.h"

namespace foretrain::cli {

namespace {

constexpr double kMostTokens = 1e16;
constexpr std::int64_t kMostSteps = 1'000'000'000'000;
constexpr double kLowestPrice = 1e-3, kHighestPrice = 1e6;
constexpr double kHighestPue = 10;

// What fails in `action` is told with its place before it.
template <class Action>
auto at(const std::string& place, Action action) {
  try {
    return action();
  } catch (const InputError& e) {
    throw InputError(fmt::format("{}: {}", place, e.what()));
  }
}

// A time above 0 s.
double parse_seconds(const std::string& place, const std::string& text) {
  const double s = at(place, [&] { return seconds(parse_time(text)); });
  if (!(s > 0)) {
    throw InputError(fmt::format("{}: \"{}\" is not allowed; expected a time above 0: \"10 min\"", place, text));
  }
  return s;
}

void check_range(const std::string& place, const std::optional<double>& value, double low, double high) {
  if (value && !(*value >= low && *value <= high)) {
    throw InputError(
        fmt::format("{}: {:g} is not allowed; expected a number from {:g} to {:.0f}", place, *value, low, high));
  }
}

}  // namespace

double parse_tokens(const std::string& place, const std::string& text) {
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string suffix(rest, text.data() + text.size());
  const double scale = suffix.empty()                   ? 1
                       : suffix == "k" || suffix == "K" ? 1e3
                       : suffix == "M"                  ? 1e6
                       : suffix == "B" || suffix == "G" ? 1e9
                       : suffix == "T"                  ? 1e12
                                                        : NAN;
  const double tokens = number * scale;
  if (error != std::errc{} || !(tokens >= 1 && tokens <= kMostTokens)) {
    throw InputError(
        fmt::format("{}: \"{}\" is not allowed; expected a number from 1 to 10000T, with k, M, B or T behind it: 15T",
                    place, text));
  }
  return tokens;
}

void check_price(const std::string& place, const std::optional<double>& price) {
  check_range(place, price, kLowestPrice, kHighestPrice);
}

void WholeRunArguments::add_to(Options& options) {
  options.text("tokens", "N", &tokens_,
               "forecasts the whole run over so many tokens, as 15T: days, device-hours, energy, failures; or:");
  options.integer("steps", &steps_, 1, kMostSteps, "... over so many steps");
  options.number("price", &price_, 0, "... money: of a device for an hour, in any currency");
  options.text("checkpoint-every", "TIME", &checkpoint_every_,
               "... with checkpoints so far apart, \"20 min\" or 500 (steps) [the best found]");
  options.text("checkpoint-write", "TIME", &checkpoint_write_,
               "... each of which stops training for so long [state over the storage's bandwidth]");
  options.text("restart", "TIME", &restart_, "... from a failure to training again, but for reading the checkpoint");
  options.text("mtbf", "TIME", &mtbf_, "... with a failure of the job so often, whatever the cause");
  options.text("failures", "CLASS=RATE", &failures_,
               "... with failures per device and hour, as gpu=2e-5,network=1e-6; also of one component");
  options.text("site", "NAME", &site_, "... as often as that site of the file counted [one drawn for each run]");
  options.text("operations", "FILE", &operations_, "... with a site's own figures, as in topologies/operations.json");
  options.number("pue", &pue_, 1, "... power of the building over that of its nodes [1.1]");
  options.integer("runs", &runs_, 100, 1'000'000, "... so many of them sampled [10000]");
  options.integer("seed", &seed_, 0, INT64_MAX, "... from this seed [1]");
}

void WholeRunArguments::read(const ObjectReader& words) {
  if (!words.present()) {
    return;
  }
  Options options("estimate", "");
  add_to(options);
  options.read(words);
  keys_of_ = words.place("");
  if (words.mistakes().empty()) {
    wanted();
  }
}

std::string WholeRunArguments::name(std::string option) const {
  if (keys_of_.empty()) {
    return "--" + option;
  }
  std::replace(option.begin(), option.end(), '-', '_');
  return option;
}

std::string WholeRunArguments::place(const std::string& option) const {
  return keys_of_.empty() ? name(option)
                          : fmt::format("{}{}{}", keys_of_, keys_of_.ends_with('/') ? "" : "/", name(option));
}

bool WholeRunArguments::wanted() const {
  if (!tokens_.empty() && steps_ > 0) {
    throw InputError(fmt::format("{}: excludes {}: each says how long the run is", place("tokens"), name("steps")));
  }
  const bool is_wanted = !tokens_.empty() || steps_ > 0;
  for (const auto& [option, given] : {std::pair{"price", price_.has_value()},
                                      {"checkpoint-every", !checkpoint_every_.empty()},
                                      {"checkpoint-write", !checkpoint_write_.empty()},
                                      {"restart", !restart_.empty()},
                                      {"mtbf", !mtbf_.empty()},
                                      {"failures", !failures_.empty()},
                                      {"site", !site_.empty()},
                                      {"operations", !operations_.empty()},
                                      {"pue", pue_.has_value()},
                                      {"runs", runs_ > 0},
                                      {"seed", seed_ >= 0}}) {
    if (given && !is_wanted) {
      throw InputError(fmt::format("{}: needs {} or {}, which say how long the run is", place(option), name("tokens"),
                                   name("steps")));
    }
  }
  if (!mtbf_.empty() && (!failures_.empty() || !site_.empty())) {
    throw InputError(fmt::format("{}: excludes {}: each says how often the job fails", place("mtbf"),
                                 name(failures_.empty() ? "site" : "failures")));
  }
  check_price(place("price"), price_);
  check_range(place("pue"), pue_, 1, kHighestPue);
  wishes();
  return is_wanted;
}

search::RunWishes WholeRunArguments::wishes() const {
  search::RunWishes w;
  w.tokens = tokens_.empty() ? 0 : parse_tokens(place("tokens"), tokens_);
  w.steps = steps_;
  w.price = price_;
  w.runs = runs_ > 0 ? runs_ : w.runs;
  w.seed = seed_ >= 0 ? seed_ : w.seed;
  if (!checkpoint_write_.empty()) {
    w.write_seconds = parse_seconds(place("checkpoint-write"), checkpoint_write_);
  }
  if (checkpoint_every_.empty()) {
    return w;
  }
  std::int64_t steps = 0;
  const char* end = checkpoint_every_.data() + checkpoint_every_.size();
  const auto [rest, error] = std::from_chars(checkpoint_every_.data(), end, steps);
  if (error == std::errc{} && rest == end) {
    if (steps < 1) {
      throw InputError(
          fmt::format("{}: {} is not allowed; expected 1 step or more, or a time", place("checkpoint-every"), steps));
    }
    w.checkpoint_steps = steps;
  } else {
    w.checkpoint_seconds = parse_seconds(place("checkpoint-every"), checkpoint_every_);
  }
  return w;
}

topologies::Operations WholeRunArguments::operations() const {
  topologies::Operations o = topologies::load_operations(operations_);
  if (!site_.empty()) {
    at(place("site"), [&] { topologies::set_site(o, site_); });
  }
  if (!restart_.empty()) {
    const double s = parse_seconds(place("restart"), restart_);
    o.detect = {0, 0};
    o.resume = {s, s};
  }
  if (!failures_.empty()) {
    at(place("failures"), [&] { topologies::set_failure_rates(o, failures_); });
  }
  o.pue = pue_.value_or(o.pue);
  return o;
}

reports::WholeRun WholeRunArguments::forecast(const plan::Job& job, const reports::Estimate& estimate) const {
  const double step = seconds(estimate.step_time);
  const std::int64_t devices = reports::efficiency(job, *estimate.graph, step).devices;
  topologies::Operations o = operations();
  if (!mtbf_.empty()) {
    topologies::set_mtbf(o, parse_seconds(place("mtbf"), mtbf_), devices);
  }
  search::RunFacts facts = search::run_facts(job, estimate.step_time,
                                             reports::mean_over_ranks(*estimate.graph, estimate.by_role), devices, o);
  facts.band_low = estimate.error_band.low_seconds / step;
  facts.band_high = estimate.error_band.high_seconds / step;
  return search::whole_run(facts, o, wishes());
}

}  // namespace foretrain::cli
