// Every word of a strategy: simulated, executed, compared. The findings are written to strategies.json in the build
// folder, and must be what `foretrain list strategies` says.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "cli/recorder.h"
#include "cli/strategy_words.h"
#include "exec/data.h"
#include "exec/verify.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "reports/compare.h"
#include "sim/simulator.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::cli {
namespace {

using Overrides = std::vector<std::string>;

const char* const kMoe =
    R"(workload.model.moe={"experts": 8, "top_k": 2, "ffn_hidden": 24, "shared_experts": 1, "first_dense_layers": 1})";

// Averages of such steps are steps along the average.
const char* const kPlainSteps = R"(workload.optimizer={"name":"sgd","clip":0})";

// A job of the word; what stands beside it is there to make it meaningful.
std::map<std::string, Overrides> jobs(const std::string& schedule_path) {
  return {
      {"dp", {"dp=2"}},
      {"gradient accumulation", {"dp=2", "micro_batch=2"}},
      {"overlap_grad_reduce", {"dp=2", "overlap_grad_reduce=true", "bucket_bytes=1 kB"}},
      {"compression=fp16", {"dp=2", "compression=fp16"}},
      {"compression=bf16", {"dp=2", "compression=bf16"}},
      {"compression=int8", {"dp=2", "compression=int8"}},
      {"compression=topk:SHARE", {"dp=2", "compression=topk:1"}},
      {"data_parallel=local_sgd", {"dp=2", "data_parallel=local_sgd", kPlainSteps}},
      {"outer_optimizer",
       {"dp=4", "data_parallel=local_sgd", "local_group=2", kPlainSteps,
        R"(outer_optimizer={"kind":"sgd","learning_rate":1})"}},
      {"data_parallel=gather", {"dp=2", "data_parallel=gather"}},
      {"data_parallel=all_gather", {"dp=2", "data_parallel=all_gather"}},
      {"data_parallel=parameter_server", {"dp=2", "data_parallel=parameter_server", "servers=2"}},
      {"server_sharding=hash", {"dp=2", "data_parallel=parameter_server", "servers=2", "server_sharding=hash"}},
      {"server_replicas=1", {"dp=2", "data_parallel=parameter_server", "servers=2", "server_replicas=1"}},
      {"staleness=1", {"dp=2", "data_parallel=parameter_server", "staleness=1"}},
      {"staleness=unbounded", {"dp=2", "data_parallel=parameter_server", "staleness=unbounded"}},
      {"server_order=random", {"dp=2", "data_parallel=parameter_server", "staleness=unbounded", "server_order=random"}},
      {"loader_ranks", {"dp=2", "loader_ranks=1", "workload.data.prefetch=2"}},
      {"zero=1", {"dp=2", "zero=1"}},
      {"zero_kind=owners", {"dp=2", "zero=1", "zero_kind=owners"}},
      {"zero=2", {"dp=2", "zero=2"}},
      {"zero=3", {"dp=2", "zero=3"}},
      {"reshard=false", {"dp=2", "zero=3", "reshard=false"}},
      {"shard", {"dp=4", "zero=3", "shard=2"}},
      {"overlap_param_gather", {"dp=2", "zero=1", "overlap_param_gather=true", "bucket_bytes=1 kB"}},
      {"tp", {"tp=2"}},
      {"sequence_parallel", {"tp=2", "sequence_parallel=true"}},
      {"cp_kind=ring", {"cp=2", "cp_kind=ring"}},
      {"cp_kind=all_to_all", {"cp=2", "cp_kind=all_to_all"}},
      {"cp_kind=all_gather", {"cp=2", "cp_kind=all_gather"}},
      {"overlap_tp=false", {"tp=2", "overlap_tp=false"}},
      {"recompute_early_stop", {"recompute=full", "recompute_early_stop=true"}},
      {"fused_grad_accumulation=false", {"fused_grad_accumulation=false"}},
      {"fused_activation", {"fused_activation=true"}},
      {"loss_chunks", {"loss_chunks=4"}},
      {"pp", {"pp=4"}},
      {"scatter_gather", {"tp=2", "pp=2", "scatter_gather=true"}},
      {"schedule=gpipe", {"pp=2", "schedule=gpipe"}},
      {"schedule=1f1b", {"pp=2", "schedule=1f1b"}},
      {"schedule=interleaved", {"pp=2", "virtual_stages=2", "schedule=interleaved"}},
      {"schedule=zb_h1", {"pp=2", "schedule=zb_h1"}},
      {"schedule=zb_h2", {"pp=2", "schedule=zb_h2"}},
      {"schedule=zb_v", {"pp=2", "schedule=zb_v"}},
      {"schedule=dualpipe_v", {"pp=2", "schedule=dualpipe_v"}},
      {"schedule=dualpipe", {"pp=2", "schedule=dualpipe"}},
      {"schedule=text", {"pp=2", "global_batch=2", "schedule=" + schedule_path}},
      {"layers_per_stage", {"pp=2", "layers_per_stage=[3,1]"}},
      {"split_by_speed",
       {"dp=2", "pp=2", "split_by_speed=true", R"(cluster.disturbance={"devices": [{"range": "1", "speed": 0.5}]})"}},
      {"tied embeddings", {"pp=2", "workload.model.tied_embeddings=true"}},
      {"ep", {"dp=2", "ep=2", kMoe}},
      {"expert_tp=1", {"tp=2", "dp=2", "sequence_parallel=true", "expert_tp=1", "ep=4", kMoe}},
      {"overlap_ep", {"dp=2", "ep=2", "pp=2", "schedule=dualpipe_v", "overlap_ep=true", kMoe}},
      {"offload=[\"optimizer\"]", {"offload=[\"optimizer\"]"}},
      {"offload=[\"activations\"]", {"offload=[\"activations\"]", "offload_layers=3"}},
      {"optimizer_sync=post_validation",
       {"pp=2", "schedule=zb_h2", "optimizer_sync=post_validation",
        "workload.optimizer={\"name\":\"adam\",\"clip\":0}"}},
      {"recompute=selective", {"recompute=selective", "attention=unfused"}},
      {"recompute=[\"norm\", \"activation\", ...]", {"recompute=[\"attention_core\",\"norm\",\"activation\"]"}},
      {"recompute=full", {"recompute=full"}},
      {"recompute_layers", {"recompute=full", "recompute_layers=1"}}};
}

struct Findings {
  bool simulated = false, executed = false, compared = false;
};

constexpr int kSteps = 2;

bool learns(const plan::PlanGraph& graph, const exec::DataSource& data) {
  exec::Executor executor(graph, data, 1);
  exec::RunOptions run;
  run.steps = 20;
  run.poison = true;
  const std::vector<double> loss = executor.run(run).loss;
  return loss.size() == 20 && loss.back() < loss.front();
}

// By how much losses may differ from one rank's where gradients are not those of one rank, and --verify refuses: of
// replicas that average their parameters after plain steps, and of gradients in 8 bits, of which compression_test has
// the bound.
std::optional<double> loss_tolerance(const plan::Strategy& s) {
  if (s.drifting() > 1) {
    return 1e-12;
  }
  return s.compression.kind == plan::CompressionKind::int8 ? std::optional(1e-3) : std::nullopt;
}

// Updates that do not wait for each other are not one rank's: the loss falls.
bool trains(const plan::Job& job, const plan::PlanGraph& graph, const exec::DataSource& data,
            const exec::VerifyOptions& options) {
  if (graph.asynchronous) {
    return learns(graph, data);
  }
  exec::Tolerance tolerance = exec::tolerance_of(job);
  tolerance.steps = kSteps;
  tolerance.gradient_steps = std::min(tolerance.gradient_steps, kSteps);
  const exec::Course one_rank = exec::train(plan::build(plan::one_rank_job(job)), tolerance, data, options);
  const std::optional<double> most = loss_tolerance(job.strategy);
  if (!most) {
    return exec::verify(graph, one_rank, tolerance, data, options).passed;
  }
  const std::vector<double> loss = exec::train(graph, tolerance, data, options).loss;
  return std::equal(loss.begin(), loss.end(), one_rank.loss.begin(), one_rank.loss.end(),
                    [&](double a, double b) { return std::abs(a - b) < *most * b; });
}

Findings findings(const Overrides& overrides, const exec::Text& text) {
  constexpr std::uint64_t kSeed = 1;
  Overrides all{"precision=fp64", "workload.model.vocab=256", "workload.model.max_positions=16"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  const plan::Job job = testing::tiny_job(testing::kTinyGpt, all);
  const workloads::Workload& w = job.workload;
  const plan::PlanGraph graph = plan::build(job);
  EXPECT_EQ(plan::validate(graph), std::vector<std::string>{});
  Findings found;

  Recorder forecast(graph);
  const sim::Simulation simulation = sim::simulate(graph, job.cluster, {}, &forecast);
  const plan::Timeline predicted = forecast.timeline("simulated", simulation.step_ends);
  found.simulated = plan::validate(graph, predicted).empty();

  const exec::TextWindows data = exec::training_windows(text, w.seq_len, w.global_batch, w.model.vocab, kSeed);
  exec::VerifyOptions options;
  options.seed = kSeed;
  options.poison = true;
  found.executed = trains(job, graph, data, options);

  Recorder real(graph);
  exec::RunOptions run;
  run.steps = 2;
  run.sink = &real;
  exec::Executor executor(graph, data, kSeed);
  const exec::RunResult result = executor.run(run);
  plan::Timeline measured = real.timeline("measured", {Time{}, Time{}});
  for (const plan::Span& span : measured.spans) {
    Time& end = measured.step_ends[static_cast<std::size_t>(span.step)];
    end = std::max(end, span.end);
  }
  const reports::Comparison comparison = reports::compare(graph, predicted, measured);
  const bool each_kind_measured =
      std::all_of(comparison.by_kind.begin(), comparison.by_kind.end(),
                  [](const reports::ComparedTime& row) { return row.measured_seconds > 0; });
  const std::vector<std::string> violations = plan::validate(graph, measured, parse_time("10 us"));
  EXPECT_EQ(violations, std::vector<std::string>{});
  found.compared = violations.empty() && each_kind_measured && comparison.predicted_step > 0;
  return found;
}

TEST(Strategies, TheListSaysWhatTheTestsFind) {
  namespace fs = std::filesystem;
  const fs::path schedule = fs::temp_directory_path() / ("schedule." + std::to_string(::getpid()) + ".txt");
  write_file(schedule.string(), "0F0 0F1 0B0 0I1 0W1\n1F0 1I0 1F1 1I1 1W0 1W1\n");
  const std::map<std::string, Overrides> all = jobs(schedule.string());
  const exec::Text text = exec::load_text({});
  nlohmann::ordered_json words = nlohmann::ordered_json::object();
  for (const StrategyWord& word : strategy_words()) {
    SCOPED_TRACE(word.name);
    ASSERT_TRUE(all.count(word.name)) << "the test has no job for this word";
    const Findings found = findings(all.at(word.name), text);
    EXPECT_TRUE(found.simulated);
    EXPECT_TRUE(found.executed);
    EXPECT_TRUE(found.compared);
    EXPECT_EQ(word.simulated, std::optional(found.simulated)) << "run scripts/strategies";
    EXPECT_EQ(word.executed, std::optional(found.executed)) << "run scripts/strategies";
    EXPECT_EQ(word.compared, std::optional(found.compared)) << "run scripts/strategies";
    words[word.name] = {{"simulated", found.simulated}, {"executed", found.executed}, {"compared", found.compared}};
  }
  fs::remove(schedule);
  write_file(FORETRAIN_RESULTS,
             nlohmann::ordered_json{{"schema", "foretrain.strategies/1"}, {"words", words}}.dump(2) + "\n");
}

}  // namespace
}  // namespace foretrain::cli
