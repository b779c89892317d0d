#include "search/whole_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "search/run_expectation.h"
#include "search/run_samples.h"

namespace foretrain::search {

namespace {

using reports::Spread;
constexpr double kHour = 3600, kYear = 365.25 * 24 * kHour;
constexpr double kLongestYears = 1000;
constexpr double kMostFailures = 100;  // in a segment, or a restart
// Failures, stops and spells of all sampled runs: a few seconds; but for the fewest runs, of the longest.
constexpr double kMostEvents = 5e7, kFewestRuns = 100, kMostEventsEach = 1e6;
constexpr double kJoulesPerKwh = 3.6e6;

// By nearest rank.
template <class Figure>
Spread spread(const std::vector<SampledRun>& runs, double expected, Figure figure) {
  std::vector<double> values;
  values.reserve(runs.size());
  double sum = 0;
  for (const SampledRun& run : runs) {
    values.push_back(figure(run));
    sum += values.back();
  }
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    const double rank = std::ceil(q * static_cast<double>(values.size()));
    return values[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
  };
  return {sum / static_cast<double>(values.size()), at(0.05), at(0.5), at(0.95), expected};
}

Spread scaled(Spread s, double factor) {
  return {s.mean * factor, s.p5 * factor, s.p50 * factor, s.p95 * factor, s.expected * factor};
}

std::int64_t steps_of(const RunFacts& facts, const RunWishes& wishes) {
  const double steps =
      wishes.steps > 0 ? static_cast<double>(wishes.steps) : std::ceil(wishes.tokens / facts.tokens_per_step);
  const double years = steps * facts.step_seconds / kYear;
  if (!(steps >= 1)) {
    throw InputError("a run has one step at least");
  }
  if (years > kLongestYears) {
    throw InputError(fmt::format("{:.3g} steps of {:.3g} s take {:.3g} years; expected a run of at most {:g} years",
                                 steps, facts.step_seconds, years, kLongestYears));
  }
  return static_cast<std::int64_t>(steps);
}

std::int64_t interval_of(const RunFacts& facts, const RunWishes& wishes, std::int64_t steps, std::int64_t best) {
  if (wishes.checkpoint_steps) {
    return std::min(*wishes.checkpoint_steps, steps);
  }
  if (wishes.checkpoint_seconds) {
    const double wanted = std::round(*wishes.checkpoint_seconds / facts.step_seconds);
    return static_cast<std::int64_t>(std::clamp(wanted, 1.0, static_cast<double>(steps)));
  }
  return best;
}

void check_progress(const RunShape& shape, double restart_seconds, double worst_rate, bool is_given) {
  const double work = static_cast<double>(shape.segment_steps) * shape.step_seconds;
  const auto never_ends = [worst_rate](double length) { return std::expm1(length * worst_rate) > kMostFailures; };
  const std::string failures = fmt::format("a failure every {} at the worst", reports::duration(1 / worst_rate));
  if (never_ends(restart_seconds)) {
    throw InfeasibleError(
        fmt::format("the run hardly gets up again: {} for a restart, {}; quicker ones (--restart) or "
                    "fewer failures (--failures, --mtbf)",
                    reports::duration(restart_seconds), failures));
  }
  if (never_ends(work + shape.write_seconds)) {
    throw InfeasibleError(fmt::format(
        "the run hardly gets from one checkpoint to the next: {} of work and {} to write it, {}; {}",
        reports::duration(work), reports::duration(shape.write_seconds), failures,
        is_given ? "checkpoints more often, or fewer failures (--failures, --mtbf)"
                 : "faster storage (cluster.storage.bandwidth, --checkpoint-write) or fewer failures (--failures, "
                   "--mtbf)"));
  }
}

struct Power {
  double training = 0, waiting = 0, node = 0;  // watts of a device; of the rest of its node
};

// By device and second in kilowatt-hours of the facility.
double energy(const reports::RunShares& s, const Power& power, double devices, double pue) {
  const double idle = s.checkpoint + s.restart, training = s.elapsed() - idle;
  return devices * pue * (power.training * training + power.waiting * idle + power.node * s.elapsed()) / kJoulesPerKwh;
}

void add_energy(reports::WholeRun& r, const RunFacts& facts, const topologies::Operations& operations,
                const std::vector<SampledRun>& runs) {
  if (facts.device_watts <= 0) {
    return;
  }
  const double limit = facts.device_watts, devices = static_cast<double>(facts.devices);
  const Power power{limit * (facts.busy_share + operations.waiting_power * (1 - facts.busy_share)),
                    limit * operations.waiting_power, limit * operations.node_power};
  const auto of = [&](const reports::RunShares& s) { return energy(s, power, devices, operations.pue); };
  r.device_watts = power.training;
  r.facility_watts = (power.training + power.node) * operations.pue;
  r.energy_kwh = spread(runs, of(r.expected), [&](const SampledRun& run) { return of(run.shares); });
  const double devices_alone = energy(r.expected, {power.training, power.waiting, 0}, devices, 1);
  r.device_share_of_energy = devices_alone / r.energy_kwh.expected;
}

}  // namespace

Bytes state_bytes(const workloads::Workload& w) {
  const workloads::Precision& p = w.precision;
  const int states = workloads::moments(w.optimizer.kind) + (p.has_master() ? 1 : 0);
  const std::int64_t n = total_parameters(w.model);
  return {size_bytes(p.parameter, n) + states * size_bytes(p.state, n)};
}

RunFacts run_facts(const plan::Job& job, Time step_time, const plan::Breakdown& mean, std::int64_t devices,
                   const topologies::Operations& operations) {
  const workloads::Workload& w = job.workload;
  const topologies::Cluster& cluster = job.cluster;
  RunFacts f;
  f.tokens_per_step = static_cast<double>(w.global_batch * w.tokens_per_sequence());
  f.counted_in = w.model.counted_in();
  f.devices = devices;
  f.step_seconds = seconds(step_time);
  f.state = state_bytes(w);
  const bool is_known = cluster.storage.bandwidth.value > 0;
  const double nodes = static_cast<double>(std::max<std::int64_t>(cluster.nodes, 1));
  const Bandwidth each = is_known ? cluster.storage.bandwidth : operations.storage_per_node;
  const Bandwidth all{each.value * (is_known && cluster.storage.is_shared ? 1 : nodes)};
  f.write_seconds = static_cast<double>(f.state.value) / all.value;
  f.write_source = fmt::format("{} at {}, {}", to_string(f.state), to_string(all),
                               is_known ? std::string("the cluster's storage")
                                        : to_string(each) + " of each node, as no cluster.storage is said");
  f.device_watts = cluster.device.tdp_watts;
  f.busy_share = seconds(mean.compute + mean.recompute + mean.optimizer) / seconds(mean.total());
  return f;
}

reports::WholeRun whole_run(const RunFacts& facts, const topologies::Operations& operations, const RunWishes& wishes) {
  RunShape shape;
  const std::int64_t steps = steps_of(facts, wishes);
  shape.step_seconds = facts.step_seconds;
  shape.write_seconds = wishes.write_seconds.value_or(facts.write_seconds);
  shape.devices = facts.devices;

  const double devices = static_cast<double>(facts.devices);
  double rates = 0, highest = 0, lowest = std::numeric_limits<double>::infinity();
  reports::WholeRun r;
  for (const topologies::Site& site : operations.sites) {
    const double rate = operations.rate(site) * devices / kHour;
    rates += rate / static_cast<double>(operations.sites.size());
    highest = std::max(highest, rate);
    lowest = std::min(lowest, rate);
    r.sites.push_back(site.name);
  }
  r.mtbf_seconds = 1 / rates;
  r.shortest_mtbf = 1 / highest;
  r.longest_mtbf = 1 / lowest;

  reports::CheckpointPlan& c = r.checkpoint;
  c.state = facts.state;
  c.write_seconds = shape.write_seconds;
  c.write_source = wishes.write_seconds ? "as given" : facts.write_source;
  c.best_steps = best_interval(steps, shape.step_seconds, shape.write_seconds, facts.devices, operations);
  c.is_given = wishes.checkpoint_seconds || wishes.checkpoint_steps;
  c.interval_steps = interval_of(facts, wishes, steps, c.best_steps);
  c.best_seconds = static_cast<double>(c.best_steps) * shape.step_seconds;
  c.interval_seconds = static_cast<double>(c.interval_steps) * shape.step_seconds;
  c.young_seconds = young_interval(shape.write_seconds, r.mtbf_seconds);
  c.daly_seconds = daly_interval(shape.write_seconds, r.mtbf_seconds);
  shape.segment_steps = c.interval_steps;
  shape.segments = (steps - 1) / shape.segment_steps;
  shape.last_steps = steps - shape.segments * shape.segment_steps;
  r.restart_seconds = operations.detect.mean() + operations.resume.mean() + shape.write_seconds;
  check_progress(shape, r.restart_seconds, highest, c.is_given);

  const ExpectedRun expected = expected_run(shape, operations);
  double failures = 0;
  for (const double count : expected.failures) {
    failures += count;
  }
  const double events = failures + expected.planned + expected.spells;
  if (!(events <= kMostEventsEach)) {
    throw InfeasibleError(
        fmt::format("a run of {} with {:.3g} failures, planned stops and slow spells; at most {:.3g} are forecast",
                    reports::duration(expected.shares.elapsed()), events, kMostEventsEach));
  }
  r.runs = std::min(wishes.runs, static_cast<std::int64_t>(std::max(kFewestRuns, kMostEvents / (events + 1))));
  r.seed = wishes.seed;
  const std::vector<SampledRun> runs = sample_runs(shape, operations, r.runs, r.seed);

  r.steps = steps;
  r.tokens_per_step = facts.tokens_per_step;
  r.tokens = wishes.steps > 0 ? static_cast<double>(steps) * facts.tokens_per_step : wishes.tokens;
  r.counted_in = facts.counted_in;
  r.devices = facts.devices;
  r.step_seconds = facts.step_seconds;
  r.ideal_seconds = static_cast<double>(steps) * facts.step_seconds;
  r.band_low = facts.band_low;
  r.band_high = facts.band_high;
  r.expected = expected.shares;
  for (const SampledRun& run : runs) {
    r.mean += run.shares;
  }
  r.mean = r.mean.scaled(1 / static_cast<double>(r.runs));
  r.elapsed_seconds = spread(runs, r.expected.elapsed(), [](const SampledRun& run) { return run.shares.elapsed(); });
  r.device_hours = scaled(r.elapsed_seconds, devices / kHour);
  r.goodput =
      spread(runs, expected.goodput, [](const SampledRun& run) { return run.shares.useful / run.shares.elapsed(); });
  r.training = spread(runs, expected.training,
                      [](const SampledRun& run) { return run.shares.training() / run.shares.elapsed(); });
  r.planned_stops =
      spread(runs, expected.planned, [](const SampledRun& run) { return static_cast<double>(run.planned); });
  r.failures = spread(runs, failures, [](const SampledRun& run) {
    return static_cast<double>(std::accumulate(run.failures.begin(), run.failures.end(), std::int64_t{0}));
  });
  for (std::size_t i = 0; i < operations.causes.size(); ++i) {
    const topologies::FailureCause& cause = operations.causes[i];
    r.components.push_back({cause.name, cause.kind, spread(runs, expected.failures[i], [i](const SampledRun& run) {
                              return static_cast<double>(run.failures[i]);
                            })});
  }
  r.price = wishes.price;
  r.money = scaled(r.device_hours, wishes.price.value_or(0));
  add_energy(r, facts, operations, runs);
  r.sources = {operations.restart_source, operations.storage_source, operations.power_source};
  for (const topologies::Site& site : operations.sites) {
    r.sources.push_back(site.name + ": " + site.source);
  }
  return r;
}

RunCost run_cost(const workloads::Workload& workload, Time step_time, std::int64_t devices, double tokens,
                 double price) {
  const double per_step = static_cast<double>(workload.global_batch * workload.tokens_per_sequence());
  RunCost cost;
  cost.seconds = std::ceil(tokens / per_step) * seconds(step_time);
  cost.device_hours = cost.seconds / kHour * static_cast<double>(devices);
  cost.money = cost.device_hours * price;
  return cost;
}

}  // namespace foretrain::search
