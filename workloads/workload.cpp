#include "workloads/workload.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace foretrain::workloads {

std::string_view name(AttentionKind a) {
  constexpr std::array<std::string_view, 5> kNames{"unfused", "fused_softmax", "flash", "flash3", "cudnn"};
  return kNames[static_cast<std::size_t>(a)];
}

std::string_view name(OptimizerKind o) {
  constexpr std::array<std::string_view, 6> kNames{"sgd", "momentum", "adam", "adamw", "rmsprop", "lamb"};
  return kNames[static_cast<std::size_t>(o)];
}

std::string_view name(Schedule s) {
  constexpr std::array<std::string_view, 3> kNames{"cosine", "linear", "inverse_sqrt"};
  return kNames[static_cast<std::size_t>(s)];
}

std::string_view name(Rounding r) {
  return r == Rounding::nearest ? "nearest" : "stochastic";
}

std::string_view name(DataFormat f) {
  constexpr std::array<std::string_view, 6> kNames{"auto", "text", "llm.c", "uint16", "uint32", "megatron"};
  return kNames[static_cast<std::size_t>(f)];
}

std::string_view name(Synthetic s) {
  constexpr std::array<std::string_view, 5> kNames{"none", "linear", "shells", "reverse", "keywords"};
  return kNames[static_cast<std::size_t>(s)];
}

std::string_view name(LastBatch b) {
  return b == LastBatch::drop ? "drop" : "wrap";
}

std::string_view name(Distribution d) {
  constexpr std::array<std::string_view, 3> kNames{"random", "block", "sequential"};
  return kNames[static_cast<std::size_t>(d)];
}

Bytes Workload::bytes_per_sequence() const {
  constexpr std::int64_t kBytesOfNumber = 4;
  const std::int64_t numbers = model.is_dense() ? model.dense.inputs + model.dense.outputs : tokens_per_sequence();
  return data.bytes_per_sequence.value > 0 ? data.bytes_per_sequence : Bytes{kBytesOfNumber * numbers};
}

std::int64_t Workload::targets_per_sequence() const {
  return model.is_classifier() ? 1
         : model.is_encoder()  ? std::max<std::int64_t>(1, std::llround(masked_share * static_cast<double>(seq_len)))
         : model.is_encoder_decoder() ? target_len
                                      : seq_len;
}

double learning_rate(const Optimizer& o, std::int64_t step) {
  if (step < o.warmup_steps) {
    return o.learning_rate * static_cast<double>(step + 1) / static_cast<double>(o.warmup_steps);
  }
  if (o.schedule == Schedule::inverse_sqrt) {
    const double peak = static_cast<double>(std::max<std::int64_t>(1, o.warmup_steps));
    return std::max(o.min_learning_rate, o.learning_rate * std::sqrt(peak / static_cast<double>(step + 1)));
  }
  if (o.decay_steps == 0) {
    return o.learning_rate;
  }
  if (step >= o.decay_steps) {
    return o.min_learning_rate;
  }
  const double done = static_cast<double>(step - o.warmup_steps) / static_cast<double>(o.decay_steps - o.warmup_steps);
  const double left = o.schedule == Schedule::linear ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done));
  return o.min_learning_rate + (o.learning_rate - o.min_learning_rate) * left;
}

// compute, parameter, gradient, state. fp8 and below follow Transformer Engine's recipe: matmuls in 8 bit or less,
// everything that is kept as in bf16.
Precision precision_of(const std::string& word) {
  using enum Dtype;
  struct Row {
    const char* word;
    Dtype compute, parameter, gradient, state;
  };
  constexpr std::array<Row, 8> kRows{{{"fp64", fp64, fp64, fp64, fp64},
                                      {"fp32", fp32, fp32, fp32, fp32},
                                      {"tf32", tf32, fp32, fp32, fp32},
                                      {"fp16", fp16, fp16, fp32, fp32},
                                      {"bf16", bf16, bf16, fp32, fp32},
                                      {"fp8", fp8, bf16, fp32, fp32},
                                      {"mxfp8", mxfp8, bf16, fp32, fp32},
                                      {"nvfp4", nvfp4, bf16, fp32, fp32}}};
  const auto* const row = std::find_if(kRows.begin(), kRows.end(), [&](const Row& r) { return word == r.word; });
  CHECK(row != kRows.end(), "precision \"{}\"", word);
  return {word, row->compute, row->parameter, row->gradient, row->state, Rounding::nearest};
}

}  // namespace foretrain::workloads
