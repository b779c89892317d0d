// Models of features: trained to what is known of them in advance.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "exec/evaluate.h"
#include "exec/samples.h"
#include "plan/build.h"
#include "plan/validate.h"
#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using foretrain::testing::tiny_job;

constexpr const char* kLinear = R"({
  "version": 1,
  "workload": { "model": { "architecture": "linear", "inputs": 5, "outputs": 2 }, "global_batch": 96,
                "precision": "fp64", "data": { "samples": 96, "noise": 0.5 },
                "optimizer": { "name": "sgd", "learning_rate": 0.6, "clip": 0 } },
  "cluster": { "system": "this-machine" },
  "strategy": { "micro_batch": 12 }
})";
constexpr const char* kMlp = R"({
  "version": 1,
  "workload": { "model": { "architecture": "mlp", "inputs": 3, "layers": 4, "hidden": 8, "activation": "sigmoid" },
                "global_batch": 24, "precision": "fp64", "data": { "samples": 100, "noise": 0.1 },
                "optimizer": { "name": "adam", "learning_rate": 0.02 } },
  "cluster": { "system": "this-machine" },
  "strategy": { "micro_batch": 2 }
})";

using Matrix = std::vector<std::vector<double>>;

// Solves a x = b by elimination with pivots.
std::vector<double> solved(Matrix a, std::vector<double> b) {
  const std::size_t n = b.size();
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t pivot = i;
    for (std::size_t r = i + 1; r < n; ++r) {
      pivot = std::abs(a[r][i]) > std::abs(a[pivot][i]) ? r : pivot;
    }
    std::swap(a[i], a[pivot]);
    std::swap(b[i], b[pivot]);
    for (std::size_t r = i + 1; r < n; ++r) {
      const double factor = a[r][i] / a[i][i];
      for (std::size_t c = i; c < n; ++c) {
        a[r][c] -= factor * a[i][c];
      }
      b[r] -= factor * b[i];
    }
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t c = i + 1; c < n; ++c) {
      b[i] -= a[i][c] * b[c];
    }
    b[i] /= a[i][i];
  }
  return b;
}

// The least squares of the samples by the normal equations: row o of (w, b).
Matrix optimum(const Samples& samples, std::size_t inputs, std::size_t outputs) {
  Matrix products(inputs + 1, std::vector<double>(inputs + 1, 0.0)), targets(outputs, std::vector<double>(inputs + 1));
  for (std::int64_t s = 0; s < samples.count(); ++s) {
    const Sample sample = samples.at(s);
    std::vector<double> x(sample.features.begin(), sample.features.end());
    x.push_back(1.0);
    for (std::size_t i = 0; i <= inputs; ++i) {
      for (std::size_t j = 0; j <= inputs; ++j) {
        products[i][j] += x[i] * x[j];
      }
      for (std::size_t o = 0; o < outputs; ++o) {
        targets[o][i] += x[i] * sample.labels[o];
      }
    }
  }
  for (std::vector<double>& row : targets) {
    row = solved(products, row);
  }
  return targets;
}

const std::vector<double>& values_of(const std::vector<FullTensor>& tensors, const std::string& name) {
  for (const FullTensor& t : tensors) {
    if (t.name == name) {
      return t.values;
    }
  }
  throw std::out_of_range(name);
}

// The largest distance of a weight from the optimum after so many steps.
double distance(const std::vector<std::string>& overrides, int steps) {
  const plan::Job job = tiny_job(kLinear, overrides);
  const plan::PlanGraph graph = plan::build(job);
  EXPECT_EQ(plan::validate(graph), std::vector<std::string>{});
  const Samples samples(job.workload, Samples::Part::training, 3);
  const Matrix best = optimum(samples, 5, 2);
  Executor executor(graph, samples, 3);
  RunOptions options;
  options.steps = steps;
  options.poison = true;
  executor.run(options);
  const std::vector<FullTensor> trained = executor.parameters();
  double worst = 0;
  for (std::size_t o = 0; o < 2; ++o) {
    for (std::size_t i = 0; i < 5; ++i) {
      worst = std::max(worst, std::abs(values_of(trained, "head.weight")[5 * o + i] - best[o][i]));
    }
    worst = std::max(worst, std::abs(values_of(trained, "head.bias")[o] - best[o][5]));
  }
  return worst;
}

TEST(Linear, EndsAtTheLeastSquares) {
  for (const std::vector<std::string>& strategy :
       std::vector<std::vector<std::string>>{{},
                                             {"micro_batch=96"},
                                             {"dp=2"},
                                             {"dp=4"},
                                             {"dp=4", "micro_batch=24"},
                                             {"dp=2", "zero=1"},
                                             {"dp=4", "zero=2"},
                                             {"dp=4", "zero=3", "overlap_grad_reduce=true"}}) {
    SCOPED_TRACE(::testing::PrintToString(strategy));
    EXPECT_GT(distance(strategy, 1), 1e-2);
    EXPECT_LT(distance(strategy, 120), 1e-12);
    std::vector<std::string> narrow = strategy;
    narrow.push_back("precision=fp32");
    EXPECT_LT(distance(narrow, 120), 1e-6);
  }
}

// Without noise the optimum is that of every batch: small ones in any order lead there, too.
TEST(Linear, SmallBatchesEndWhereSamplesHaveNoNoise) {
  EXPECT_LT(distance({"global_batch=24", "workload.data.noise=0", "dp=2", "micro_batch=6",
                      "workload.optimizer.learning_rate=0.1"},
                     2000),
            1e-9);
}

TEST(Mlp, EveryStrategyTrainsLikeOneRank) {
  for (const std::vector<std::string>& strategy : std::vector<std::vector<std::string>>{
           {"dp=2"},
           {"dp=4", "overlap_grad_reduce=true", "bucket_bytes=\"1 kB\""},
           {"dp=2", "zero=1"},
           {"dp=2", "zero=2"},
           {"dp=2", "zero=3", "reshard=false"},
           {"dp=4", "zero=3", "shard=2"},
           {"pp=2"},
           {"pp=3", "schedule=gpipe", "dp=2"},
           {"dp=2", "data_parallel=gather"},
           {"dp=2", "data_parallel=all_gather"},
           {"dp=2", "compression=topk:1"},
           {"dp=2", "workload.model.outputs=3"},
           {"dp=2", "workload.model.outputs=3", "workload.model.loss=binary_cross_entropy"},
           {"dp=2", "precision=bf16"}}) {
    SCOPED_TRACE(::testing::PrintToString(strategy));
    const plan::Job job = tiny_job(kMlp, strategy);
    const Samples samples(job.workload, Samples::Part::training, 1);
    const plan::PlanGraph graph = plan::build(job);
    EXPECT_EQ(plan::validate(graph), std::vector<std::string>{});
    const Tolerance tolerance = tolerance_of(job);
    VerifyOptions options;
    options.poison = true;
    const Course one = train(plan::build(plan::one_rank_job(job)), tolerance, samples, options);
    const Verification v = verify(graph, one, tolerance, samples, options);
    EXPECT_TRUE(v.passed) << v.max_rel_loss << ", " << v.max_rel_grad << " in " << v.worst_tensor;
  }
}

// Shells that do not touch can be told apart: the loss falls near 0, of samples that were not trained on too.
// Averages in every step, of steps along gradients that are not clipped: the step along the mean gradient.
TEST(Linear, ReplicasThatAverageEveryStepAreAllReduce) {
  const auto trained = [](const std::vector<std::string>& strategy) {
    const plan::Job job = tiny_job(kLinear, strategy);
    const Samples samples(job.workload, Samples::Part::training, 1);
    const plan::PlanGraph graph = plan::build(job);
    EXPECT_EQ(plan::validate(graph), std::vector<std::string>{});
    Executor executor(graph, samples, 1);
    RunOptions run;
    run.steps = 5;
    run.poison = true;
    const std::vector<double> loss = executor.run(run).loss;
    return std::pair{loss, values_of(executor.parameters(), executor.parameters().front().name)};
  };
  const auto reduced = trained({"dp=4"});
  for (const char* const group : {"local_group=1", "local_group=2"}) {
    const auto averaged = trained({"dp=4", "data_parallel=local_sgd", group});
    for (std::size_t i = 0; i < reduced.first.size(); ++i) {
      EXPECT_NEAR(averaged.first[i], reduced.first[i], 1e-12) << i;
    }
    for (std::size_t i = 0; i < reduced.second.size(); ++i) {
      EXPECT_NEAR(averaged.second[i], reduced.second[i], 1e-12) << i;
    }
  }
}

TEST(Mlp, LearnsToTellClasses) {
  for (const char* classes : {"workload.model.outputs=1", "workload.model.outputs=3"}) {
    const plan::Job job = tiny_job(
        kMlp, {"workload.model.activation=relu", "workload.model.hidden=32", "dp=2", "workload.data.samples=480",
               "workload.data.noise=0.05", classes, "workload.model.layers=2", "precision=fp32"});
    const plan::PlanGraph graph = plan::build(job);
    const Samples samples(job.workload, Samples::Part::training, 1);
    Executor executor(graph, samples, 1);
    RunOptions options;
    options.steps = 600;
    EXPECT_LT(executor.run(options).loss.back(), 0.02) << classes;
    EXPECT_LT(validation_loss(executor, graph, Samples(job.workload, Samples::Part::validation, 1), options), 0.1);
  }
}

TEST(Samples, AreTheSameForASeedAndEachOnceInAnEpoch) {
  const workloads::Workload w = tiny_job(kMlp, {}).workload;
  const Samples a(w, Samples::Part::training, 1), b(w, Samples::Part::training, 1), c(w, Samples::Part::training, 2);
  EXPECT_EQ(a.sample(3, 2).features.front(), b.sample(3, 2).features.front());
  EXPECT_NE(a.at(0).features.front(), c.at(0).features.front());
  EXPECT_EQ(Samples(w, Samples::Part::validation, 1).count(), 10);
  std::set<double> seen;
  for (std::int64_t step = 0; step < 4; ++step) {  // 4 x 24 of 100 samples
    for (std::int64_t s = 0; s < 24; ++s) {
      seen.insert(a.sample(step, s).features.front());
    }
  }
  EXPECT_EQ(seen.size(), 96U);
  EXPECT_THROW(Samples(tiny_job(kMlp, {"workload.data.samples=23"}).workload, Samples::Part::training, 1), InputError);
}

}  // namespace
}  // namespace foretrain::exec
