// What would make a job fit: changes that every user would try, alone and together, each built, its memory planned and
// its step forecast.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
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

// Changes in one direction, from the least on: who has room after one does not want the next.
using Direction = std::vector<Change>;

std::vector<Direction> directions(const plan::Job& job) {
  const plan::Strategy& s = job.strategy;
  std::vector<Direction> all;
  const auto change = [](const char* key, const auto& value) {
    return Change{fmt::format("strategy.{}={}", key, value)};
  };
  if (s.tp > 1 && !s.sequence_parallel) {
    all.push_back({change("sequence_parallel", true)});
  }
  constexpr int kMostZero = 3;
  Direction& zeros = all.emplace_back();
  for (int zero = s.zero + 1; s.dp > 1 && zero <= kMostZero; ++zero) {
    zeros.push_back(change("zero", zero));
  }
  Direction& micro_batches = all.emplace_back();
  for (std::int64_t micro_batch = s.micro_batch / 2; micro_batch >= 1; micro_batch /= 2) {
    micro_batches.push_back(change("micro_batch", micro_batch));
  }
  Direction& recompute = all.emplace_back();
  if (s.recompute == plan::Recompute::none) {
    recompute.push_back(change("recompute", "selective"));
  }
  if (s.recompute != plan::Recompute::full) {
    recompute.push_back(change("recompute", "full"));
  }
  if (!s.offloads() && job.cluster.host.link.value > 0) {
    all.push_back({change("offload", R"(["activations"])")});
  }
  // The same devices, split another way: tensor parallel inside a node, where it is worth anything.
  for (const auto& [axis, size, most] :
       {std::tuple{"tp", s.tp, std::int64_t{job.cluster.devices_per_node}}, {"pp", s.pp, job.workload.model.layers}}) {
    Direction& split = all.emplace_back();
    for (std::int64_t times = 2; s.dp % times == 0 && times * size <= most; times *= 2) {
      split.push_back({fmt::format("strategy.{}={}", axis, times * size), fmt::format("strategy.dp={}", s.dp / times)});
    }
  }
  std::erase_if(all, [](const Direction& d) { return d.empty(); });
  return all;
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

// Sets of `size` directions that go together, by index, ascending.
std::vector<std::vector<std::size_t>> sets_of(const std::vector<Direction>& all, std::size_t size) {
  std::vector<std::vector<std::size_t>> sets{{}};
  for (std::size_t taken = 0; taken < size; ++taken) {
    std::vector<std::vector<std::size_t>> larger;
    for (const std::vector<std::size_t>& set : sets) {
      for (std::size_t next = set.empty() ? 0 : set.back() + 1; next < all.size(); ++next) {
        if (std::none_of(set.begin(), set.end(),
                         [&](std::size_t i) { return touches_same_key(all[i].front(), all[next].front()); })) {
          larger.push_back(set);
          larger.back().push_back(next);
        }
      }
    }
    sets = std::move(larger);
  }
  return sets;
}

// The least changes in these directions, taken together, that fit: of which none goes as far as another in every one.
std::vector<reports::Fix> least_fixes(const JobArguments& arguments, const std::vector<const Direction*>& together) {
  std::vector<reports::Fix> found;
  std::vector<std::vector<std::size_t>> found_at;
  std::vector<std::size_t> at(together.size(), 0);
  while (at.front() < together.front()->size()) {
    const bool is_further = std::any_of(found_at.begin(), found_at.end(), [&](const std::vector<std::size_t>& least) {
      return std::equal(least.begin(), least.end(), at.begin(), std::less_equal<>());
    });
    if (!is_further) {
      Change change;
      for (std::size_t i = 0; i < at.size(); ++i) {
        change.insert(change.end(), (*together[i])[at[i]].begin(), (*together[i])[at[i]].end());
      }
      if (const auto fix = fix_by(arguments, change)) {
        found.push_back(*fix);
        found_at.push_back(at);
      }
    }
    std::size_t digit = at.size() - 1;
    while (++at[digit] == together[digit]->size() && digit > 0) {
      at[digit--] = 0;
    }
  }
  return found;
}

}  // namespace

std::vector<reports::Fix> fixes(const JobArguments& arguments, const plan::Job& job) {
  if (!arguments.wants_fixes) {
    return {};
  }
  const std::vector<Direction> all = directions(job);
  std::vector<reports::Fix> found;
  // No larger sets than the first that help: an estimate of 131,072 ranks is a matter of a tenth of a second each.
  for (std::size_t size = 1; size <= all.size() && found.empty(); ++size) {
    const std::vector<std::vector<std::size_t>> sets = sets_of(all, size);
    std::vector<std::vector<reports::Fix>> of_set(sets.size());
    in_parallel(sets.size(), [&](std::size_t s) {
      std::vector<const Direction*> together;
      for (const std::size_t i : sets[s]) {
        together.push_back(&all[i]);
      }
      of_set[s] = least_fixes(arguments, together);
    });
    for (const std::vector<reports::Fix>& fixes : of_set) {
      found.insert(found.end(), fixes.begin(), fixes.end());
    }
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
