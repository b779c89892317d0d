#include "cli/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/catalogue.h"
#include "base/error.h"
#include "cli/forecast.h"
#include "plan/build.h"
#include "search/node_sweep.h"
#include "search/whole_run.h"
#include "topologies/profile.h"

namespace foretrain::cli {

namespace {

reports::SearchedPlan plan_of(const plan::OpenJob& open, const search::Found& f) {
  reports::SearchedPlan p;
  p.job = plan::document_of(open, search::strategy_of(open, f.shape, f.tail)).dump(2);
  p.step_time = f.step_time;
  p.memory = f.memory;
  p.breakdown = f.breakdown;
  return p;
}

// The same figures as `estimate` prints of the file.
std::string estimate_of(const SearchWishes& a, const std::string& document) {
  JobArguments arguments;
  arguments.path = a.job.path;
  arguments.text = document;
  const plan::Job job = arguments.load();
  const plan::PlanGraph graph = plan::build(job);
  const ModelArguments models;
  const sim::Simulation simulation = simulate(job, graph, models, nullptr);
  return reports::to_json(forecast(arguments, models, job, graph, simulation)).dump();
}

std::string headline(const plan::Job& job, const std::vector<std::int64_t>& nodes) {
  const workloads::Workload& w = job.workload;
  const std::string size = !nodes.empty() ? fmt::format("{} to {} nodes of ", nodes.front(), nodes.back())
                           : job.cluster.this_machine
                               ? ""
                               : fmt::format("{} node{} of ", job.cluster.nodes, job.cluster.nodes == 1 ? "" : "s");
  return fmt::format("{}, seq {}, batch {}, {}, on {}{}", w.model.name.empty() ? "model" : w.model.name, w.seq_len,
                     w.global_batch, w.precision.word, size, job.cluster.name);
}

double tokens_of(const plan::Job& job) {
  return static_cast<double>(job.workload.global_batch) * static_cast<double>(job.workload.tokens_per_sequence());
}

reports::Search report_of(const plan::OpenJob& open, const search::SearchResult& r) {
  reports::Search s;
  s.tokens_per_step = tokens_of(open.job);
  s.capacity = open.job.cluster.device.memory;
  for (const search::Found& f : r.best) {
    if (!s.best) {
      s.best = plan_of(open, f);
    } else {
      s.runners_up.push_back(plan_of(open, f));
    }
  }
  for (const search::Found& f : r.pareto) {
    s.pareto.push_back(plan_of(open, f));
  }
  for (const search::WithinMemory& w : r.within_memory) {
    s.within_memory.push_back({w.limit, w.best ? std::optional(plan_of(open, *w.best)) : std::nullopt, w.proved});
  }
  for (const auto& [extents, cell] : r.cells) {
    const auto as_seconds = [](const std::optional<Time>& t) { return t ? std::optional(seconds(*t)) : std::nullopt; };
    s.grid.push_back({extents.first, extents.second, as_seconds(cell.step_time), as_seconds(cell.at_least),
                      cell.at_least.has_value(),
                      cell.step_time              ? ""
                      : cell.at_least.has_value() ? "slower than the best plan"
                                                  : "does not fit"});
  }
  s.space = search::to_json(r.space).dump();
  s.plans = r.space.size();
  s.judged = r.judged;
  s.built = r.built;
  s.simulated = r.simulated;
  s.rejected = r.rejected;
  s.best_possible = r.best_possible;
  s.proved = r.proved;
  s.interrupted = r.interrupted;
  s.wall_seconds = r.wall_seconds;
  return s;
}

reports::SearchedSize size_of(const SearchWishes& a, const plan::OpenJob& open, const search::SearchResult& r) {
  reports::SearchedSize size;
  size.nodes = open.job.cluster.nodes;
  size.devices = open.job.cluster.device_count();
  size.proved = r.proved;
  if (!r.best.empty()) {
    size.best = plan_of(open, r.best.front());
    if (a.tokens > 0) {
      const search::RunCost cost =
          search::run_cost(open.job.workload, r.best.front().step_time, size.devices, a.tokens, a.price.value_or(0));
      size.days = cost.seconds / 86400;
      size.device_hours = cost.device_hours;
      size.money = a.price ? std::optional(cost.money) : std::nullopt;
    }
  }
  return size;
}

// The best plan of each size; of the report the search at the knee, or at the largest size.
reports::Search sweep(const SearchWishes& a, const plan::OpenJob& open) {
  std::vector<reports::SearchedSize> sizes;
  std::vector<reports::Search> searches;
  for (const std::int64_t n : a.nodes) {
    const plan::OpenJob at = search::on_nodes(open, n);
    const search::SearchResult r = search::search(at, a.options);
    sizes.push_back(size_of(a, at, r));
    searches.push_back(report_of(at, r));
    if (search::spread(a.options.crew, {},
                       [&] { return a.options.interrupted != nullptr && *a.options.interrupted; })) {
      break;
    }
  }
  std::vector<double> x, y;
  std::vector<std::size_t> with_plan;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i].best) {
      x.push_back(static_cast<double>(sizes[i].devices));
      y.push_back(searches[i].tokens_per_step / seconds(sizes[i].best->step_time));
      with_plan.push_back(i);
      sizes[i].efficiency = (y.back() / x.back()) / (y.front() / x.front());
    }
  }
  std::size_t chosen = with_plan.empty() ? sizes.size() - 1 : with_plan.back();
  if (const auto at = search::knee(x, y)) {
    chosen = with_plan[*at];
    sizes[chosen].is_knee = true;
  }
  reports::Search s = std::move(searches[chosen]);
  s.sizes = std::move(sizes);
  return s;
}

}  // namespace

plan::OpenJob open_job(const SearchWishes& a) {
  if (a.job.path.empty()) {
    throw InputError("a JOB is missing: a file, or a name of 'foretrain list jobs'");
  }
  const std::string& path = a.job.path;
  plan::OpenJob open =
      a.job.text ? plan::open_job_from_text(*a.job.text, path, a.job.overrides)
                 : plan::load_open_job(is_catalogue_name(path) ? catalogue_path(kJobFolder, "job", path) : path,
                                       a.job.overrides);
  if (open.job.cluster.is_hosts()) {
    throw InputError(
        "cluster.system: hosts of a file have their ranks already; expected a system whose devices are alike");
  }
  topologies::load_profile_of(open.job.cluster);
  nlohmann::json given = *open.given;
  for (const std::string& word : a.free) {
    if (word == "all") {
      given = nlohmann::json::object();
    } else if (given.erase(word) == 0) {
      std::vector<std::string> keys{"all"};
      for (const auto& [key, value] : given.items()) {
        keys.push_back(key);
      }
      throw InputError(
          fmt::format("--free: the job's strategy says no \"{}\"; expected of: {}", word, fmt::join(keys, ", ")));
    }
  }
  open.given = std::make_shared<nlohmann::json>(std::move(given));
  return open;
}

reports::Search find_plans(const SearchWishes& a, const plan::OpenJob& open, bool estimates) {
  reports::Search found = a.nodes.empty() ? report_of(open, search::search(open, a.options)) : sweep(a, open);
  found.headline = headline(open.job, a.nodes);
  if (found.best) {
    found.estimate = estimates ? estimate_of(a, found.best->job) : "";
  } else if (!found.interrupted) {
    if (const auto miss = search::smallest(open, a.options)) {
      found.nearest_miss = plan_of(open, *miss);
    }
    if (!open.job.cluster.this_machine && a.nodes.empty()) {
      if (const auto larger = search::smallest_cluster(open, a.options, kMostNodes)) {
        reports::SearchedSize size;
        size.nodes = larger->first;
        size.best = plan_of(search::on_nodes(open, larger->first), larger->second);
        found.smallest_cluster = std::move(size);
      }
    }
  }
  return found;
}

}  // namespace foretrain::cli
