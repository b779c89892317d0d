// What `run` and `compare` train on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cli/options.h"
#include "exec/data.h"
#include "exec/evaluate.h"
#include "exec/executor.h"
#include "exec/keywords.h"
#include "exec/samples.h"
#include "plan/graph.h"
#include "plan/job.h"
#include "workloads/workload.h"

namespace foretrain::cli {

// Text, or samples where the model is one of features, or padded sequences where it is a classifier. Others point into
// it: it stays where it is.
class TrainingData {
 public:
  // Throws InputError for what cannot be read, and for too little of it.
  TrainingData(const plan::Job& job, std::uint64_t seed);

  const exec::DataSource& source() const;
  bool is_text() const { return windows_ != nullptr; }
  const exec::Text& text() const { return text_; }  // empty where it is none
  std::string name() const;                         // for people
  std::string amount() const;                       // "9,000 bytes to train on"
  // What all processes have to have alike.
  std::string fingerprint() const;
  // What an epoch is, and what becomes of the last batch: "an epoch is 562 sequences: 140 steps, the 2 sequences left
  // over are skipped".
  std::string epoch() const;
  // Of a run that is to have so many, if anybody said so: no more than the job's epochs have.
  std::int64_t steps(std::optional<std::int64_t> asked) const;
  double validation_loss(exec::Executor& executor, const plan::PlanGraph& graph, const exec::RunOptions& run) const;
  // REQUIRES: a classifier.
  exec::Classified classified(exec::Executor& executor, const plan::PlanGraph& graph,
                              const exec::RunOptions& run) const;

 private:
  const exec::Epochs& epochs() const;

  workloads::Workload workload_;
  std::uint64_t seed_;
  exec::Text text_;
  std::unique_ptr<const exec::TextWindows> windows_;
  std::unique_ptr<const exec::Samples> samples_;
  std::unique_ptr<const exec::Keywords> keywords_;
};

// Words of the command line that stand for those of the job's workload.data.
struct DataArguments {
  std::string path, tokenizer;

  void add_to(Options& options);
  void apply(workloads::Workload& workload) const;
};

}  // namespace foretrain::cli
