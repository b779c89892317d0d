#include "cli/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "cli/named_hosts.h"
#include "cli/recorder.h"
#include "reports/text.h"
#include "topologies/this_machine.h"

namespace foretrain::cli {

namespace {

constexpr bool kPoison = FORETRAIN_DEBUG_BUILD != 0;  // dead memory is filled with NaN in builds for development

// Spans count from the run's start; the timeline from the first traced step's, or from its first op where that one ran
// ahead of the step before. Its steps end with their last ops.
void start_at(plan::Timeline& timeline, Time origin, int first_step) {
  for (const plan::Span& span : timeline.spans) {
    origin = std::min(origin, span.start);
  }
  for (plan::Span& span : timeline.spans) {
    span.start -= origin;
    span.end -= origin;
    Time& end = timeline.step_ends[static_cast<std::size_t>(span.step - first_step)];
    end = std::max(end, span.end);
  }
}

// Counts takes, and passes on what is traced.
class Takes : public plan::SpanSink {
 public:
  Takes(plan::SpanSink& traced, int first_traced_step) : traced_(traced), first_traced_step_(first_traced_step) {}

  void span(const plan::Span& s) override {
    if (s.sender != -1) {
      const std::lock_guard lock(mutex_);
      takes_.push_back(s);
    }
    if (s.step >= first_traced_step_) {
      traced_.span(s);
    }
  }

  plan::Staleness staleness(const plan::PlanGraph& graph, const MeasureOptions& options) {
    std::stable_sort(takes_.begin(), takes_.end(), [](const plan::Span& a, const plan::Span& b) {
      return std::tie(a.rank, a.step, a.op) < std::tie(b.rank, b.step, b.op);
    });
    const plan::Meets all_meet = [&](std::int64_t clock) {
      return options.keeper != nullptr && options.keeper->wants(static_cast<int>(clock));
    };
    plan::StalenessCount count(graph, options.first_step, all_meet);
    for (const plan::Span& s : takes_) {
      count.span(s);
    }
    return count.of_updates();
  }

  std::vector<std::int64_t> updates(const plan::PlanGraph& graph) const {
    std::map<plan::Rank, std::vector<std::int64_t>> of_servers;
    for (const plan::Span& s : takes_) {
      std::vector<std::int64_t>& of_workers = of_servers[s.rank];
      of_workers.resize(static_cast<std::size_t>(graph.data_ranks()));
      if (plan::is_update(s.sender)) {
        ++of_workers[static_cast<std::size_t>(s.sender)];
      }
    }
    std::vector<std::int64_t> least;
    for (const auto& [server, of_workers] : of_servers) {
      least = least.empty() ? of_workers : least;
      std::transform(least.begin(), least.end(), of_workers.begin(), least.begin(),
                     [](std::int64_t a, std::int64_t b) { return std::min(a, b); });
    }
    return least;
  }

 private:
  plan::SpanSink& traced_;
  const int first_traced_step_;
  std::mutex mutex_;
  std::vector<plan::Span> takes_;
};

}  // namespace

void check_runnable(const JobArguments& arguments, const plan::Job& job, const plan::PlanGraph& graph,
                    const exec::Processes& processes, const DeviceArguments& device) {
  if (!job.cluster.this_machine) {
    throw InputError(
        fmt::format("{}: /cluster/system: \"{}\" is not this machine; only jobs of \"this-machine\" can be "
                    "run here (override: system=this-machine)",
                    job.origin, job.cluster.name));
  }
  if (job.cluster.is_gpu && !device.is_gpu()) {
    throw InputError(fmt::format("{}: /cluster/system: \"{}\" is a GPU; expected --device cuda beside it", job.origin,
                                 job.cluster.name));
  }
  in_order_of_hosts(job, processes);
  const std::vector<int> of_processes = processes.hosts();
  const int hosts = 1 + *std::max_element(of_processes.begin(), of_processes.end());
  if (job.cluster.is_hosts() && job.cluster.nodes != hosts) {
    throw InputError(
        fmt::format("{}: /cluster/nodes: the job is of {} hosts, and this was started on {}; start `run` "
                    "over {} hosts with mpirun (`scripts/hosts run` for network namespaces); `compare "
                    "--timeline` takes the timeline that it writes",
                    job.origin, job.cluster.nodes, hosts, job.cluster.nodes));
  }
  if (device.is_gpu()) {
    return;
  }
  plan::MemoryFit fit = plan::memory_fit(job, graph);
  if (!fit.fits()) {
    reports::Estimate estimate;
    estimate.job = &job;
    estimate.graph = &graph;
    estimate.fit = std::move(fit);
    estimate.fixes = fixes(arguments, job);
    throw InfeasibleError(reports::infeasible_message(estimate));
  }
}

exec::RunOptions run_options(std::chrono::milliseconds timeout, const InterruptWatch& watch) {
  exec::RunOptions options;
  options.timeout = timeout;
  options.interrupted = watch.flag();
  options.poison = kPoison;
  return options;
}

void hold_back(MeasureOptions& options, const plan::Job& job, const plan::PlanGraph& graph) {
  options.storage = plan::read_rate(graph, job.cluster);
  const std::vector<topologies::SpeedRange>& slow = job.cluster.disturbance.devices;
  for (plan::Rank r = 0; r < graph.mesh.ranks() && !slow.empty(); ++r) {
    options.speeds.push_back(topologies::speed_of(slow, r));
  }
}

Measurement measure(exec::Executor& executor, const plan::PlanGraph& graph, const MeasureOptions& options,
                    const InterruptWatch& watch, const Console& console) {
  Progress progress(console, "running");
  Recorder recorder(graph);
  exec::RunOptions run = run_options(options.timeout, watch);
  run.steps = options.steps;
  run.first_traced_step = options.first_step + options.steps - options.traced_steps;
  run.speeds = options.speeds;
  run.storage = options.storage;
  run.keeper = options.keeper;
  run.grace = options.keeper != nullptr ? options.timeout : run.grace;
  run.on_lost = options.lost;
  run.sink = options.traced_steps > 0 ? &recorder : nullptr;
  Takes takes(recorder, run.first_traced_step);
  if (graph.asynchronous) {
    run.sink = &takes;
    run.first_traced_step = options.first_step;
  }
  std::vector<Time> stolen;  // of each step
  double stolen_before = topologies::stolen_seconds();
  run.on_step = [&](int step, double loss, double seconds) {
    const double stolen_now = topologies::stolen_seconds();
    stolen.push_back(time_from_seconds(stolen_now - std::exchange(stolen_before, stolen_now)));
    progress.update(static_cast<double>(step + 1 - options.first_step) / options.steps,
                    fmt::format("loss {:.4f}, {} per step", loss, reports::seconds_text(seconds)));
  };
  Measurement m;
  m.result = executor.run(run);
  options.ended(options.first_step + static_cast<int>(m.result.loss.size()));
  watch.throw_if_interrupted();
  if (static_cast<int>(m.result.loss.size()) < options.steps) {
    throw Interrupted();  // another process was
  }
  m.staleness = takes.staleness(graph, options);
  m.updates = takes.updates(graph);
  if (options.traced_steps > 0) {
    const auto first = m.result.step_seconds.end() - options.traced_steps;
    const Time origin = time_from_seconds(std::accumulate(m.result.step_seconds.begin(), first, 0.0));
    m.timeline = recorder.timeline(fmt::format("measured: {}, threads", options.device),
                                   std::vector<Time>(static_cast<std::size_t>(options.traced_steps)));
    m.timeline.stolen.assign(stolen.end() - options.traced_steps, stolen.end());
    start_at(m.timeline, origin, options.first_step + options.steps - options.traced_steps);
  }
  return m;
}

}  // namespace foretrain::cli
