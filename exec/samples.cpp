#include "exec/samples.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "exec/load_tokens.h"
#include "kernels/kernels.h"
#include "kernels/philox.h"
#include "kernels/tensor.h"

namespace foretrain::exec {

namespace {

using workloads::Synthetic;

// What of a seed numbers are drawn for.
enum class Draw : std::uint64_t { weight = 0x77, feature = 0x78, noise = 0x6E, which = 0x63 };
constexpr std::int64_t kMostValues = 100'000'000;

// By Box and Muller.
double normal(std::uint64_t seed, Draw what, std::int64_t row, std::int64_t col) {
  const auto [u, v] = kernels::philox_uniform(seed ^ static_cast<std::uint64_t>(what) << 48,
                                              static_cast<std::uint64_t>(row), static_cast<std::uint64_t>(col));
  return std::sqrt(-2.0 * std::log(1.0 - u)) * std::cos(2 * std::numbers::pi * v);
}

void make_linear(std::uint64_t seed, std::int64_t index, double noise, std::span<const double> features,
                 std::span<double> labels) {
  const auto inputs = std::ssize(features);
  for (std::int64_t o = 0; o < std::ssize(labels); ++o) {
    double y = normal(seed, Draw::weight, o, inputs);
    for (std::int64_t i = 0; i < inputs; ++i) {
      y += normal(seed, Draw::weight, o, i) * features[static_cast<std::size_t>(i)];
    }
    labels[static_cast<std::size_t>(o)] = y + noise * normal(seed, Draw::noise, index, o);
  }
}

// The class of the sample, whose features are put on its shell.
std::int64_t make_shell(std::uint64_t seed, std::int64_t index, std::int64_t classes, double noise,
                        std::span<double> features) {
  const double u = kernels::philox_uniform(seed ^ static_cast<std::uint64_t>(Draw::which) << 48,
                                           static_cast<std::uint64_t>(index), 0)
                       .first;
  const auto which = static_cast<std::int64_t>(u * static_cast<double>(classes));
  double square = 0;
  for (const double x : features) {
    square += x * x;
  }
  const double radius = static_cast<double>(which) + 0.5 + noise * normal(seed, Draw::noise, index, 0);
  for (double& x : features) {
    x *= radius / std::sqrt(square);
  }
  return which;
}

bool tells_classes(const workloads::Dense& model) {
  return model.loss == workloads::Loss::cross_entropy;
}

template <class T>
T* put(std::span<const double> from, T* to) {
  return std::transform(from.begin(), from.end(), to, [](double x) { return static_cast<T>(x); });
}

}  // namespace

Samples::Samples(const workloads::Workload& workload, Part part, std::uint64_t seed, const Dealing& dealing)
    : inputs_(workload.model.dense.inputs),
      labels_(tells_classes(workload.model.dense) ? 1 : workload.model.dense.outputs) {
  const workloads::DataSpec& data = workload.data;
  const bool trains = part == Part::training;
  count_ = synthetic_count(data, trains);
  epochs_ = synthetic_epochs(workload, trains, dealing, seed, "samples");
  if (count_ > kMostValues / (inputs_ + labels_)) {
    throw InputError(fmt::format("data: {} samples of {} features and {} labels; expected at most {} numbers in all",
                                 count_, inputs_, labels_, kMostValues));
  }
  values_.resize(static_cast<std::size_t>(count_ * (inputs_ + labels_)));
  const std::int64_t first = trains ? 0 : data.samples;
  const std::int64_t classes = std::max<std::int64_t>(2, workload.model.dense.outputs);
  for (std::int64_t i = 0; i < count_; ++i) {
    const std::span<double> sample(values_.data() + i * (inputs_ + labels_),
                                   static_cast<std::size_t>(inputs_ + labels_));
    const std::span<double> features = sample.first(static_cast<std::size_t>(inputs_));
    const std::span<double> labels = sample.subspan(static_cast<std::size_t>(inputs_));
    for (std::int64_t f = 0; f < inputs_; ++f) {
      features[static_cast<std::size_t>(f)] = normal(seed, Draw::feature, first + i, f);
    }
    if (data.synthetic == Synthetic::linear) {
      make_linear(seed, first + i, data.noise, features, labels);
      continue;
    }
    const std::int64_t which = make_shell(seed, first + i, classes, data.noise, features);
    for (std::int64_t o = 0; o < labels_; ++o) {
      labels[static_cast<std::size_t>(o)] = labels_ == 1 ? static_cast<double>(which) : which == o ? 1.0 : 0.0;
    }
  }
}

Sample Samples::at(std::int64_t index) const {
  CHECK(0 <= index && index < count_, "sample {} of {}", index, count_);
  const double* const begin = values_.data() + index * (inputs_ + labels_);
  return {{begin, static_cast<std::size_t>(inputs_)}, {begin + inputs_, static_cast<std::size_t>(labels_)}};
}

Sample Samples::sample(std::int64_t step, std::int64_t index_in_batch) const {
  return at(epochs_.item(step, index_in_batch));
}

// Samples are dealt out as sequences are (load_tokens.h).
void load_samples(const OpCall& call, const plan::Host& op) {
  const RankContext& rank = *call.rank;
  const std::int64_t first = first_sequence(call, op);
  const kernels::Tensor& out = call.writes[0];
  for (std::int64_t s = 0; s < op.sequences; ++s) {
    const Sample sample = rank.data->sample(call.binding.step, first + s);
    const std::span<const double> from = op.task == plan::HostTask::load_labels ? sample.labels : sample.features;
    CHECK(std::ssize(from) == op.cols, "{} numbers of a sample, and {} are asked for", from.size(), op.cols);
    const kernels::Tensor to = advanced(out, s * op.cols);
    switch (to.dtype) {
      case Dtype::fp64: put(from, static_cast<double*>(to.data)); break;
      case Dtype::fp32: put(from, static_cast<float*>(to.data)); break;
      case Dtype::i32: put(from, static_cast<std::int32_t*>(to.data)); break;
      default: kernels::cast({const_cast<double*>(from.data()), Dtype::fp64}, to, op.cols); break;
    }
  }
}

}  // namespace foretrain::exec
