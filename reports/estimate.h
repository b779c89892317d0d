// The forecast of one job: the document foretrain.estimate/1, and the same for people.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "plan/breakdown.h"
#include "plan/channel.h"
#include "plan/device_memory.h"
#include "plan/graph.h"
#include "plan/job.h"
#include "plan/reading.h"
#include "reports/whole_run.h"

namespace foretrain::reports {

// What the step costs in FLOPs and what share of the devices' peak that is.
//   MFU = model FLOPs / (step time x devices x peak)     workloads::model_flops: attention whole, nothing recomputed
//   HFU = hardware FLOPs / (the same)                    all matmuls of the graph
// peak: dense, of the compute dtype, from the datasheet (this-machine: from its device description). NaN without a
// peak.
struct Efficiency {
  std::int64_t devices = 0;
  double peak_flops = 0;                                               // per device and second
  double model_flops = 0, model_flops_causal = 0, hardware_flops = 0;  // per step, all devices
  double mfu = 0, mfu_causal = 0, hfu = 0;
  double mfu_bf16 = 0;  // against the bf16 peak, for fp8 and below; else NaN
};
// On this-machine ranks may outnumber the devices; then all devices count, else as many as there are ranks.
Efficiency efficiency(const plan::Job& job, const plan::PlanGraph& graph, double step_seconds);

// A change of the job that makes it fit, and what it would then demand (plan::MemoryFit) and take per step.
struct Fix {
  std::string change;  // "strategy.recompute=full"
  Bytes demand;
  Time step_time;
};

struct ErrorBand {
  double low_seconds = 0, high_seconds = 0;
  std::string basis;
};

// Job and graph must outlive it.
// Ranks of a role that did the same at the same time, simulated once.
struct RankClass {
  int role = -1;
  plan::Rank first = 0;
  std::int64_t ranks = 0;
};

// What all ranks read to train on.
struct Reading {
  Bytes per_step;
  plan::EpochReads epoch;  // of one that finds the caches full; as does the step that is forecast
  Time first_step_time;    // of the first epoch, which finds nothing kept
};

struct Estimate {
  const plan::Job* job = nullptr;
  const plan::PlanGraph* graph = nullptr;
  plan::MemoryFit fit;
  Time step_time;
  plan::Staleness staleness;             // of asynchronous updates
  std::vector<plan::Breakdown> by_role;  // of one steady step
  std::optional<Reading> reading;        // where storage, or a cache, is said
  std::string compute_model, network_model;
  std::vector<RankClass> classes;
  ErrorBand error_band;
  std::optional<WholeRun> whole_run;  // where it was asked for
  std::vector<Fix> fixes;             // what would fit, fastest first; filled when it does not
  std::vector<std::string> notes;     // remarks a reader needs beside the figures
};

nlohmann::ordered_json to_json(const Estimate& e);
std::string to_text(const Estimate& e, bool colour);

// "does not fit: 12.3 GB are missing on rank 0 (...); nearest fix: ..." Requires: !e.fit.fits().
std::string infeasible_message(const Estimate& e);

// One line on the job: "gpt3-175b, seq 2048, batch 1536, bf16 on 1,024 x A100 ...: dp 16, tp 8, pp 8, ...".
std::string headline(const plan::Job& job);

}  // namespace foretrain::reports
