#include "search/run_samples.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "base/random.h"

namespace foretrain::search {

namespace {

using Micros = std::int64_t;
constexpr double kMicro = 1e6;
constexpr Micros kNever = std::numeric_limits<Micros>::max();
constexpr std::int64_t kRunsAtOnce = 16;
constexpr double kHour = 3600;

Micros micros(double seconds) {
  return std::llround(seconds * kMicro);
}

double draw(RandomStream& random, const topologies::Range& range) {
  return range.low + (range.high - range.low) * random.uniform();
}
double draw_log(RandomStream& random, const topologies::Range& range) {
  return range.low * std::exp(std::log(range.high / range.low) * random.uniform());
}

// How many events of a Poisson process fall into a time that has `expected` of them.
std::int64_t draw_count(RandomStream& random, double expected) {
  std::int64_t count = -1;
  for (double passed = 0; passed <= expected; ++count) {
    passed -= std::log(random.uniform());
  }
  return count;
}

std::size_t draw_index(RandomStream& random, std::size_t size) {
  return std::min(size - 1, static_cast<std::size_t>(random.uniform() * static_cast<double>(size)));
}

// Where a uniform number falls among the causes of a site.
std::vector<double> cumulated(const topologies::Operations& operations, const topologies::Site& site) {
  std::vector<double> sums;
  const double all = operations.rate(site);
  double sum = 0;
  for (const topologies::FailureCause& cause : operations.causes) {
    sum += operations.rate(site, cause) / all;
    sums.push_back(sum);
  }
  return sums;
}

class Sampler {
 public:
  Sampler(const RunShape& shape, const topologies::Operations& operations) : shape_(shape), operations_(operations) {
    for (const topologies::Site& site : operations.sites) {
      causes_.push_back(cumulated(operations, site));
    }
  }

  SampledRun operator()(RandomStream random) const {
    const std::size_t site = draw_index(random, operations_.sites.size());
    const double jitter =
        operations_.step_mean_over_median[draw_index(random, operations_.step_mean_over_median.size())];
    const double per_second = rate(operations_.rate(operations_.sites[site]));
    const Micros write = micros(shape_.write_seconds);
    const auto length = [&](std::int64_t steps) {
      return micros(static_cast<double>(steps) * shape_.step_seconds * jitter) + write;
    };
    const Micros segment = std::max<Micros>(1, length(shape_.segment_steps)), last = length(shape_.last_steps);

    SampledRun run;
    run.failures.resize(operations_.causes.size());
    const std::vector<double>& causes = causes_[site];
    Micros lost = 0, restart = 0;
    std::int64_t left = shape_.segments;
    for (Micros up = next_failure(random, per_second);;) {  // from here to the next failure
      const std::int64_t finished = std::min(left, up / segment);
      up -= finished * segment;
      left -= finished;
      if (left == 0 && up >= last) {
        break;
      }
      lost += up;
      for (bool is_up = false; !is_up;) {
        const auto cause = std::upper_bound(causes.begin(), causes.end() - 1, random.uniform());
        ++run.failures[static_cast<std::size_t>(cause - causes.begin())];
        const Micros restarted =
            micros(draw(random, operations_.detect) + draw(random, operations_.resume) + shape_.write_seconds);
        const Micros next = next_failure(random, per_second);
        is_up = next >= restarted;
        restart += std::min(restarted, next);
        up = next - restarted;  // of what has no memory, what is left
      }
    }

    const double work = static_cast<double>(shape_.segments * (segment - write) + last - write) / kMicro;
    run.shares.useful = static_cast<double>(shape_.steps()) * shape_.step_seconds;
    run.shares.checkpoint = static_cast<double>(shape_.segments + 1) * shape_.write_seconds;
    run.shares.lost = static_cast<double>(lost) / kMicro;
    run.shares.stragglers = work - run.shares.useful;
    const double up = work + run.shares.checkpoint + run.shares.lost;
    run.planned = draw_count(random, rate(operations_.planned_per_device_hour) * up);
    run.shares.restart = static_cast<double>(restart) / kMicro;
    for (std::int64_t i = 0; i < run.planned; ++i) {
      run.shares.restart += draw(random, operations_.resume) + shape_.write_seconds;
    }
    for (std::int64_t i = draw_count(random, rate(operations_.spells_per_device_hour) * up); i > 0; --i) {
      const double spell = draw_log(random, operations_.spell), slower = draw(random, operations_.slowdown);
      run.shares.stragglers += spell * slower / (1 + slower);
    }
    return run;
  }

 private:
  // Of the job, per second.
  double rate(double per_device_hour) const { return per_device_hour * static_cast<double>(shape_.devices) / kHour; }

  static Micros next_failure(RandomStream& random, double per_second) {
    constexpr double kLongest = 9e18;  // below kNever
    const double after = per_second > 0 ? -std::log(random.uniform()) / per_second * kMicro : kLongest;
    return after < kLongest ? static_cast<Micros>(std::llround(after)) : kNever;
  }

  const RunShape& shape_;
  const topologies::Operations& operations_;
  std::vector<std::vector<double>> causes_;  // by site
};

}  // namespace

std::vector<SampledRun> sample_runs(const RunShape& shape, const topologies::Operations& operations, std::int64_t runs,
                                    std::int64_t seed) {
  const Sampler sampler(shape, operations);
  std::vector<SampledRun> result(static_cast<std::size_t>(runs));
  in_parallel(static_cast<std::size_t>((runs + kRunsAtOnce - 1) / kRunsAtOnce), [&](std::size_t block) {
    const std::int64_t begin = static_cast<std::int64_t>(block) * kRunsAtOnce;
    for (std::int64_t i = begin; i < std::min(runs, begin + kRunsAtOnce); ++i) {
      result[static_cast<std::size_t>(i)] =
          sampler(RandomStream(static_cast<std::uint64_t>(seed), static_cast<std::uint64_t>(i)));
    }
  });
  return result;
}

}  // namespace foretrain::search
