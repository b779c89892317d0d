#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/files.h"
#include "cli/measure.h"
#include "cli/verbs.h"
#include "exec/evaluate.h"
#include "exec/verify.h"
#include "plan/build.h"
#include "reports/run.h"

namespace foretrain::cli {

namespace {

constexpr std::int64_t kTracedSteps = 10;
constexpr std::int64_t kMost = 1'000'000'000;

struct RunArguments {
  JobArguments job;
  std::int64_t steps = 20, seed = 1, timeout_seconds = 60, sample = 0;
  std::string data_path, timeline_path, trace_path;
  bool verify = false, json = false;
};

reports::Verification verified(const plan::Job& job, const plan::PlanGraph& graph, const exec::DataSource& data,
                               const RunArguments& arguments, const exec::RunOptions& run) {
  exec::VerifyOptions options;
  options.seed = static_cast<std::uint64_t>(arguments.seed);
  options.timeout = run.timeout;
  options.interrupted = run.interrupted;
  options.poison = run.poison;
  const workloads::Precision& precision = job.workload.precision;
  const exec::Course one_rank = exec::train(plan::build(plan::one_rank_job(job)), precision, data, options);
  const exec::Verification v = exec::verify(graph, one_rank, precision, data, options);
  return {v.max_rel_loss,    v.max_rel_grad, v.tolerance.loss, v.tolerance.gradient,
          v.tolerance.steps, v.passed,       v.worst_tensor};
}

std::string sampled(exec::Executor& executor, const plan::PlanGraph& graph, const RunArguments& arguments,
                    const exec::RunOptions& run) {
  exec::SampleOptions options;
  options.count = static_cast<int>(arguments.sample);
  options.seed = static_cast<std::uint64_t>(arguments.seed);
  options.run = run;
  return exec::sample(executor, graph, options);
}

// Bytes that a model writes need not be UTF-8; what is not is shown as "?".
std::string printable(const std::string& bytes) {
  std::string out;
  for (const char c : bytes) {
    out += (c >= ' ' && c <= '~') || c == '\n' || c == '\t' ? c : '?';
  }
  return out;
}

struct Trained {
  const plan::Job& job;
  const plan::PlanGraph& graph;
  const exec::Text& text;
  const exec::TextWindows& windows;
  exec::Executor& executor;
};

// What the run was worth: its loss on unseen text, what it writes, whether one rank learns the same.
void judge(reports::RunReport& report, const Trained& t, const RunArguments& a, const exec::RunOptions& run,
           const InterruptWatch& watch, const Console& console) {
  Progress progress(console, "");
  progress.phase("validating");
  report.validation_loss = exec::validation_loss(t.executor, t.graph, t.job.workload.model.vocab, t.text, run);
  report.unigram_loss = exec::unigram_loss(t.text);
  watch.throw_if_interrupted();
  if (a.sample > 0) {
    progress.phase("sampling");
    report.sample = printable(sampled(t.executor, t.graph, a, run));
    watch.throw_if_interrupted();
  }
  if (a.verify) {
    progress.phase("verifying against one rank");
    report.verification = verified(t.job, t.graph, t.windows, a, run);
    watch.throw_if_interrupted();
  }
}

void add_options(Options& options, RunArguments& a) {
  a.job.add_to(options);
  options.integer("steps", &a.steps, 1, kMost, "training steps [20]");
  options.integer("seed", &a.seed, 0, INT64_MAX, "of parameters, data order and sample [1]");
  options.text("data", "PATH", &a.data_path, "text to train on, instead of the job's or the built-in one");
  options.flag("verify", &a.verify, "also trains on one rank and compares losses and gradients; exit 4 if they differ");
  options.integer("sample", &a.sample, 1, kMost, "prints N bytes that the trained model writes");
  options.text("timeline", "FILE", &a.timeline_path, "writes when each op of the last ten steps ran (JSON)");
  options.text("trace", "FILE", &a.trace_path, "writes the same as a trace for ui.perfetto.dev");
  options.integer("timeout", &a.timeout_seconds, 1, kMost / 1000, "seconds a rank waits for the others [60]");
  options.flag("json", &a.json, "one document, foretrain.run/1");
  for (const char* name : {"checkpoint", "checkpoint-every", "resume"}) {
    options.refused(name, "checkpoints are not built yet");
  }
  options.examples({"foretrain run job.json --steps 50", "foretrain run job.json tp=2 dp=2 --verify",
                    "foretrain run job.json --steps 300 --sample 200",
                    "foretrain run job.json --steps 20 --timeline t.json --trace run.trace.json"});
}

}  // namespace

int run_command(const std::vector<std::string>& arguments, Console& console) {
  RunArguments a;
  Options options("run", "trains a job for real on this machine, ranks as threads");
  add_options(options, a);
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  const plan::Job job = a.job.load();
  const plan::PlanGraph graph = plan::build(job);
  check_runnable(a.job, job, graph);
  const workloads::Workload& w = job.workload;
  const exec::Text text = exec::load_text(a.data_path.empty() ? w.data.path : a.data_path);
  const exec::TextWindows windows =
      exec::training_windows(text, w.seq_len, w.global_batch, w.model.vocab, static_cast<std::uint64_t>(a.seed));

  OutputFiles files(a.timeline_path, a.trace_path);
  const InterruptWatch watch;
  const exec::RunOptions run = run_options(std::chrono::seconds(a.timeout_seconds), watch);
  exec::Executor executor(graph, windows, static_cast<std::uint64_t>(a.seed));
  MeasureOptions measure_options;
  measure_options.steps = static_cast<int>(a.steps);
  measure_options.traced_steps = files.wanted() ? static_cast<int>(std::min(a.steps, kTracedSteps)) : 0;
  measure_options.timeout = run.timeout;
  const Measurement m = measure(executor, graph, measure_options, watch, console);

  reports::RunReport report;
  report.job = &job;
  report.ranks = graph.mesh.ranks();
  report.step_seconds = m.result.step_seconds;
  report.loss = m.result.loss;
  report.grad_norm = m.result.grad_norm;
  report.arena = m.result.arena;
  report.workspace = m.result.library_workspace;
  report.data = text.name;
  report.timeline_path = a.timeline_path;
  judge(report, Trained{job, graph, text, windows, executor}, a, run, watch, console);
  files.write_timeline(m.timeline);
  files.write_trace(graph, {reports::traced(m.timeline, "measured")});
  console.result(a.json ? reports::to_json(report).dump(2) + "\n" : reports::to_text(report, console.colour()));
  return report.verification && !report.verification->passed ? kThresholdBreached : kOk;
}

}  // namespace foretrain::cli
