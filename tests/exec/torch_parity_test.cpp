// Loss and gradients beside PyTorch's, without PyTorch: scripts/torch-parity has stored what it computed in fp64 from
// weights and tokens that are hashes, which are made here again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "exec/data.h"
#include "exec/executor.h"
#include "exec/keywords.h"
#include "exec/weights.h"
#include "plan/build.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

constexpr const char* kFigures = "tests/exec/torch_parity.json";

const json& figures() {
  static const json document = json::parse(std::ifstream(kFigures));
  return document;
}

// Number n of the generator of Steele et al. 2014.
std::uint64_t splitmix64(std::uint64_t n) {
  std::uint64_t z = n * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// value() of the script: 11 bits as a number in [-0.25, 0.25), of a gain around 1.
std::vector<double> values(const std::string& name, const std::vector<std::int64_t>& shape) {
  std::uint64_t first = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    first += (i + 1) * static_cast<unsigned char>(name[i]);
  }
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    count *= extent;
  }
  const double middle = shape.size() == 1 && name.ends_with("weight") ? 1.0 : 0.0;
  std::vector<double> result;
  for (std::int64_t i = 1; i <= count; ++i) {
    const std::uint64_t bits = splitmix64((first << 32) + static_cast<std::uint64_t>(i)) >> 53;
    result.push_back(middle + (static_cast<double>(bits) - 1024.0) / 4096.0);
  }
  return result;
}

// tokens() of the script, of which one step takes all.
Text hashed_text(std::int64_t count) {
  std::string bytes;
  for (std::int64_t i = 1; i <= count; ++i) {
    bytes += static_cast<char>(splitmix64(static_cast<std::uint64_t>(i)) >> 56);
  }
  Text text;
  text.training = workloads::Tokens::of_bytes(std::move(bytes));
  return text;
}

struct Difference {
  double loss = 0.0;      // as a share of PyTorch's
  double gradient = 0.0;  // of a norm or an element, as a share of the norm, or of a hundredth of that of all gradients
                          // where that is more (a key's bias has no gradient); the largest
  std::string tensor;     // of that
};

Difference difference(const std::string& model, const std::string& precision, const Words& words) {
  const json& expected = figures().at("models").at(model);
  const std::int64_t told = expected.value("target_len", std::int64_t{0}),
                     all = figures().at("seq_len");  // told: of an encoder_decoder
  json document = {{"version", 1},
                   {"cluster", {{"system", "this-machine"}}},
                   {"strategy", json::object()},
                   {"workload",
                    {{"model", expected.at("model")},
                     {"seq_len", all - told},
                     {"global_batch", figures().at("batch")},
                     {"precision", precision},
                     {"optimizer", {{"name", "sgd"}, {"clip", 0}}}}}};
  if (told > 0) {
    document["workload"]["target_len"] = told;
  }
  if (expected.at("model").contains("classes")) {
    document["workload"]["data"] = {{"samples", figures().at("batch")}};
  }
  const plan::Job job = plan::job_from_text(document.dump(), "parity job", words);
  const plan::PlanGraph graph = plan::build(job);
  const test::TemporaryFolder folder;

  std::vector<workloads::TensorToStore> weights;
  for (const auto& [name, gradient] : expected.at("gradients").items()) {
    const auto shape = gradient.at("shape").get<std::vector<std::int64_t>>();
    weights.push_back({name, shape, [name, shape] { return encode(values(name, shape), Dtype::fp64); }});
  }
  workloads::write_safetensors(folder.path("weights"), Dtype::fp64, weights);
  const workloads::Workload& w = job.workload;
  const Text text = hashed_text(all * w.global_batch + 1);
  const TextWindows windows = training_windows(text, all, w.global_batch, w.model.vocab, 1);
  const std::optional<Keywords> keywords =
      w.model.is_classifier() ? std::optional<Keywords>(std::in_place, w, Keywords::Part::training, 1) : std::nullopt;
  const DataSource& data = keywords ? static_cast<const DataSource&>(*keywords) : windows;
  Executor executor(graph, data, 1);
  executor.set_parameters(read_weights(graph, job.workload.model, workloads::Safetensors(folder.path("weights"))));
  RunOptions one_step;
  one_step.steps = 1;
  Difference worst;
  const double loss = expected.at("loss");
  worst.loss = std::abs(executor.run(one_step).loss.at(0) - loss) / loss;
  save_gradients(folder.path("gradients"), job.workload.model, Dtype::fp64, executor.gradients());

  const workloads::Safetensors gradients(folder.path("gradients"));
  EXPECT_EQ(gradients.tensors().size(), expected.at("gradients").size());
  double all_squares = 0.0;
  for (const auto& [name, gradient] : expected.at("gradients").items()) {
    all_squares += gradient.at("norm").get<double>() * gradient.at("norm").get<double>();
  }
  for (const workloads::StoredTensor& tensor : gradients.tensors()) {
    const json& of = expected.at("gradients").at(tensor.name);
    const double norm = of.at("norm"), unit = std::max(norm, 0.01 * std::sqrt(all_squares));
    const auto note = [&](double own, double theirs) {
      const double share = std::abs(own - theirs) / unit;
      if (!(share <= worst.gradient)) {  // also where it is no number
        worst.gradient = share;
        worst.tensor = tensor.name;
      }
    };
    std::vector<double> own;
    decode(tensor.bytes, Dtype::fp64, own);
    double squares = 0.0;
    for (const double x : own) {
      squares += x * x;
    }
    note(std::sqrt(squares), norm);
    for (std::size_t i = 0; i < of.at("at").size(); ++i) {
      note(own.at(of.at("at").at(i).get<std::size_t>()), of.at("values").at(i));
    }
  }
  return worst;
}

void expect_parity(const std::string& precision, const Words& words, double limit) {
  const auto has = [&](const char* axis) {
    return std::any_of(words.begin(), words.end(), [&](const std::string& word) { return word.starts_with(axis); });
  };
  for (const auto& [model, of] : figures().at("models").items()) {
    if ((of.contains("target_len") && (has("pp=") || has("cp="))) ||
        (of.at("model").contains("classes") && has("cp="))) {
      continue;  // an encoder_decoder is not cut so, nor are a classifier's sequences
    }
    const Difference d = difference(model, precision, words);
    EXPECT_LE(d.loss, limit) << model;
    EXPECT_LE(d.gradient, limit) << model << ": " << d.tensor;
  }
}

// Rounding of either side is some 1e-15: norms of sums of 1e2 to 1e4 products of numbers that differ by 1e-16.
TEST(TorchParity, LossAndGradientsInFp64) {
  expect_parity("fp64", {}, 1e-12);
}

// 2^-24 is 6e-8; the script has found 1e-6 between the two in fp32.
TEST(TorchParity, LossAndGradientsInFp32) {
  expect_parity("fp32", {}, 1e-5);
}

TEST(TorchParity, OfSeveralRanks) {
  expect_parity("fp64", {"dp=3", "tp=2", "zero=1"}, 1e-12);
  expect_parity("fp64", {"pp=2", "dp=2", "micro_batch=1"}, 1e-12);
  expect_parity("fp64", {"tp=2", "cp=2", "micro_batch=2"}, 1e-12);
}

// The figures are no tautology: other weights do not have them.
TEST(TorchParity, SeesAnotherEpsilon) {
  EXPECT_GT(difference("llama", "fp64", {"workload.model.norm_eps=0.000011"}).loss, 1e-9);
}

}  // namespace
}  // namespace foretrain::exec
