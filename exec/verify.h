// Does a plan train like one rank? Runs its graph and the one-rank graph from the same seed on the same sequences and
// compares the loss of each step and the full gradients: verify(graph, train(one_rank, ...), ...).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "exec/executor.h"
#include "plan/job.h"

namespace foretrain::exec {

// What may differ, by what matmuls compute in: sums are taken in another order, in floating point.
struct Tolerance {
  int steps = 0;           // over which losses are compared
  int gradient_steps = 0;  // after how many of the first steps gradients are
  double loss = 0;         // |difference| / |loss of one rank|
  double gradient = 0;     // ||difference|| / max(||gradient||, 0.01 ||all gradients||), per tensor
};
// fp64: 1e-12 for both over 5 steps. fp32 (tf32): loss 1e-6 over 5 steps, gradients 1e-5 at step 1. bf16: loss 1e-3
// over 10 steps, gradients 5e-2 at step 1, as where gradients go in 16 bits.
Tolerance tolerance_of(const plan::Job& job);

struct Verification {
  Tolerance tolerance;
  std::vector<double> loss, reference_loss;   // per step
  double max_rel_loss = 0, max_rel_grad = 0;  // infinity where a value is not a number
  std::string worst_tensor;                   // of max_rel_grad
  bool passed = false;
};

struct VerifyOptions {
  std::uint64_t seed = 1;
  std::chrono::milliseconds timeout{60000};
  const std::atomic<bool>* interrupted = nullptr;  // ends early; the result has not passed then
  bool poison = false;
  Processes* processes = nullptr;  // as of the executor
  Gpu* gpu = nullptr;
};

// What a graph trains, as far as it is compared: the loss of each step, and all gradients after the first of them.
struct Course {
  std::vector<double> loss;                        // Tolerance::steps; fewer when interrupted
  std::vector<std::vector<FullTensor>> gradients;  // of the first Tolerance::gradient_steps
};
Course train(const plan::PlanGraph& graph, const Tolerance& tolerance, const DataSource& data,
             const VerifyOptions& options);

// `reference`: of the graph of plan::one_rank_job of the same job, with the same data and options but no processes. It
// may serve for many plans. With processes only process 0 needs it and judges; the others are told whether it passed.
Verification verify(const plan::PlanGraph& graph, const Course& reference, const Tolerance& tolerance,
                    const DataSource& data, const VerifyOptions& options);

// Largest error over tensors, as in Tolerance::gradient, and the tensor it is in. REQUIRES: the same tensors in both.
struct GradientError {
  double value = 0;
  std::string tensor;
};
GradientError gradient_error(const std::vector<FullTensor>& reference, const std::vector<FullTensor>& gradients);

}  // namespace foretrain::exec
