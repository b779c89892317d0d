#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/catalogue.h"
#include "base/error.h"
#include "base/output_file.h"
#include "cli/forecast.h"
#include "cli/interrupt.h"
#include "cli/verbs.h"
#include "cli/whole_run.h"
#include "plan/build.h"
#include "plan/open_job.h"
#include "reports/search.h"
#include "reports/text.h"
#include "search/node_sweep.h"
#include "search/plan_search.h"
#include "search/whole_run.h"
#include "topologies/profile.h"

namespace foretrain::cli {

namespace {

constexpr std::int64_t kMostNodes = 1 << 17;
constexpr std::int64_t kMostKept = 1000;

struct SearchArguments {
  JobArguments job;
  std::string free, axes, nodes, tokens, output;
  std::int64_t keep = 10;
  std::optional<double> price, within, time;
};

std::vector<std::string> words_of(const std::string& text, char between) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(between, at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

// "8", "8..512" doubling, "8,12,16".
std::vector<std::int64_t> parse_nodes(const std::string& text) {
  const auto refuse = [&]() -> InputError {
    return InputError(
        fmt::format("--nodes: \"{}\" is not allowed; expected FROM..TO, sizes doubling, as 8..512, or a "
                    "list as 8,12,16, from 1 to {}",
                    text, kMostNodes));
  };
  const auto whole = [&](const std::string& word) {
    if (word.empty() || word.size() > 6 || word.find_first_not_of("0123456789") != std::string::npos) {
      throw refuse();
    }
    const std::int64_t n = std::stoll(word);
    if (n < 1 || n > kMostNodes) {
      throw refuse();
    }
    return n;
  };
  std::vector<std::int64_t> all;
  if (const std::size_t dots = text.find(".."); dots != std::string::npos) {
    const std::int64_t from = whole(text.substr(0, dots)), to = whole(text.substr(dots + 2));
    for (std::int64_t n = from; n <= to; n *= 2) {
      all.push_back(n);
    }
  } else {
    for (const std::string& word : words_of(text, ',')) {
      all.push_back(whole(word));
    }
  }
  if (all.empty() || !std::is_sorted(all.begin(), all.end(), std::less_equal<>())) {
    throw refuse();
  }
  return all;
}

plan::OpenJob load(const SearchArguments& a) {
  if (a.job.path.empty()) {
    throw InputError("a JOB is missing: a file, or a name of 'foretrain list jobs'");
  }
  plan::OpenJob open = plan::load_open_job(
      is_catalogue_name(a.job.path) ? catalogue_path(kJobFolder, "job", a.job.path) : a.job.path, a.job.overrides);
  if (open.job.cluster.is_hosts()) {
    throw InputError(
        "cluster.system: hosts of a file have their ranks already; expected a system whose devices are alike");
  }
  topologies::load_profile_of(open.job.cluster);
  nlohmann::json given = *open.given;
  for (const std::string& word : words_of(a.free, ',')) {
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

reports::SearchedPlan plan_of(const plan::OpenJob& open, const search::Found& f) {
  reports::SearchedPlan p;
  p.job = plan::document_of(open, search::strategy_of(open, f.shape, f.tail)).dump(2);
  p.step_time = f.step_time;
  p.memory = f.memory;
  p.breakdown = f.breakdown;
  return p;
}

// The same figures as `estimate` prints of the file.
std::string estimate_of(const SearchArguments& a, const std::string& document) {
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
  return static_cast<double>(job.workload.global_batch) *
         static_cast<double>(std::max<std::int64_t>(1, job.workload.seq_len));
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

reports::SearchedSize size_of(const SearchArguments& a, const plan::OpenJob& open, const search::SearchResult& r) {
  reports::SearchedSize size;
  size.nodes = open.job.cluster.nodes;
  size.devices = open.job.cluster.device_count();
  size.proved = r.proved;
  if (!r.best.empty()) {
    size.best = plan_of(open, r.best.front());
    if (!a.tokens.empty()) {
      const search::RunCost cost = search::run_cost(open.job.workload, r.best.front().step_time, size.devices,
                                                    parse_tokens(a.tokens), a.price.value_or(0));
      size.days = cost.seconds / 86400;
      size.device_hours = cost.device_hours;
      size.money = a.price ? std::optional(cost.money) : std::nullopt;
    }
  }
  return size;
}

// The best plan of each size; of the report the search at the knee, or at the largest size.
reports::Search sweep(const SearchArguments& a, const plan::OpenJob& open, const search::SearchOptions& options,
                      const std::vector<std::int64_t>& nodes) {
  std::vector<reports::SearchedSize> sizes;
  std::vector<reports::Search> searches;
  for (const std::int64_t n : nodes) {
    const plan::OpenJob at = search::on_nodes(open, n);
    const search::SearchResult r = search::search(at, options);
    sizes.push_back(size_of(a, at, r));
    searches.push_back(report_of(at, r));
    if (*options.interrupted) {
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

int search_command(const std::vector<std::string>& arguments, Console& console) {
  SearchArguments a;
  bool json = false;
  Options options("search", "finds the fastest strategy for a job on a cluster, and proves it under the model");
  a.job.add_to(options);
  options.text("free", "WORDS", &a.free, "searches words that the job's strategy says: tp,pp, or all of them");
  options.text("axis", "AXIS=VALUES", &a.axes, "values of an axis: tp=2,4,8; more of them with ; between");
  options.text("nodes", "SIZES", &a.nodes, "a search for each size of the cluster: 8..512 doubling, or 8,12,16");
  options.text("tokens", "N", &a.tokens,
               "with days and device-hours of a run over so many tokens, as 15T (of --nodes)");
  options.number("price", &a.price, 0, "with money: of a device for an hour, in any currency (of --tokens)");
  options.number("within", &a.within, 0,
                 "ends when no plan can be faster by more than this part: 0.01 [0: proved best]");
  options.number("time", &a.time, 0, "ends after so many seconds with the best so far");
  options.integer("keep", &a.keep, 1, kMostKept, "so many of the best plans [10]");
  options.text("output", "FILE", &a.output, "writes the best plan as a job file", 'o');
  options.flag("json", &json, "one document, foretrain.search/1");
  options.examples({"foretrain search llama3-70b-64-h100 --free all", "foretrain search job.json -o best.json",
                    "foretrain search job.json --axis 'tp=4,8;pp=1,2,4' --json",
                    "foretrain search llama3-70b-64-h100 --free all --nodes 4..64 --tokens 1T --price 2.5"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (a.within && *a.within >= 1) {
    throw InputError(fmt::format("--within: {:g} is not allowed; expected a part from 0 to below 1", *a.within));
  }
  if ((!a.tokens.empty() && a.nodes.empty()) || (a.price && a.tokens.empty())) {
    throw InputError(a.nodes.empty()
                         ? "--tokens goes with --nodes: days of each size; of one plan 'foretrain estimate' says more"
                         : "--price goes with --tokens");
  }
  check_price(a.price);
  if (!a.tokens.empty()) {
    parse_tokens(a.tokens);
  }
  const plan::OpenJob open = load(a);
  std::vector<std::int64_t> nodes;
  if (!a.nodes.empty()) {
    if (open.job.cluster.this_machine) {
      throw InputError("--nodes: this-machine is one; expected a system of 'foretrain list systems'");
    }
    nodes = parse_nodes(a.nodes);
  }
  std::optional<OutputFile> file;  // opened at once: a path that cannot be written is known before the work
  if (!a.output.empty()) {
    file.emplace(a.output);
  }

  const InterruptWatch watch;
  Progress progress(console, "searching");
  search::SearchOptions wanted;
  wanted.axes = words_of(a.axes, ';');
  wanted.kept = static_cast<std::size_t>(a.keep);
  wanted.within = a.within.value_or(0);
  wanted.most_seconds = a.time.value_or(0);
  wanted.interrupted = watch.flag();
  wanted.on_progress = [&](const search::SearchProgress& p) {
    progress.update(p.fraction, fmt::format("{} judged, {} simulated{}", reports::count(p.judged), p.simulated,
                                            p.best == nullptr ? "" : ", best " + to_string(p.best->step_time)));
  };
  reports::Search found;
  if (nodes.empty()) {
    found = report_of(open, search::search(open, wanted));
  } else {
    found = sweep(a, open, wanted, nodes);
  }
  found.headline = headline(open.job, nodes);
  if (found.best) {
    found.estimate = estimate_of(a, found.best->job);
    if (file) {
      file->write(found.best->job + "\n");
      file->commit();
    }
  } else if (!found.interrupted) {
    if (const auto miss = search::smallest(open, wanted)) {
      found.nearest_miss = plan_of(open, *miss);
    }
    if (!open.job.cluster.this_machine && nodes.empty()) {
      if (const auto larger = search::smallest_cluster(open, wanted, kMostNodes)) {
        reports::SearchedSize size;
        size.nodes = larger->first;
        size.best = plan_of(search::on_nodes(open, larger->first), larger->second);
        found.smallest_cluster = std::move(size);
      }
    }
  }
  progress.update(1, "");
  console.result(json ? reports::to_json(found).dump(2) + "\n" : reports::to_text(found, console.colour()));
  console.flush();
  watch.throw_if_interrupted();
  if (!found.best) {
    throw InfeasibleError(reports::infeasible_message(found));
  }
  return kOk;
}

}  // namespace foretrain::cli
