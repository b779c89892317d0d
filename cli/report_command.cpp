#include <fmt/format.h>

#include "base/error.h"
#include "base/output_file.h"
#include "cli/device.h"
#include "cli/files.h"
#include "cli/forecast.h"
#include "cli/recorder.h"
#include "cli/verbs.h"
#include "cli/version.h"
#include "cli/whole_run.h"
#include "plan/build.h"
#include "reports/report.h"
#include "search/sensitivity.h"
#include "sim/link_traffic.h"
#include "topologies/network.h"

namespace foretrain::cli {

namespace {

struct ReportArguments {
  JobArguments job;
  DeviceArguments device;
  ModelArguments models;
  WholeRunArguments whole_run;
  std::string output, search, timeline, format;
};

// By the output's name, where no --format says it; for a terminal text.
std::string format_of(const ReportArguments& a) {
  if (!a.format.empty()) {
    return a.format;
  }
  for (const auto& [ending, format] : {std::pair{".md", "md"}, {".csv", "csv"}, {".txt", "text"}}) {
    if (a.output.ends_with(ending)) {
      return format;
    }
  }
  return a.output.empty() ? "text" : "html";
}

// Of the steps that are simulated the last one.
std::int32_t steady_step(const plan::PlanGraph& graph) {
  return graph.asynchronous ? sim::kAsynchronousSteps - 1 : 2 * plan::period(graph) - 1;
}

// Bars of the steady step; where a measured timeline is to be compared, all spans as well.
class Spans : public plan::SpanSink {
 public:
  Spans(const plan::PlanGraph& graph, bool all) : bars_(graph, steady_step(graph)), recorder_(graph), all_(all) {}

  void span(const plan::Span& s) override {
    ++count_;
    bars_.span(s);
    if (all_) {
      recorder_.span(s);
    }
  }
  std::int64_t count() const { return count_; }
  reports::Pipeline pipeline() const { return bars_.pipeline(); }
  plan::Timeline timeline(const sim::Simulation& s) {
    return recorder_.timeline(fmt::format("simulated: {}, {}", s.compute_model, s.network_model), s.step_ends);
  }

 private:
  reports::PipelineRecorder bars_;
  Recorder recorder_;
  bool all_;
  std::int64_t count_ = 0;
};

std::optional<reports::NetworkUse> network_use(const plan::Job& job, const plan::PlanGraph& graph, Time step) {
  if (job.cluster.shares_devices() || graph.asynchronous) {
    return std::nullopt;
  }
  const auto network = topologies::make_network(job.cluster);
  return reports::network_use(*network, sim::link_busy_seconds(graph, job.cluster, *network), seconds(step));
}

// Simulated ops of a job whose step is simulated once more for each resource: a few seconds' work.
constexpr std::int64_t kMostSpans = 5'000'000;

void add_resources(reports::Report& report, const plan::Job& job, const plan::PlanGraph& graph,
                   const ModelArguments& models, Time step, std::int64_t spans) {
  if (graph.asynchronous) {
    report.no_resources = "What more of each resource would buy is not known of asynchronous jobs.";
  } else if (spans > kMostSpans) {
    report.no_resources = "What more of each resource would buy takes long to find here: 'foretrain explain' says it.";
  } else {
    report.resources = search::sensitivity(job, graph, options_of(models), step);
  }
}

std::string written(const reports::Report& report, const std::string& format, bool colour) {
  return format == "html"  ? reports::to_html(report)
         : format == "md"  ? reports::to_markdown(report)
         : format == "csv" ? reports::to_csv(report)
                           : reports::to_text(report, colour);
}

}  // namespace

int report_command(const std::vector<std::string>& arguments, Console& console) {
  ReportArguments a;
  Options options("report", "everything about one job: a page of HTML that needs nothing beside it, or text");
  a.job.add_to(options);
  a.device.add_to(options);
  options.text("output", "FILE", &a.output, "where it goes; without it, to stdout", 'o');
  options.word("format", &a.format, {"html", "md", "csv", "text"},
               "by the output's name (.html, .md, .csv, .txt); text on stdout");
  options.text("search", "FILE", &a.search,
               "a document of 'foretrain search --json': its plans are shown; without a JOB its best plan is the job");
  options.text("timeline", "FILE", &a.timeline, "a timeline of 'foretrain run': the forecast is compared with it");
  a.models.add_to(options);
  a.whole_run.add_to(options);
  options.examples({"foretrain report job.json -o report.html", "foretrain report job.json tp=4 --format md",
                    "foretrain report job.json --tokens 15T -o report.html",
                    "foretrain report --search search.json -o report.html",
                    "foretrain report job.json --timeline t.json -o report.html"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  const bool wants_run = a.whole_run.wanted();
  std::optional<OutputFile> file;  // opened at once: a path that cannot be written is known before the work
  if (!a.output.empty()) {
    file.emplace(a.output);
  }
  reports::Report report;
  const bool is_best_plan = !a.search.empty() && a.job.path.empty();
  if (!a.search.empty()) {
    const std::string text = read_text(a.search);
    report.search = reports::search_figures(text, a.search);
    if (a.job.path.empty()) {
      a.job.path = a.search;
      a.job.text = reports::best_job(text, a.search);
      if (a.job.text->empty()) {
        throw InputError(fmt::format("{}: the search found no plan that fits; expected a JOB to report on", a.search));
      }
    }
  }
  const plan::Job job = a.device.load(a.job, 1);
  const plan::PlanGraph graph = plan::build(job);
  Spans spans(graph, !a.timeline.empty());
  const sim::Simulation simulation = simulate_into(spans, job, graph, a.models);
  if (!a.timeline.empty()) {
    report.comparison = reports::compare(graph, spans.timeline(simulation), read_timeline(a.timeline));
    report.comparison->predicted_staleness = simulation.staleness;
  }
  report.estimate = forecast(a.job, a.models, job, graph, simulation);
  if (wants_run) {
    report.estimate.whole_run = a.whole_run.forecast(job, report.estimate);
  }
  if (is_best_plan && report.estimate.whole_run && report.estimate.whole_run->price) {
    reports::set_money(*report.search, report.estimate.whole_run->money.mean);
  }
  report.pipeline = spans.pipeline();
  report.network = network_use(job, graph, simulation.step_time);
  add_resources(report, job, graph, a.models, simulation.step_time, spans.count());
  report.program = fmt::format("foretrain {} ({})", kVersion, kCommit);
  if (file) {
    file->write(written(report, format_of(a), false));
    file->commit();
  } else {
    console.result(written(report, format_of(a), console.colour()));
    console.flush();
  }
  if (!report.estimate.fit.fits()) {
    throw InfeasibleError(reports::infeasible_message(report.estimate));
  }
  return kOk;
}

}  // namespace foretrain::cli
