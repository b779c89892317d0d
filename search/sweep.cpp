#include "search/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/error.h"
#include "plan/build.h"
#include "plan/device_memory.h"
#include "plan/overrides.h"
#include "reports/estimate.h"

namespace foretrain::search {

namespace {

constexpr std::array<const char*, 5> kSizes{"cluster.nodes", "cluster.devices_per_node", "strategy.tp", "strategy.pp",
                                            "strategy.cp"};

std::int64_t size_of(const plan::Job& job, std::size_t which) {
  const plan::Strategy& s = job.strategy;
  const std::array<std::int64_t, 5> sizes{job.cluster.nodes, job.cluster.devices_per_node, s.tp, s.pp, s.cp};
  return sizes[which];
}

// What the devices leave for dp, where the values are sizes and divide them; else nothing.
std::optional<std::string> dp_left(const plan::Job& job, const std::vector<SweepAxis>& axes,
                                   const std::vector<std::string>& values) {
  std::array<std::int64_t, 5> sizes{};
  for (std::size_t k = 0; k < kSizes.size(); ++k) {
    sizes[k] = size_of(job, k);
    for (std::size_t a = 0; a < axes.size(); ++a) {
      if (axes[a].field == kSizes[k]) {
        const std::string& text = values[a];
        if (text.empty() || text.size() > 7 || text.find_first_not_of("0123456789") != std::string::npos) {
          return std::nullopt;
        }
        sizes[k] = std::stoll(text);
      }
    }
  }
  const std::int64_t devices = sizes[0] * sizes[1], others = sizes[2] * sizes[3] * sizes[4];
  if (others == 0 || devices % others != 0) {
    return std::nullopt;
  }
  return fmt::format("strategy.dp={}", devices / others);
}

SweepRow row_of(const plan::Job& base, const LoadJob& load, const sim::Options& options, const Sweep& sweep,
                const std::vector<std::string>& values, std::size_t& resolved) {
  SweepRow row;
  row.values = values;
  std::vector<std::string> overrides;
  for (std::size_t a = 0; a < sweep.axes.size(); ++a) {
    overrides.push_back(sweep.axes[a].field + "=" + values[a]);
  }
  if (sweep.dp_follows) {
    if (const auto dp = dp_left(base, sweep.axes, values)) {
      overrides.push_back(*dp);
    }
  }
  try {
    const plan::Job job = load(overrides);
    resolved = std::hash<nlohmann::json>{}(plan::resolved(job));
    const plan::PlanGraph graph = plan::build(job);
    const plan::MemoryFit fit = plan::memory_fit(job, graph);
    row.step_time = sim::simulate(graph, job.cluster, options).step_time;
    const double step = seconds(row.step_time);
    row.tokens_per_second = static_cast<double>(job.workload.global_batch * job.workload.tokens_per_sequence()) / step;
    row.mfu = reports::efficiency(job, graph, step).mfu;
    row.demand = fit.demand;
    row.capacity = fit.capacity;
    row.fits = fit.fits();
  } catch (const InputError& error) {
    row.refused = error.what();
  } catch (const InfeasibleError& error) {
    row.refused = error.what();
  }
  row.refused = row.refused.substr(0, row.refused.find('\n'));
  return row;
}

bool ends_with_any(const std::string& field, std::initializer_list<const char*> names) {
  const std::string last = field.substr(field.rfind('.') + 1);
  return std::any_of(names.begin(), names.end(), [&](const char* name) { return last == name; });
}

std::string why_no_effect(const plan::Job& job, const std::string& field, bool same_job) {
  const plan::Strategy& s = job.strategy;
  if (field.starts_with("workload.optimizer.") || field.starts_with("workload.loss_scaling.")) {
    return "it changes what is learnt, not how long a step takes";
  }
  if (s.dp == 1 && ends_with_any(field, {"zero", "zero_kind", "shard", "overlap_grad_reduce", "overlap_param_gather",
                                         "bucket_bytes", "compression", "data_parallel"})) {
    return "dp is 1: gradients and optimizer state are shared with nobody";
  }
  if (s.tp == 1 && ends_with_any(field, {"sequence_parallel", "overlap_tp", "scatter_gather"})) {
    return "tp is 1: there is nothing to exchange inside a layer";
  }
  if (s.pp == 1 && ends_with_any(field, {"schedule", "virtual_stages", "scatter_gather"})) {
    return "pp is 1: there are no stages to schedule";
  }
  if (s.cp == 1 && ends_with_any(field, {"cp_kind"})) {
    return "cp is 1: sequences are whole";
  }
  if (s.zero != 1 && ends_with_any(field, {"overlap_param_gather"})) {
    return "only zero 1 gathers parameters behind the optimizer";
  }
  if (s.zero != 3 && ends_with_any(field, {"reshard", "prefetch"})) {
    return "only zero 3 gathers parameters unit by unit";
  }
  if (job.workload.model.moe_layers() == 0 &&
      ends_with_any(field, {"ep", "expert_tp", "overlap_ep", "moe_imbalance"})) {
    return "the model has no experts";
  }
  return same_job ? "all values resolve to the same job"
                  : "nothing in this plan that takes time or memory depends on it";
}

// By axis: whether no two rows that differ there alone differ in what was forecast. `resolved`: hashes of their jobs.
std::string no_effect(const plan::Job& job, const Sweep& sweep, const std::vector<std::size_t>& resolved,
                      std::size_t axis) {
  std::size_t stride = 1;
  for (std::size_t a = axis + 1; a < sweep.axes.size(); ++a) {
    stride *= sweep.axes[a].values.size();
  }
  const std::size_t values = sweep.axes[axis].values.size();
  bool same_job = true, compared = false;
  for (std::size_t r = 0; r + stride < sweep.rows.size(); ++r) {
    if (r / stride % values + 1 == values) {
      continue;
    }
    const SweepRow &a = sweep.rows[r], &b = sweep.rows[r + stride];
    if (a.refused.empty() != b.refused.empty() || a.step_time != b.step_time || a.demand != b.demand ||
        a.tokens_per_second != b.tokens_per_second || a.fits != b.fits) {
      return "";
    }
    same_job &= resolved[r] == resolved[r + stride];
    compared |= a.refused.empty();
  }
  return compared ? why_no_effect(job, sweep.axes[axis].field, same_job) : "";
}

}  // namespace

SweepAxis sweep_axis(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals + 1 == text.size()) {
    throw InputError(fmt::format("--sweep: \"{}\" is not allowed; expected FIELD=A,B,C, as tp=1,2,4", text));
  }
  const std::string full = plan::full_override(text);
  SweepAxis axis{full.substr(0, full.find('=')), {}};
  const std::vector<std::string>& fields = plan::job_fields();
  const bool is_field = std::any_of(fields.begin(), fields.end(), [&](const std::string& field) {
    return axis.field == field || axis.field.starts_with(field + ".");
  });
  if (!is_field) {
    const std::string near = nearest_word(axis.field, fields);
    throw InputError(fmt::format("--sweep: unknown field \"{}\"{}; expected a field of a job, as strategy.tp",
                                 axis.field, near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near)));
  }
  int depth = 0;
  bool quoted = false;
  std::string value;
  for (const char c : text.substr(equals + 1) + ",") {
    quoted ^= c == '"';
    depth += quoted ? 0 : (c == '[' || c == '{') - (c == ']' || c == '}');
    if (c != ',' || depth > 0 || quoted) {
      value.push_back(c);
      continue;
    }
    if (value.empty()) {
      throw InputError(fmt::format("--sweep: \"{}\" has an empty value; expected FIELD=A,B,C", text));
    }
    axis.values.push_back(std::exchange(value, {}));
  }
  if (!value.empty()) {
    throw InputError(fmt::format("--sweep: \"{}\" has an open bracket or quote", text));
  }
  return axis;
}

Sweep sweep(const plan::Job& job, const LoadJob& load, const sim::Options& options, std::vector<SweepAxis> axes,
            const Watch& watch) {
  Sweep result;
  result.axes = std::move(axes);
  std::size_t rows = 1;
  bool sizes = false, dp = false;
  for (const SweepAxis& axis : result.axes) {
    rows *= axis.values.size();
    if (rows > kMostRows) {
      throw InputError(fmt::format("--sweep: more than {} rows; sweep fewer values", kMostRows));
    }
    sizes |= std::find(kSizes.begin(), kSizes.end(), axis.field) != kSizes.end();
    dp |= axis.field == "strategy.dp";
  }
  result.dp_follows = sizes && !dp && job.strategy.beside() == 0 && !job.cluster.this_machine;
  result.rows.resize(rows);
  std::vector<std::size_t> resolved(rows);
  for (std::size_t r = 0; r < rows; ++r) {
    std::vector<std::string>& values = result.rows[r].values;
    values.resize(result.axes.size());
    for (std::size_t a = result.axes.size(), left = r; a-- > 0;) {
      const std::vector<std::string>& of = result.axes[a].values;
      values[a] = of[left % of.size()];
      left /= of.size();
    }
    result.rows[r].refused = kLeftOut;
  }
  in_parallel(rows, watch, [&](std::size_t r) {
    result.rows[r] = row_of(job, load, options, result, result.rows[r].values, resolved[r]);
  });
  const bool whole =
      std::none_of(result.rows.begin(), result.rows.end(), [](const SweepRow& r) { return r.refused == kLeftOut; });
  for (std::size_t a = 0; a < result.axes.size(); ++a) {
    result.no_effect.push_back(whole ? no_effect(job, result, resolved, a) : "");
  }
  return result;
}

}  // namespace foretrain::search
