// What would make a job fit: changes that every user would try, alone and together, each built and measured in bytes.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "cli/job.h"
#include "plan/build.h"

namespace foretrain::cli {

namespace {

constexpr std::size_t kShown = 3;
using Change = std::vector<std::string>;  // overrides

// Single changes, the one that costs least step time first.
std::vector<Change> single_changes(const plan::Job& job) {
  const plan::Strategy& s = job.strategy;
  std::vector<Change> changes;
  if (s.tp > 1 && !s.sequence_parallel) {
    changes.push_back({"strategy.sequence_parallel=true"});
  }
  if (s.dp > 1 && s.zero == 0) {
    changes.push_back({"strategy.zero=1"});
  }
  if (s.micro_batch > 1) {
    changes.push_back({"strategy.micro_batch=1"});
  }
  if (s.recompute == plan::Recompute::none) {
    changes.push_back({"strategy.recompute=selective"});
  }
  if (s.recompute != plan::Recompute::full) {
    changes.push_back({"strategy.recompute=full"});
  }
  if (s.dp % 2 == 0) {  // the same devices, split another way
    changes.push_back({fmt::format("strategy.tp={}", 2 * s.tp), fmt::format("strategy.dp={}", s.dp / 2)});
    changes.push_back({fmt::format("strategy.pp={}", 2 * s.pp), fmt::format("strategy.dp={}", s.dp / 2)});
  }
  return changes;
}

bool touches_same_key(const Change& a, const Change& b) {
  const auto key = [](const std::string& text) { return text.substr(0, text.find('=')); };
  return std::any_of(a.begin(), a.end(), [&](const std::string& x) {
    return std::any_of(b.begin(), b.end(), [&](const std::string& y) { return key(x) == key(y); });
  });
}

// Demand of the changed job; none where the change does not go with the rest of the job.
std::optional<reports::MemoryFit> fit_with(const JobArguments& arguments, const Change& change) {
  try {
    const plan::Job job = arguments.load(change);
    return reports::memory_fit(job, plan::build(job));
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
    if (const auto fit = fit_with(arguments, change); fit && fit->fits()) {
      return {{fmt::format("{}", fmt::join(change, " ")), fit->demand}};
    }
  }
  return {};
}

}  // namespace

std::vector<reports::Fix> fixes(const JobArguments& arguments, const plan::Job& job) {
  const std::vector<Change> singles = single_changes(job);
  std::vector<Change> candidates{{}};  // of one size, then of the next
  for (std::size_t size = 1; size <= singles.size(); ++size) {
    std::vector<reports::Fix> found;
    std::vector<Change> next;
    for (const Change& base : candidates) {
      for (const Change& single : singles) {
        // Ascending, so that no set is tried twice.
        const bool later = base.empty() || std::find(singles.begin(), singles.end(), single) >
                                               std::find_if(singles.begin(), singles.end(),
                                                            [&](const Change& c) { return c.back() == base.back(); });
        if (!later || touches_same_key(base, single)) {
          continue;
        }
        Change change = base;
        change.insert(change.end(), single.begin(), single.end());
        next.push_back(change);
        const auto fit = fit_with(arguments, change);
        if (fit && fit->fits()) {
          found.push_back({fmt::format("{}", fmt::join(change, " ")), fit->demand});
          if (found.size() == kShown) {
            return found;
          }
        }
      }
    }
    if (!found.empty()) {
      return found;
    }
    candidates = std::move(next);
  }
  return fix_with_more_nodes(arguments, job);
}

}  // namespace foretrain::cli
