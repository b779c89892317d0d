#include "search/run_expectation.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace foretrain::search {

namespace {

constexpr double kHour = 3600;

double mean_of_log(const topologies::Range& r) {
  return r.high > r.low ? (r.high - r.low) / std::log(r.high / r.low) : r.low;
}

// The mean of f / (1 + f).
double mean_lost_share(const topologies::Range& f) {
  return f.high > f.low ? 1 - std::log((1 + f.high) / (1 + f.low)) / (f.high - f.low) : f.low / (1 + f.low);
}

double failures_of(double length, double rate) {
  return std::expm1(rate * length);
}
double time_of(double length, double rate) {
  return rate > 0 ? failures_of(length, rate) / rate : length;
}

// The mean of e^(-rate t).
double mean_survival(const topologies::Range& t, double rate) {
  return rate * (t.high - t.low) > 1e-9
             ? (std::exp(-rate * t.low) - std::exp(-rate * t.high)) / (rate * (t.high - t.low))
             : std::exp(-rate * t.mean());
}

// From a failure to training again: how long, and how many failures with the one that began it.
struct Recovery {
  double seconds = 0, failures = 1;
};
Recovery recovery(const topologies::Operations& o, double write_seconds, double rate) {
  if (rate <= 0) {
    return {o.detect.mean() + o.resume.mean() + write_seconds, 1};
  }
  const double p = mean_survival(o.detect, rate) * mean_survival(o.resume, rate) * std::exp(-rate * write_seconds);
  return {(1 / p - 1) / rate, 1 / p};
}

}  // namespace

ExpectedRun expected_run(const RunShape& shape, const topologies::Operations& operations) {
  const double devices = static_cast<double>(shape.devices), write = shape.write_seconds;
  const double segments = static_cast<double>(shape.segments);
  const double useful = static_cast<double>(shape.steps()) * shape.step_seconds;
  const double resume = operations.resume.mean() + write;
  const double spell_rate = operations.spells_per_device_hour * devices / kHour;
  const double spell_lost =
      spell_rate > 0 ? spell_rate * mean_of_log(operations.spell) * mean_lost_share(operations.slowdown) : 0;
  const double cases = static_cast<double>(operations.sites.size() * operations.step_mean_over_median.size());

  ExpectedRun e;
  e.failures.resize(operations.causes.size());
  for (const topologies::Site& site : operations.sites) {
    const double per_device_hour = operations.rate(site), rate = per_device_hour * devices / kHour;
    const Recovery restart = recovery(operations, write, rate);
    for (const double jitter : operations.step_mean_over_median) {
      const auto length = [&](std::int64_t steps) {
        return static_cast<double>(steps) * shape.step_seconds * jitter + write;
      };
      const double segment = length(shape.segment_steps), last = length(shape.last_steps);
      const double up = segments * time_of(segment, rate) + time_of(last, rate);
      const double failures = segments * failures_of(segment, rate) + failures_of(last, rate);
      const double planned = operations.planned_per_device_hour * devices / kHour * up;
      reports::RunShares s;
      s.useful = useful;
      s.checkpoint = (segments + 1) * write;
      s.lost = up - useful * jitter - s.checkpoint;
      s.restart = failures * restart.seconds + planned * resume;
      s.stragglers = useful * (jitter - 1) + spell_lost * up;
      e.shares += s;
      e.goodput += useful / s.elapsed() / cases;
      e.training += s.training() / s.elapsed() / cases;
      e.planned += planned / cases;
      e.spells += spell_rate * up / cases;
      for (std::size_t c = 0; c < e.failures.size() && per_device_hour > 0; ++c) {
        e.failures[c] +=
            failures * restart.failures * operations.rate(site, operations.causes[c]) / per_device_hour / cases;
      }
    }
  }
  e.shares = e.shares.scaled(1 / cases);
  return e;
}

// Of an endless run expected time per step is convex (a power series in k with positive coefficients, plus a multiple
// of 1 / k), as is its mean over sites. A run that ends has a whole number of segments, best all alike: of the numbers
// around the endless run's.
std::int64_t best_interval(std::int64_t steps, double step_seconds, double write_seconds, std::int64_t devices,
                           const topologies::Operations& operations) {
  const auto segment = [&](std::int64_t k) {
    const double length = static_cast<double>(k) * step_seconds + write_seconds;
    double sum = 0;
    for (const topologies::Site& site : operations.sites) {
      const double rate = operations.rate(site) * static_cast<double>(devices) / kHour;
      sum += time_of(length, rate) + failures_of(length, rate) * recovery(operations, write_seconds, rate).seconds;
    }
    return sum;
  };
  std::int64_t low = 1, high = steps;  // the best lies between
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    const double here = segment(middle) / static_cast<double>(middle);
    const double next = segment(middle + 1) / static_cast<double>(middle + 1);
    // Where both are beyond all numbers the best is shorter.
    (here > next ? low : high) = here > next ? middle + 1 : middle;
  }
  const auto whole = [&](std::int64_t k) {
    const std::int64_t full = (steps - 1) / k;
    return static_cast<double>(full) * segment(k) + segment(steps - full * k);
  };
  constexpr std::int64_t kAround = 2;
  std::int64_t best = low;
  for (std::int64_t n = std::max<std::int64_t>(1, steps / low - kAround); n <= steps / low + kAround; ++n) {
    const std::int64_t k = (steps + n - 1) / n;
    best = whole(k) < whole(best) ? k : best;
  }
  return best;
}

double young_interval(double write_seconds, double mtbf_seconds) {
  return std::sqrt(2 * write_seconds * mtbf_seconds);
}

double daly_interval(double write_seconds, double mtbf_seconds) {
  const double w = write_seconds / (2 * mtbf_seconds);
  return w >= 1 ? mtbf_seconds
                : young_interval(write_seconds, mtbf_seconds) * (1 + std::sqrt(w) / 3 + w / 9) - write_seconds;
}

}  // namespace foretrain::search
