// A run of weeks, sampled: steps of the forecast's length, until all are done; failures, restarts, checkpoints, slow
// spells as topologies/operations.h has them.
//
// One run. A site and a step jitter j are drawn. Checkpoints end segments of k steps, L = k s j + w long (s: step, w:
// write). Failures come after exponential times (rate r = devices x the site's); each loses the segment it falls into,
// then costs a restart of length R (until found, until training, w to read), drawn anew after a failure within it.
// Planned stops, Poisson too, wait for the end of a segment and cost a restart without the finding. A slow spell of
// length d that slows the job by f costs d f / (1 + f).
// In closed form, a segment of length L that must be finished in one go takes (e^(r L) - 1) / r of training and meets
// e^(r L) - 1 failures in the mean; with p the mean of e^(-r R), a restart takes (1 / p - 1) / r and meets 1 / p - 1
// (Daly 2006, doi:10.1016/j.future.2004.11.016, equation 13, of restarts whose length varies). All means follow,
// exactly, and are the mean over sites and jitters; but goodput's to first order, useful time over the mean of all: the
// mean of 50,000 sampled runs is 1.5 % more of 7 hours with 3 failures, 2.6 % of 12 hours with 24.
// Known wrong: rates are those of clusters after their first weeks (no infant mortality); no failures fall into slow
// spells and planned stops; a run that diverges is not in it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "plan/breakdown.h"
#include "plan/job.h"
#include "reports/whole_run.h"
#include "topologies/operations.h"

namespace foretrain::search {

// What the run is made of.
struct RunFacts {
  double tokens_per_step = 0;
  std::string counted_in = "tokens";
  std::int64_t devices = 1;
  double step_seconds = 0;
  double band_low = 0, band_high = 0;  // factors of step_seconds; NaN: unknown
  Bytes state;                         // of a checkpoint
  double write_seconds = 0;            // of it; training waits
  std::string write_source;
  double device_watts = 0;  // a device's limit; 0: unknown
  double busy_share = 1;    // of a step in which a device computes
};

// What is asked for.
struct RunWishes {
  double tokens = 0;                         // 0: `steps` says it
  std::int64_t steps = 0;                    // 0: as many as tokens need
  std::optional<double> price;               // of a device-hour
  std::optional<double> checkpoint_seconds;  // between checkpoints; or in steps:
  std::optional<std::int64_t> checkpoint_steps;
  std::optional<double> write_seconds;
  std::int64_t runs = 10'000, seed = 1;
};

// Bytes of a checkpoint: parameters as they are computed with, master weights and moments; as Megatron and DeepSpeed
// write them (14 bytes for each parameter in mixed precision with Adam; BLOOM's 2.3 TiB are 14.3).
Bytes state_bytes(const workloads::Workload& workload);

// `mean`: of a step, over ranks. The time of a write is the state's bytes over the storage's bandwidth: the cluster's,
// else that of topologies/operations.json for each node.
RunFacts run_facts(const plan::Job& job, Time step_time, const plan::Breakdown& mean, std::int64_t devices,
                   const topologies::Operations& operations);

// Fewer runs are sampled than asked for where too much happens in each. Throws InputError for more than a thousand
// years of steps or none, and InfeasibleError for a run that would hardly get from one checkpoint to the next.
reports::WholeRun whole_run(const RunFacts& facts, const topologies::Operations& operations, const RunWishes& wishes);

// The same without mishaps, for plans to be compared by.
struct RunCost {
  double seconds = 0, device_hours = 0, money = 0;
};
RunCost run_cost(const workloads::Workload& workload, Time step_time, std::int64_t devices, double tokens,
                 double price);

}  // namespace foretrain::search
