// What would make a job fit: changes that every user would try, alone and together, each built, its memory planned and
// its step forecast.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "base/error.h"
#include "base/parallel.h"
#include "cli/job.h"
#include "plan/build.h"

namespace foretrain::cli {

namespace {

constexpr std::size_t kShown = 3;
using Change = std::vector<std::string>;  // overrides

std::vector<Change> single_changes(const plan::Job& job) {
  const plan::Strategy& s = job.strategy;
  std::vector<Change> changes;
  const auto change = [&](const char* key, const auto& value) {
    changes.push_back({fmt::format("strategy.{}={}", key, value)});
  };
  if (s.tp > 1 && !s.sequence_parallel) {
    change("sequence_parallel", true);
  }
  constexpr int kMostZero = 3;
  for (int zero = s.zero + 1; s.dp > 1 && zero <= kMostZero; ++zero) {
    change("zero", zero);
  }
  for (std::int64_t micro_batch = s.micro_batch / 2; micro_batch >= 1; micro_batch /= 2) {
    change("micro_batch", micro_batch);
  }
  if (s.recompute == plan::Recompute::none) {
    change("recompute", "selective");
  }
  if (s.recompute != plan::Recompute::full) {
    change("recompute", "full");
  }
  // The same devices, split another way: tensor parallel inside a node, where it is worth anything.
  for (const auto& [axis, size, most] :
       {std::tuple{"tp", s.tp, std::int64_t{job.cluster.devices_per_node}}, {"pp", s.pp, job.workload.model.layers}}) {
    for (std::int64_t times = 2; s.dp % times == 0 && times * size <= most; times *= 2) {
      changes.push_back(
          {fmt::format("strategy.{}={}", axis, times * size), fmt::format("strategy.dp={}", s.dp / times)});
    }
  }
  return changes;
}

bool touches_same_key(const Change& a, const Change& b) {
  const auto key = [](const std::string& text) { return text.substr(0, text.find('=')); };
  return std::any_of(a.begin(), a.end(), [&](const std::string& x) {
    return std::any_of(b.begin(), b.end(), [&](const std::string& y) { return key(x) == key(y); });
  });
}

// The changed job, when it fits; none also where the change does not go with the rest of the job. Its step is forecast
// by closed forms, which rank plans as flows do: nobody waits for twenty forecasts.
std::optional<reports::Fix> fix_by(const JobArguments& arguments, const Change& change) {
  try {
    const plan::Job job = arguments.load(change);
    const plan::PlanGraph graph = plan::build(job);
    const plan::MemoryFit fit = plan::memory_fit(job, graph);
    if (!fit.fits()) {
      return std::nullopt;
    }
    ModelArguments closed_forms;
    closed_forms.network_model = job.cluster.this_machine ? "auto" : "alpha_beta";
    return reports::Fix{fmt::format("{}", fmt::join(change, " ")), fit.demand,
                        simulate(job, graph, closed_forms, nullptr).step_time};
  } catch (const InputError&) {
    return std::nullopt;
  }
}

// On more nodes: everything that saves memory, and more and more pipeline stages.
std::vector<reports::Fix> fix_with_more_nodes(const JobArguments& arguments, const plan::Job& job) {
  constexpr std::int64_t kMostTimes = 64;
  if (job.cluster.this_machine) {
    return {};
  }
  for (std::int64_t times = 2; times <= kMostTimes; times *= 2) {
    Change change{fmt::format("cluster.nodes={}", times * job.cluster.nodes),
                  fmt::format("strategy.pp={}", times * job.strategy.pp),
                  fmt::format("strategy.dp={}", job.strategy.dp), "strategy.recompute=full"};
    if (job.strategy.tp > 1) {
      change.emplace_back("strategy.sequence_parallel=true");
    }
    if (const auto fix = fix_by(arguments, change)) {
      return {*fix};
    }
  }
  return {};
}

// Singles taken together, by index, ascending.
using Set = std::vector<std::size_t>;

}  // namespace

std::vector<reports::Fix> fixes(const JobArguments& arguments, const plan::Job& job) {
  const std::vector<Change> singles = single_changes(job);
  std::vector<reports::Fix> found;
  std::vector<std::pair<Set, Change>> candidates{{}};  // of one size that do not fit, then of the next
  // No larger sets than the first that help: an estimate of 131,072 ranks is a matter of a tenth of a second each.
  for (std::size_t size = 1; size <= singles.size() && found.empty(); ++size) {
    std::vector<std::pair<Set, Change>> next;
    for (const auto& [set, base] : candidates) {
      for (std::size_t i = set.empty() ? 0 : set.back() + 1; i < singles.size(); ++i) {
        if (touches_same_key(base, singles[i])) {
          continue;
        }
        auto& [larger, change] = next.emplace_back(set, base);
        larger.push_back(i);
        change.insert(change.end(), singles[i].begin(), singles[i].end());
      }
    }
    std::vector<std::optional<reports::Fix>> fits(next.size());
    in_parallel(next.size(), [&](std::size_t i) { fits[i] = fix_by(arguments, next[i].second); });
    for (const std::optional<reports::Fix>& fix : fits) {
      if (fix) {
        found.push_back(*fix);
      }
    }
    candidates = std::move(next);
  }
  if (found.empty()) {
    return fix_with_more_nodes(arguments, job);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const reports::Fix& a, const reports::Fix& b) { return a.step_time < b.step_time; });
  found.resize(std::min(found.size(), kShown));
  return found;
}

}  // namespace foretrain::cli
