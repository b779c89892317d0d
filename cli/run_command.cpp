#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "cli/checkpointing.h"
#include "cli/files.h"
#include "cli/measure.h"
#include "cli/named_hosts.h"
#include "cli/run_data.h"
#include "cli/run_weights.h"
#include "cli/supervise.h"
#include "cli/together.h"
#include "cli/verbs.h"
#include "exec/evaluate.h"
#include "exec/verify.h"
#include "plan/build.h"
#include "plan/host_traffic.h"
#include "reports/run.h"
#include "workloads/unicode.h"

namespace foretrain::cli {

namespace {

constexpr std::int64_t kTracedSteps = 10;
constexpr std::int64_t kMost = 1'000'000'000;
constexpr const char* kNewLine = "\n";

struct RunArguments {
  JobArguments job;
  DeviceArguments device;
  DataArguments data;
  WeightArguments weights;
  std::string prompt = kNewLine;
  std::int64_t steps = 0;  // 0: not given
  std::int64_t seed = 1, timeout_seconds = 60, sample = 0;
  std::string timeline_path, trace_path;
  bool verify = false, json = false;
  CheckpointArguments checkpoint;
  SuperviseArguments supervise;
};

struct Trained {
  const plan::Job& job;
  const plan::PlanGraph& graph;
  const TrainingData& data;
  exec::Executor& executor;
  exec::Processes& processes;
  exec::Gpu* gpu;
};

reports::Verification verified(const Trained& t, const RunArguments& arguments, const exec::RunOptions& run) {
  exec::VerifyOptions options;
  options.seed = static_cast<std::uint64_t>(arguments.seed);
  options.timeout = run.timeout;
  options.interrupted = run.interrupted;
  options.poison = run.poison;
  options.gpu = t.gpu;
  const exec::Tolerance tolerance = exec::tolerance_of(t.job);
  exec::Course one_rank;
  if (t.processes.number() == 0) {
    one_rank = exec::train(plan::build(plan::one_rank_job(t.job)), tolerance, t.data.source(), options);
  }
  options.processes = &t.processes;
  const exec::Verification v = exec::verify(t.graph, one_rank, tolerance, t.data.source(), options);
  return {v.max_rel_loss,    v.max_rel_grad, v.tolerance.loss, v.tolerance.gradient,
          v.tolerance.steps, v.passed,       v.worst_tensor};
}

std::string sampled(exec::Executor& executor, const plan::PlanGraph& graph, const exec::Text& text,
                    const RunArguments& arguments, const exec::RunOptions& run) {
  exec::SampleOptions options;
  options.prompt = arguments.prompt.empty() ? options.prompt : arguments.prompt;
  options.count = static_cast<int>(arguments.sample);
  options.seed = static_cast<std::uint64_t>(arguments.seed);
  options.run = run;
  return exec::sample(executor, graph, text, options);
}

// Bytes that a model writes need not be UTF-8; what is not, and control characters, are shown as "?".
std::string printable(const std::string& bytes) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size();) {
    const workloads::CodePoint c = workloads::code_point(bytes, at);
    const bool prints =
        c.value != workloads::kNoCodePoint &&
        (c.value == U'\n' || c.value == U'\t' || workloads::category(c.value) != workloads::Category::other);
    out += prints ? bytes.substr(at, c.bytes) : "?";
    at += c.bytes;
  }
  return out;
}

// What the run was worth: its loss on unseen text, what it writes, whether one rank learns the same.
void judge(reports::RunReport& report, const Trained& t, const RunArguments& a, const exec::RunOptions& run,
           const InterruptWatch& watch, const Console& console) {
  Progress progress(console, "");
  progress.phase("validating");
  report.validation_loss = t.data.validation_loss(t.executor, t.graph, run);
  if (t.data.is_text()) {
    report.unigram_loss = exec::unigram_loss(t.data.text());
    if (!t.job.workload.model.is_encoder()) {  // what is told of masked tokens is not the text
      report.bytes_per_token = exec::bytes_per_id(t.data.text());
    }
  }
  watch.throw_if_interrupted();
  if (t.job.workload.model.is_classifier()) {
    const exec::Classified classified = t.data.classified(t.executor, t.graph, run);
    report.classified = {classified.sequences, classified.right};
    watch.throw_if_interrupted();
  }
  if (t.job.workload.data.synthetic == workloads::Synthetic::reverse) {
    const exec::Answers answers = exec::answers(t.executor, t.graph, t.job.workload.model.vocab, t.data.text(), run);
    report.answered = {answers.sequences, answers.right_sequences, answers.tokens, answers.right_tokens};
    watch.throw_if_interrupted();
  }
  if (a.sample > 0) {
    progress.phase("sampling");
    report.sample = printable(sampled(t.executor, t.graph, t.data.text(), a, run));
    watch.throw_if_interrupted();
  }
  if (a.verify) {
    progress.phase("verifying against one rank");
    report.verification = verified(t, a, run);
    watch.throw_if_interrupted();
  }
}

void add_options(Options& options, RunArguments& a) {
  a.job.add_to(options);
  a.device.add_to(options);
  a.device.add_deterministic_to(options);
  options.integer("steps", &a.steps, 1, kMost,
                  "training steps, fewer where the job's epochs are over [20, or its epochs]");
  options.integer("seed", &a.seed, 0, INT64_MAX, "of parameters, data order and sample [1]");
  a.data.add_to(options);
  a.weights.add_to(options);
  options.flag("verify", &a.verify, "also trains on one rank and compares losses and gradients; exit 4 if they differ");
  options.integer("sample", &a.sample, 1, kMost, "prints N tokens that the trained model writes");
  options.text("prompt", "TEXT", &a.prompt, "what they go on from [a new line]");
  options.text("timeline", "FILE", &a.timeline_path, "writes when each op of the last ten steps ran (JSON)");
  options.text("trace", "FILE", &a.trace_path, "writes the same as a trace for ui.perfetto.dev");
  options.integer("timeout", &a.timeout_seconds, 1, kMost / 1000, "seconds a rank waits for the others [60]");
  options.flag("json", &a.json, "one document, foretrain.run/1");
  a.checkpoint.add_to(options);
  a.supervise.add_to(options);
  options.examples({"foretrain run job.json --steps 50", "foretrain run job.json tp=2 dp=2 --verify",
                    "foretrain run job.json --steps 300 --sample 200",
                    "foretrain run job.json --steps 20 --timeline t.json --trace run.trace.json",
                    "foretrain run job.json --steps 300 --checkpoint c --checkpoint-every 50 --max-restarts 3"});
}

// An encoder sees what comes behind a token, too; and a decoder behind one answers a sequence.
void check_sample(const RunArguments& a, const plan::Job& job) {
  const workloads::Model& model = job.workload.model;
  for (const auto& [option, given] : {std::pair{"--sample", a.sample > 0}, {"--prompt", a.prompt != kNewLine}}) {
    if (given && model.is_dense()) {
      throw InputError(
          fmt::format("{}: the model is one of features and writes no text; expected no {}", option, option));
    }
    if (given && model.is_encoder_decoder()) {
      throw InputError(fmt::format(
          "{}: the model is an encoder_decoder, which answers a sequence and goes on from no text; expected "
          "a decoder, or no {}",
          option, option));
    }
    if (given && job.strategy.loss_chunks > 1) {
      throw InputError(fmt::format(
          "{}: with strategy.loss_chunks {} only the last chunk's logits are there in the end, and text goes "
          "on from any token's; expected loss_chunks 1, or no {}",
          option, job.strategy.loss_chunks, option));
    }
    if (given && model.is_encoder()) {
      throw InputError(
          fmt::format("{}: the model is an encoder, which tells {} and writes no text; expected a decoder, or no {}",
                      option, model.is_classifier() ? "a class" : "masked tokens", option));
    }
  }
}

// One rank waits for nobody, has no residuals, and nothing to drift apart from.
void check_verify(const RunArguments& a, const plan::Strategy& s) {
  if (!a.verify) {
    return;
  }
  if (s.staleness) {
    throw InputError(
        "--verify: updates that do not wait for each other are not those of one rank; expected a job "
        "without staleness");
  }
  if (s.drifting() > 1) {
    throw InputError(
        "--verify: with data_parallel local_sgd replicas take steps that one rank does not; expected all_reduce, or no "
        "--verify");
  }
  if (s.compression.kind == plan::CompressionKind::int8) {
    throw InputError(
        "--verify: compression int8 rounds small gradients that share a scale with large ones to few bits or none, and "
        "adds what is lost to the next step's; expected fp16, bf16, topk:1, or no --verify");
  }
  if (s.compression.kind == plan::CompressionKind::top_k && s.compression.share < 1) {
    throw InputError(
        fmt::format("--verify: compression {} puts most gradients off to later steps, as one rank does "
                    "not; expected topk:1, another compression, or no --verify",
                    name(s.compression)));
  }
}

// --steps counts the whole run's.
std::int64_t steps_left(const RunArguments& a, const Checkpointing& checkpointing) {
  if (a.steps < checkpointing.first_step()) {
    throw InputError(
        fmt::format("--steps: \"{}\" is not allowed: {} steps are done, and it counts the whole run's; "
                    "expected more",
                    a.steps, checkpointing.first_step()));
  }
  return a.steps - checkpointing.first_step();
}

// What hosts send each other by the plan, as far as it tells: not where tokens choose their experts, servers do not
// wait, or a GPU's library sends it.
std::optional<plan::HostTraffic> told_traffic(const plan::Job& job, const plan::PlanGraph& graph,
                                              const exec::Processes& processes, bool on_gpu, std::int64_t first_step,
                                              std::int64_t steps) {
  if (on_gpu || graph.asynchronous || job.workload.model.moe.experts > 0) {
    return std::nullopt;
  }
  const std::vector<int> hosts = processes.hosts();
  const std::int64_t ranks = graph.mesh.ranks(), each = ranks / processes.count();
  std::vector<int> host_of;
  for (plan::Rank r = 0; r < ranks; ++r) {
    host_of.push_back(hosts[static_cast<std::size_t>(r / each)]);
  }
  return plan::host_traffic(graph, host_of, first_step, steps);
}

// Whom the run has gone on without, by now.
std::vector<reports::Lost> lost_ranks(const exec::Processes& processes, const plan::PlanGraph& graph,
                                      const Measurement& m, std::int64_t first_step) {
  const std::int64_t each = graph.mesh.ranks() / processes.count();
  std::vector<int> lost = processes.lost();
  std::sort(lost.begin(), lost.end());
  std::vector<reports::Lost> ranks;
  for (const int p : lost) {
    for (std::int64_t r = p * each; r < (p + 1) * each; ++r) {
      const auto worker = static_cast<std::size_t>(r);  // workers come first, by rank
      ranks.push_back({r, processes.places()[static_cast<std::size_t>(p)].host,
                       first_step + (worker < m.updates.size() ? m.updates[worker] : 0)});
    }
  }
  return ranks;
}

int run_job(const RunArguments& a, const plan::Job& job, const plan::PlanGraph& graph, const TrainingData& data,
            exec::Processes& processes, exec::Gpu* gpu, Console& console) {
  const auto seed = static_cast<std::uint64_t>(a.seed);
  const bool writes = processes.number() == 0;
  OutputFiles files(writes ? a.timeline_path : "", writes ? a.trace_path : "");
  const InterruptWatch watch;
  const exec::RunOptions run = run_options(std::chrono::seconds(a.timeout_seconds), watch);
  exec::Executor executor(graph, data.source(), seed, &processes, gpu);
  a.weights.load(executor, graph, job);
  if (processes.count() > 1) {
    console.note(rank_table(processes, job.strategy));
  }
  Checkpointing checkpointing(a.checkpoint, job, seed, data.name() + ": " + data.amount(), run.timeout, executor,
                              processes, console);
  const std::int64_t steps = steps_left(a, checkpointing);
  MeasureOptions measure_options;
  measure_options.first_step = checkpointing.first_step();
  measure_options.steps = static_cast<int>(steps);
  measure_options.traced_steps =
      a.timeline_path.empty() && a.trace_path.empty() ? 0 : static_cast<int>(std::min(steps, kTracedSteps));
  measure_options.device = a.device.word;
  hold_back(measure_options, job, graph);
  measure_options.timeout = run.timeout;
  measure_options.keeper = checkpointing.keeper();
  measure_options.lost = [&](const std::string& who) { console.warning(who + ": the others go on"); };
  measure_options.ended = [&](int steps_done) { checkpointing.ended(steps_done, steps_done < a.steps); };
  const Measurement m = measure(executor, graph, measure_options, watch, console);
  if (m.result.loss.empty() && !a.weights.gradients_path.empty()) {
    throw InputError("--dump-gradients: no step was left to run, so that there are no gradients");
  }
  a.weights.save(executor, job, data.text(), writes);
  processes.all_gather("");  // nobody begins to validate while it is written

  reports::RunReport report;
  report.job = &job;
  report.ranks = graph.mesh.ranks();
  report.first_step = checkpointing.first_step();
  report.checkpoint_folder = a.checkpoint.folder;
  report.checkpoint_copies = checkpointing.copies();
  report.step_seconds = m.result.step_seconds;
  report.staleness = m.staleness;
  report.loss = m.result.loss;
  report.grad_norm = m.result.grad_norm;
  report.loss_scale = m.result.loss_scale;
  report.arena = m.result.arena;
  report.workspace = m.result.library_workspace;
  report.of_storage = Bytes{m.result.read.of_storage};
  report.of_cache = Bytes{m.result.read.of_cache};
  report.sent = m.result.sent;
  report.told = told_traffic(job, graph, processes, gpu != nullptr, checkpointing.first_step(), steps);
  report.data = data.name();
  report.epoch = data.epoch();
  report.ids_are_bytes = data.text().is_bytes;
  report.timeline_path = a.timeline_path;
  judge(report, Trained{job, graph, data, executor, processes, gpu}, a, run, watch, console);
  report.lost = lost_ranks(processes, graph, m, report.first_step);
  report.updates = std::accumulate(m.updates.begin(), m.updates.end(), std::int64_t{0});
  files.write_timeline(m.timeline);
  files.write_trace(graph, {reports::traced(m.timeline, "measured")});
  console.result(a.json ? reports::to_json(report).dump(2) + "\n" : reports::to_text(report, console.colour()));
  return report.verification && !report.verification->passed ? kThresholdBreached : kOk;
}

}  // namespace

int run_command(const std::vector<std::string>& arguments, Console& console) {
  RunArguments a;
  Options options("run", "trains a job for real on this machine, ranks as threads or as processes that mpirun started");
  add_options(options, a);
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  a.checkpoint.check();
  if (!exec::has_launcher() && a.supervise.launch.empty()) {
    a.supervise.launch = launch_words(a.job.load());
  }
  if (a.supervise.wanted()) {
    // Ranks that wait for a stopped one end by themselves: that is longer than they need.
    const std::chrono::seconds patience(2 * a.timeout_seconds + 1);
    return supervise(arguments, a.supervise, a.checkpoint.folder, patience, console);
  }
  const std::unique_ptr<exec::Processes> processes = exec::join_processes(std::chrono::seconds(a.timeout_seconds));
  plan::Job job;
  plan::PlanGraph graph;
  std::unique_ptr<const TrainingData> data;
  std::unique_ptr<exec::Gpu> gpu;
  const auto prepare = [&] {
    job = a.job.load();
    graph = plan::build(job);
    check_runnable(a.job, job, graph, *processes, a.device);
    gpu = a.device.open(*processes);
    a.weights.check(job);
    check_sample(a, job);
    check_verify(a, job.strategy);
    a.data.apply(job.workload);
    data = std::make_unique<const TrainingData>(job, static_cast<std::uint64_t>(a.seed));
    a.steps = data->steps(a.steps > 0 ? std::optional(a.steps) : std::nullopt);
    return plan::resolved(job).dump() + data->fingerprint();
  };
  return together(*processes, console, prepare, [&] {
    take_seats(job, *processes, console);
    return run_job(a, job, graph, *data, *processes, gpu.get(), console);
  });
}

}  // namespace foretrain::cli
