// What a trained model is worth: its loss on text it has not seen, and text that it writes. Both run the forward half
// of the one-rank graph through the executor; there is no second forward pass.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "exec/data.h"
#include "exec/executor.h"
#include "plan/job.h"

namespace foretrain::exec {

// The one-rank graph of the job cut down to the forward pass of one sequence per step: no gradients, no optimizer
// state.
plan::PlanGraph forward_graph(const plan::Job& job);

class Evaluator {
 public:
  // At most this many sequences of the validation text are looked at, evenly spread.
  static constexpr std::int64_t kMostSequences = 256;

  // Takes the parameters that `trained`, an executor of the same job, holds now. Throws InputError when the validation
  // text is shorter than a sequence.
  Evaluator(const plan::Job& job, const Executor& trained, const Text& text);
  ~Evaluator();

  // Mean cross entropy in nats per token.
  double validation_loss();

  // `prompt`, then `count` further bytes, each drawn from softmax(logits / temperature); temperature 0 takes the
  // likeliest. The model sees the last seq_len bytes at most.
  std::string sample(const std::string& prompt, int count, double temperature, std::uint64_t seed);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace foretrain::exec
