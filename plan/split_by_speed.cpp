#include "plan/split_by_speed.h"

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "plan/mesh.h"

namespace foretrain::plan {

namespace {

constexpr int kHalvings = 64;
constexpr double kMostRanks = 1e7;  // each is looked at

// Of the slowest rank at each stage and coordinate along dp.
std::vector<std::vector<double>> slowest(const Job& job) {
  const Strategy& s = job.strategy;
  Mesh mesh;
  mesh.order = parse_rank_order(s.rank_order);
  mesh.extent = {static_cast<int>(s.pp), static_cast<int>(s.dp), static_cast<int>(s.cp), static_cast<int>(s.tp)};
  std::vector<std::vector<double>> speeds(static_cast<std::size_t>(s.pp),
                                          std::vector<double>(static_cast<std::size_t>(s.dp), 1e9));
  for (Rank r = 0; r < mesh.ranks(); ++r) {
    const Coordinates c = mesh.coordinates(r);
    double& speed = speeds[static_cast<std::size_t>(c[static_cast<std::size_t>(Axis::pp)])]
                          [static_cast<std::size_t>(c[static_cast<std::size_t>(Axis::dp)])];
    speed = std::min(speed, topologies::speed_of(job.cluster.disturbance.devices, r));
  }
  return speeds;
}

// What keeps ranks along dp in step, microbatch by microbatch, or deals with them one by one.
const char* in_the_way(const Job& job) {
  const Strategy& s = job.strategy;
  const bool all_alike = s.data_parallel == DataParallel::all_reduce || s.data_parallel == DataParallel::all_gather;
  return s.servers > 0 || !all_alike                                        ? "another data_parallel"
         : s.zero >= 2                                                      ? "zero 2 or 3"
         : s.ep > 1                                                         ? "ep"
         : s.virtual_stages > 1 || s.schedule == ScheduleKind::text         ? "virtual stages, or a schedule's text"
         : job.workload.data.distribution == workloads::Distribution::block ? "data.distribution block"
                                                                            : nullptr;
}

}  // namespace

std::vector<std::int64_t> apportion(std::int64_t total, const std::vector<double>& speeds) {
  // By the time at which all are done, as long as that is not too much; then part by part.
  std::vector<std::int64_t> parts(speeds.size(), 1);
  const auto sum_until = [&](double time) {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      parts[i] = std::max<std::int64_t>(1, static_cast<std::int64_t>(time * speeds[i]));
      sum += parts[i];
    }
    return sum;
  };
  double early = 0, late = static_cast<double>(total + 1) / *std::min_element(speeds.begin(), speeds.end());
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (early + late) / 2;
    (sum_until(middle) <= total ? early : late) = middle;
  }
  for (std::int64_t left = total - sum_until(early); left > 0; --left) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < parts.size(); ++i) {
      const auto end = [&](std::size_t j) { return static_cast<double>(parts[j] + 1) / speeds[j]; };
      best = end(i) < end(best) ? i : best;
    }
    ++parts[best];
  }
  return parts;
}

void split_by_speed(Job& job, ObjectReader& strategy) {
  Strategy& s = job.strategy;
  if (const char* const other = in_the_way(job)) {
    strategy.mistake("split_by_speed", fmt::format("with {} is not built; expected false", other));
    return;
  }
  const double ranks =
      static_cast<double>(s.dp) * static_cast<double>(s.tp) * static_cast<double>(s.pp) * static_cast<double>(s.cp);
  if (ranks > kMostRanks) {
    strategy.mistake("split_by_speed", fmt::format("{:.3g} ranks; expected at most {:.0e}", ranks, kMostRanks));
    return;
  }
  const std::vector<std::vector<double>> speeds = slowest(job);
  const std::int64_t layers = job.workload.model.repeated_layers();
  if (s.layers_per_stage.empty() && s.pp > 1 && layers >= s.pp) {
    std::vector<double> of_stage;
    for (const std::vector<double>& along_dp : speeds) {
      of_stage.push_back(*std::min_element(along_dp.begin(), along_dp.end()));
    }
    s.layers_per_stage = apportion(layers, of_stage);
  }
  const std::int64_t microbatches = job.workload.global_batch / s.micro_batch;
  if (microbatches < s.dp) {
    strategy.mistake("split_by_speed",
                     fmt::format("{} microbatches for {} ranks along dp; expected one for each", microbatches, s.dp));
    return;
  }
  if (s.pp > 1 && std::ssize(s.layers_per_stage) != s.pp) {
    return;  // is a mistake of its own
  }
  std::vector<double> of_replica;
  for (std::size_t d = 0; d < static_cast<std::size_t>(s.dp); ++d) {
    double longest = 0;
    for (std::size_t p = 0; p < speeds.size(); ++p) {
      const auto work = static_cast<double>(s.pp > 1 ? std::max<std::int64_t>(1, s.layers_per_stage[p]) : 1);
      longest = std::max(longest, work / speeds[p][d]);
    }
    of_replica.push_back(1 / longest);
  }
  const std::vector<std::int64_t> split = apportion(microbatches, of_replica);
  if (std::adjacent_find(split.begin(), split.end(), std::not_equal_to<>()) != split.end()) {
    s.microbatches_of = split;
  }
}

}  // namespace foretrain::plan
