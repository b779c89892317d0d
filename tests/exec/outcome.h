// All that a training run shows, to set two of them against each other bit for bit.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "exec/executor.h"

namespace foretrain::testing {

struct Outcome {
  std::vector<double> loss, grad_norm, logits;
  double evaluated = 0.0;
  std::vector<exec::FullTensor> gradients, parameters;
};

// Of options.steps steps of the graph's executor, traced if `options` say so, and of an evaluation behind them.
inline Outcome train(const plan::PlanGraph& graph, exec::Executor& executor, const exec::DataSource& data,
                     exec::RunOptions options) {
  Outcome outcome;
  const exec::RunResult result = executor.run(options);
  outcome.loss = result.loss;
  outcome.grad_norm = result.grad_norm;
  outcome.gradients = executor.gradients();
  outcome.parameters = executor.parameters();
  options.sink = nullptr;
  outcome.evaluated = executor.evaluate(data, 2, options);
  if (std::any_of(graph.roles.begin(), graph.roles.end(), [](const plan::Role& r) { return r.logits >= 0; })) {
    outcome.logits = executor.logits(data, 3, options);
  }
  return outcome;
}

inline void expect_equal(const std::vector<exec::FullTensor>& a, const std::vector<exec::FullTensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].name, b[i].name);
    EXPECT_TRUE(a[i].values == b[i].values) << a[i].name;
  }
}

inline void expect_equal(const Outcome& a, const Outcome& b) {
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(a.grad_norm, b.grad_norm);
  EXPECT_EQ(a.evaluated, b.evaluated);
  EXPECT_EQ(a.logits, b.logits);
  expect_equal(a.gradients, b.gradients);
  expect_equal(a.parameters, b.parameters);
}

}  // namespace foretrain::testing
