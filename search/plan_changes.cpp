#include "search/plan_changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "plan/build.h"
#include "plan/device_memory.h"
#include "search/sensitivity.h"

namespace foretrain::search {

namespace {

template <class Value>
std::string field(const char* key, const Value& value) {
  return fmt::format("strategy.{}={}", key, value);
}

void add_recompute(const plan::Strategy& s, std::vector<PlanChange>& out) {
  if (s.recompute != plan::Recompute::none) {
    out.push_back({"no recomputation", {field("recompute", "none")}});
  }
  if (s.recompute == plan::Recompute::full || s.recompute == plan::Recompute::listed) {
    out.push_back({"selective recomputation", {field("recompute", "selective")}});
  }
}

void add_switches(const plan::Strategy& s, std::vector<PlanChange>& out) {
  if (s.tp > 1 && !s.sequence_parallel) {
    out.push_back({"sequence parallel", {field("sequence_parallel", true)}});
  }
  if (s.tp > 1 && !s.overlap_tp) {
    out.push_back({"tensor parallel communication beside matmuls", {field("overlap_tp", true)}});
  }
  if (s.replicas() > 1 && !s.overlap_grad_reduce) {
    out.push_back({"gradients reduced behind the backward", {field("overlap_grad_reduce", true)}});
  }
  if (s.replicas() > 1 && s.zero == 1 && !s.overlap_param_gather) {
    out.push_back({"parameters gathered behind the optimizer", {field("overlap_param_gather", true)}});
    if (!s.overlap_grad_reduce) {
      out.push_back({"gradients and parameters exchanged behind compute",
                     {field("overlap_grad_reduce", true), field("overlap_param_gather", true)}});
    }
  }
  if (s.ep > 1 && !s.overlap_ep) {
    out.push_back({"tokens exchanged beside another microbatch", {field("overlap_ep", true)}});
  }
  if (s.pp > 1 && s.tp > 1 && !s.scatter_gather) {
    out.push_back({"pipeline messages in tp parts", {field("scatter_gather", true)}});
  }
}

void add_zero(const plan::Strategy& s, std::vector<PlanChange>& out) {
  for (const int zero : {0, 1, 2, 3}) {
    if (s.replicas() > 1 && zero != s.zero) {
      out.push_back({fmt::format("ZeRO {}", zero), {field("zero", zero)}});
    }
  }
}

void add_pipeline(const plan::Strategy& s, std::vector<PlanChange>& out) {
  if (s.pp == 1) {
    return;
  }
  const bool is_1f1b = s.schedule == plan::ScheduleKind::one_f_one_b || s.schedule == plan::ScheduleKind::interleaved;
  for (const std::int64_t chunks : {s.virtual_stages * 2, s.virtual_stages * 3, s.virtual_stages / 2}) {
    if (is_1f1b && chunks >= 1 && chunks != s.virtual_stages) {
      std::vector<std::string> overrides{field("virtual_stages", chunks)};
      if (chunks == 1) {
        overrides.push_back(field("schedule", "1f1b"));
      }
      out.push_back({fmt::format("{} virtual stage{}", chunks, chunks == 1 ? "" : "s"), std::move(overrides)});
    }
  }
  if (s.schedule == plan::ScheduleKind::gpipe) {
    out.push_back({"1F1B", {field("schedule", "1f1b")}});
  }
  if (s.schedule != plan::ScheduleKind::zb_h1) {
    out.push_back({"zero-bubble schedule H1", {field("schedule", "zb_h1"), field("virtual_stages", 1)}});
  }
}

void add_micro_batch(const plan::Strategy& s, std::vector<PlanChange>& out) {
  out.push_back({"microbatches twice as large", {field("micro_batch", 2 * s.micro_batch)}});
  if (s.micro_batch % 2 == 0) {
    out.push_back({"microbatches half as large", {field("micro_batch", s.micro_batch / 2)}});
  }
}

// The same devices: one axis half as long, another twice.
void add_splits(const plan::Job& job, std::vector<PlanChange>& out) {
  const plan::Strategy& s = job.strategy;
  const std::pair<const char*, std::int64_t> axes[] = {{"dp", s.dp}, {"tp", s.tp}, {"pp", s.pp}, {"cp", s.cp}};
  for (const auto& [less, from] : axes) {
    for (const auto& [more, to] : axes) {
      const bool leaves_node = std::string_view(more) == "tp" && 2 * to > job.cluster.devices_per_node;
      if (std::string_view(less) != more && from % 2 == 0 && !leaves_node &&
          (std::string_view(more) != "cp" || s.cp > 1)) {
        out.push_back({fmt::format("{} {} and {} {}", less, from / 2, more, 2 * to),
                       {field(less, from / 2), field(more, 2 * to)}});
      }
    }
  }
}

// Nothing where the change does not go with the rest of the job.
std::optional<ChangedPlan> tried(const PlanChange& change, const LoadJob& load, const sim::Options& options,
                                 Time base) {
  try {
    plan::Job job = load(change.overrides);
    const plan::PlanGraph graph = plan::build(job);
    const plan::MemoryFit fit = plan::memory_fit(job, graph);
    ChangedPlan plan{change, fit.demand, fit.fits(), true, sim::simulate(graph, job.cluster, options).step_time, 0};
    plan.gain = seconds(base - plan.step_time) / seconds(base);
    if (!plan.fits) {
      job.cluster = with_more(job.cluster, Resource::memory_size, kMoreOfIt);
      plan.fits_with_more = plan::memory_fit(job, graph).fits();
    }
    return plan;
  } catch (const InputError&) {
    return std::nullopt;
  } catch (const InfeasibleError&) {
    return std::nullopt;
  }
}

}  // namespace

std::vector<PlanChange> plan_changes(const plan::Job& job) {
  std::vector<PlanChange> changes;
  add_recompute(job.strategy, changes);
  add_switches(job.strategy, changes);
  add_zero(job.strategy, changes);
  add_pipeline(job.strategy, changes);
  add_micro_batch(job.strategy, changes);
  add_splits(job, changes);
  return changes;
}

std::vector<ChangedPlan> changed_plans(const plan::Job& job, const LoadJob& load, const sim::Options& options,
                                       Time base, const Watch& watch) {
  const std::vector<PlanChange> changes = plan_changes(job);
  std::vector<std::optional<ChangedPlan>> each(changes.size());
  in_parallel(changes.size(), watch, [&](std::size_t i) { each[i] = tried(changes[i], load, options, base); });
  std::vector<ChangedPlan> plans;
  for (std::optional<ChangedPlan>& plan : each) {
    if (plan) {
      plans.push_back(std::move(*plan));
    }
  }
  std::stable_sort(plans.begin(), plans.end(),
                   [](const ChangedPlan& a, const ChangedPlan& b) { return a.step_time < b.step_time; });
  return plans;
}

}  // namespace foretrain::search
