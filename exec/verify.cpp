#include "exec/verify.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace foretrain::exec {

namespace {

// Tensors smaller than this fraction of all gradients are judged against it: rounding errors come from the large ones.
constexpr double kSmallTensor = 0.01;

double squared(const std::vector<double>& values) {
  double sum = 0.0;
  for (const double x : values) {
    sum += x * x;
  }
  return sum;
}

// A NaN is an infinite error: it must not pass a comparison.
double at_least(double worst, double error) {
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
}

}  // namespace

Tolerance tolerance_of(const plan::Job& job) {
  const plan::CompressionKind sent = job.strategy.compression.kind;
  const bool rounded = sent == plan::CompressionKind::fp16 || sent == plan::CompressionKind::bf16;
  switch (rounded ? Dtype::bf16 : job.workload.precision.compute) {
    case Dtype::fp64: return {5, 5, 1e-12, 1e-12};
    case Dtype::fp32:
    case Dtype::tf32: return {5, 1, 1e-6, 1e-5};
    default: return {10, 1, 1e-3, 5e-2};
  }
}

GradientError gradient_error(const std::vector<FullTensor>& reference, const std::vector<FullTensor>& gradients) {
  CHECK(reference.size() == gradients.size(), "{} tensors against {}", reference.size(), gradients.size());
  double all = 0.0;
  for (const FullTensor& tensor : reference) {
    all += squared(tensor.values);
  }
  GradientError worst;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const std::vector<double>& expected = reference[i].values;
    const std::vector<double>& actual = gradients[i].values;
    CHECK(reference[i].name == gradients[i].name && expected.size() == actual.size(), "{} against {}",
          reference[i].name, gradients[i].name);
    std::vector<double> difference(expected.size());
    std::transform(expected.begin(), expected.end(), actual.begin(), difference.begin(), std::minus<>());
    const double scale = std::max(std::sqrt(squared(expected)), kSmallTensor * std::sqrt(all));
    const double distance = std::sqrt(squared(difference));
    const double error = at_least(worst.value, distance == 0.0 ? 0.0 : distance / scale);
    if (error > worst.value) {
      worst = {error, reference[i].name};
    }
  }
  return worst;
}

Course train(const plan::PlanGraph& graph, const Tolerance& tolerance, const DataSource& data,
             const VerifyOptions& options) {
  Course course;
  Executor executor(graph, data, options.seed, options.processes, options.gpu);
  RunOptions run;
  run.seed = options.seed;
  run.timeout = options.timeout;
  run.interrupted = options.interrupted;
  run.poison = options.poison;
  for (int step = 0; step < tolerance.steps; step += run.steps) {
    // One step at a time while gradients are looked at, then all the others.
    const bool looks = step < tolerance.gradient_steps;
    run.steps = looks ? 1 : tolerance.steps - step;
    const RunResult result = executor.run(run);
    course.loss.insert(course.loss.end(), result.loss.begin(), result.loss.end());
    if (result.loss.size() < static_cast<std::size_t>(run.steps)) {
      break;  // interrupted
    }
    if (looks) {
      course.gradients.push_back(executor.gradients());
    }
  }
  return course;
}

namespace {

Verification judged(const Course& course, const Course& reference, const Tolerance& tolerance) {
  Verification v;
  v.tolerance = tolerance;
  v.reference_loss = reference.loss;
  v.loss = course.loss;
  const auto steps = static_cast<std::size_t>(v.tolerance.steps);
  if (reference.loss.size() < steps || course.loss.size() < steps) {
    return v;  // interrupted
  }
  for (std::size_t i = 0; i < course.gradients.size(); ++i) {
    const GradientError error = gradient_error(reference.gradients[i], course.gradients[i]);
    if (error.value > v.max_rel_grad) {
      v.max_rel_grad = error.value;
      v.worst_tensor = error.tensor;
    }
  }
  for (std::size_t i = 0; i < steps; ++i) {
    v.max_rel_loss =
        at_least(v.max_rel_loss, std::abs(v.loss[i] - v.reference_loss[i]) / std::abs(v.reference_loss[i]));
  }
  v.passed = v.max_rel_loss <= v.tolerance.loss && v.max_rel_grad <= v.tolerance.gradient;
  return v;
}

}  // namespace

Verification verify(const plan::PlanGraph& graph, const Course& reference, const Tolerance& tolerance,
                    const DataSource& data, const VerifyOptions& options) {
  const Course course = train(graph, tolerance, data, options);
  Verification v;
  if (options.processes == nullptr) {
    return judged(course, reference, tolerance);
  }
  if (options.processes->number() == 0) {
    v = judged(course, reference, tolerance);
  }
  v.passed = options.processes->all_gather(v.passed ? "passed" : "").front() == "passed";
  return v;
}

}  // namespace foretrain::exec
