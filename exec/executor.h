// Runs a plan graph for real, ranks as threads of one process or of many.
//
// Each rank interprets its program: ops are enqueued on the device's streams in program order, events order them across
// streams, collectives and messages go to the communicator, timestamps come from the device. There is no other
// scheduler and no training loop: the loop is the graph. Memory is the planned arena, nothing else (kernel scratch is
// stated).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "exec/processes.h"
#include "plan/graph.h"
#include "plan/host_traffic.h"
#include "plan/reading.h"
#include "plan/timeline.h"

namespace foretrain::exec {

// Of padded sequences the features are the length alone, and the labels the class.
struct Sample {
  std::span<const double> features, labels;
};

// Which of a data set's items a sequence or sample is, and in which epoch it is read.
struct DataPlace {
  std::int64_t epoch = 0, item = 0;
};

// Batches of token ids, or of samples of features. Sequence, or sample, `s` of step `t` is the same whatever the
// strategy. A source has one of the two; of padded sequences both.
class DataSource {
 public:
  virtual ~DataSource() = default;
  // Writes seq_len + 1 ids of a sequence: inputs are the first seq_len, targets the last.
  virtual void sequence(std::int64_t step, std::int64_t index_in_batch, std::int64_t seq_len, std::int32_t* ids) const;
  // Lives as long as the source.
  virtual Sample sample(std::int64_t step, std::int64_t index_in_batch) const;
  // Of data that has epochs.
  virtual DataPlace place(std::int64_t step, std::int64_t index_in_batch) const;
};

// What was read to train on.
struct BytesRead {
  std::int64_t of_storage = 0, of_cache = 0;
  friend bool operator==(const BytesRead&, const BytesRead&) = default;
};

class Gpu;
struct RankMemory;  // rank_memory.h

// Is shown a rank's memory at ends of steps, when what is kept from step to step is complete and nothing runs that
// could change it. Called on the ranks' threads, of several ranks at once; what it throws ends the run.
class StateKeeper {
 public:
  virtual ~StateKeeper() = default;
  // Whether it wants to see memory after so many steps: the same answer to every rank.
  virtual bool wants(int steps_done) const = 0;
  virtual void keep(const RankMemory& memory, int steps_done) = 0;
  // A run of several processes has failed, and replicas of servers, if `failure` is empty those here too, hold the
  // state after so many steps. Called in each process that is left, by its main thread; `is_first` in one of them.
  virtual void keep_last(int /*steps_done*/, bool /*is_first*/, const std::string& /*failure*/) {}
};

struct RunOptions {
  int steps = 1;
  std::uint64_t seed = 1;
  std::chrono::milliseconds timeout{60000};  // a rank that waits longer for others fails, naming them
  const std::atomic<bool>* interrupted = nullptr;
  std::chrono::milliseconds grace{500};  // an interrupted run that does not end a step so soon is cut off in it
  StateKeeper* keeper = nullptr;
  std::function<void(int step, double loss, double seconds)> on_step;  // called once per step, from one thread
  plan::SpanSink* sink = nullptr;                                      // measured spans
  int first_traced_step = 0;                                           // spans of earlier steps are not recorded
  std::vector<double> speeds;  // by rank: what part of its speed it is held back to; empty: none is
  plan::ReadRate storage;      // what each rank reads is held back to
  bool poison = false;         // fill dead ranges with NaN (dev builds)
};

// A full (unsharded) parameter-shaped tensor gathered from all ranks, in fp64.
struct FullTensor {
  std::string name;
  std::vector<double> values;
};

struct RunResult {
  std::vector<double> loss;       // per step, mean over tokens
  std::vector<double> grad_norm;  // per step, before clipping
  std::vector<double> step_seconds;
  double loss_scale = 0;    // behind the last step; NaN where losses are not scaled
  Bytes arena;              // largest rank
  Bytes library_workspace;  // kernel scratch, communicator buffers; all ranks
  BytesRead read;           // in this call, by all ranks
  plan::HostTraffic sent;   // in this call from host to host; not over a GPU's library
};

// One prepared run: arenas allocated, parameters initialised from the seed. Ranks live on their own threads inside
// run().
class Executor {
 public:
  // `data` must outlive the executor, and so must `processes`; without them all ranks are threads of this process. On a
  // `gpu`, which must outlive it too, all live there together, or each process's one rank on its own. With processes
  // all make the same calls, and every result but the tensors' is the same in all. Throws InputError for a graph that
  // cannot be run (precisions that exist as cost only), InfeasibleError when the machine lacks the memory.
  Executor(const plan::PlanGraph& graph, const DataSource& data, std::uint64_t seed, Processes* processes = nullptr,
           Gpu* gpu = nullptr);
  ~Executor();

  // Runs options.steps further steps. The prologue runs before step 0, the epilogue at the end of each call. Throws
  // EnvironmentError for a lost or hanging rank, and what the first failing rank threw. When interrupted the result
  // holds the steps that were completed; a run that could not stop between two steps in time, or failed, cannot go on.
  RunResult run(const RunOptions& options);

  // Whether the last run ended between two steps.
  bool can_go_on() const;

  // Memory of the ranks that live here, between runs.
  std::vector<RankMemory> memory() const;
  // The first step will be this one: memory holds what so many steps, and the prologue, left. REQUIRES: before the
  // first run.
  void go_on_from(int step);

  // After run(): the reduced gradients of the last step, and the parameters, gathered over ranks and shards; on process
  // 0, nothing elsewhere.
  std::vector<FullTensor> gradients();
  std::vector<FullTensor> parameters();

  // Replaces the parameters (and master weights) of these names; others, and optimizer state, stay.
  void set_parameters(const std::vector<FullTensor>& tensors);

  // Mean loss over `batches` batches of `data` with the parameters as they are (plan::Program::evaluation). Not a
  // number when interrupted.
  double evaluate(const DataSource& data, int batches, const RunOptions& options);
  // Logits that position `row` of the first sequence of `data` (of what is told of it) gives, over the padded
  // vocabulary. REQUIRES: some role has plan::Role::logits.
  std::vector<double> logits(const DataSource& data, std::int64_t row, const RunOptions& options);
  // Of a classifier: those of the first microbatch's sequences, one after the other; perhaps all of them several times.
  std::vector<double> class_logits(const DataSource& data, const RunOptions& options);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace foretrain::exec
