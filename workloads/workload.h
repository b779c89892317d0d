// What is trained and with which settings: the "workload" part of a job file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/dtype.h"
#include "base/units.h"
#include "workloads/model.h"

namespace foretrain::workloads {

enum class AttentionKind : std::uint8_t { unfused, fused_softmax, flash, flash3, cudnn };
std::string_view name(AttentionKind a);
// Keeps no seq_len x seq_len scores: flash, flash3, cudnn.
constexpr bool is_flash(AttentionKind a) {
  return a == AttentionKind::flash || a == AttentionKind::flash3 || a == AttentionKind::cudnn;
}

// State beside the parameters: momentum and rmsprop one moment, adam, adamw and lamb two.
enum class OptimizerKind : std::uint8_t { sgd, momentum, adam, adamw, rmsprop, lamb };
std::string_view name(OptimizerKind o);
constexpr int moments(OptimizerKind k) {
  return k == OptimizerKind::sgd ? 0 : k == OptimizerKind::momentum || k == OptimizerKind::rmsprop ? 1 : 2;
}

// What the learning rate does after the warm-up. cosine, linear: down to min_learning_rate at `decay_steps` (0:
// constant). inverse_sqrt (Vaswani et al. 2017): as 1 / sqrt(step), min_learning_rate at least.
enum class Schedule : std::uint8_t { cosine, linear, inverse_sqrt };
std::string_view name(Schedule s);

// Learning rate: linear warm-up over `warmup_steps`, then the schedule. Weight decay applies to matrices only (adamw,
// lamb: decoupled; the others: none unless set, then L2).
struct Optimizer {
  OptimizerKind kind = OptimizerKind::adamw;
  Schedule schedule = Schedule::cosine;
  double learning_rate = 1e-3;
  double min_learning_rate = 0.0;
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;        // of rmsprop 0.99, of lamb 0.999
  double eps = 1e-8;          // of lamb 1e-6
  double weight_decay = 0.0;  // of adamw 0.1, of lamb 0.01
  double momentum = 0.9;
  double clip = 1.0;  // global gradient norm; 0: no clipping
  friend bool operator==(const Optimizer&, const Optimizer&) = default;
};

double learning_rate(const Optimizer& o, std::int64_t step);  // step counts from 0

// What each thing is stored in. fp32/tf32: all fp32. fp64: all fp64. fp16/bf16: compute and parameters 16 bit, master
// weights, gradients and optimizer state fp32 (Megatron's mixed precision).
// Of a 16-bit weight that is updated: from its master, to the nearest; or, without one, up or down by chance, so that
// its mean is right (Gupta et al. 2015, arXiv:1502.02551).
enum class Rounding : std::uint8_t { nearest, stochastic };
std::string_view name(Rounding r);

struct Precision {
  std::string word;             // as the job says it
  Dtype compute = Dtype::bf16;  // what matmuls read; activations are stored in it
  Dtype parameter = Dtype::bf16;
  Dtype gradient = Dtype::fp32;
  Dtype state = Dtype::fp32;  // master weights and moments
  Rounding rounding = Rounding::nearest;
  bool has_master() const { return parameter != state && rounding == Rounding::nearest; }
  friend bool operator==(const Precision&, const Precision&) = default;
};
Precision precision_of(
    const std::string& word);  // REQUIRES: a word of design: fp64 fp32 tf32 fp16 bf16 fp8 mxfp8 nvfp4

// Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740): gradients are computed of scale * loss, so that
// they do not vanish in fp16; a step in which one is no number is skipped, and the scale multiplied by `backoff`; after
// `interval` steps without, by `growth`.
struct LossScaling {
  double initial = 0;  // 0: none
  double growth = 2, backoff = 0.5;
  std::int64_t interval = 2000;
  std::int64_t limit = 50;  // so many steps skipped in a row end the run

  bool is_on() const { return initial > 0; }
  friend bool operator==(const LossScaling&, const LossScaling&) = default;
};

// What the files of a data set hold. automatic: by name and first bytes (workloads/token_file.h).
enum class DataFormat : std::uint8_t { automatic, text, llm_c, uint16, uint32, megatron };
std::string_view name(DataFormat f);

// The sequences that an epoch has beyond whole steps: left out of it, or trained on in one step with the next epoch's.
enum class LastBatch : std::uint8_t { drop, wrap };
std::string_view name(LastBatch b);

// Data that is made up: samples of features, from the run's seed (exec/samples.h), of models of features; reverse:
// sequences to be told back to front, of an encoder_decoder (exec/data.h); keywords: padded sequences whose class a
// word in them tells, of a classifier (exec/keywords.h).
enum class Synthetic : std::uint8_t { none, linear, shells, reverse, keywords };
std::string_view name(Synthetic s);

// How items come to the data-parallel ranks. random: a permutation of all, dealt out step by step; block: each rank has
// a contiguous block of them, and permutes that; sequential: as they are written, dealt out step by step.
enum class Distribution : std::uint8_t { random, block, sequential };
std::string_view name(Distribution d);

struct DataSpec {
  std::string path;  // a file, or a folder of text files; "" = the built-in text
  DataFormat format = DataFormat::automatic;
  std::string tokenizer;   // of text: a tokenizer.json; "" = bytes are ids
  std::string validation;  // as path; "" = the last tenth of it
  LastBatch last_batch = LastBatch::drop;
  Synthetic synthetic = Synthetic::none;
  std::int64_t samples = 0;  // of an epoch, where they are made up
  double noise = 0.0;
  Distribution distribution = Distribution::random;
  bool reshuffle = true;    // permutations differ from epoch to epoch
  std::int64_t epochs = 0;  // after which a run ends; 0: --steps alone says when
  // Each rank reads on so many threads of its own, microbatches ahead of the one that it trains on.
  std::int64_t loaders = 1, prefetch = 0;
  Bytes bytes_per_sequence;  // in storage; 0: 4 bytes for each token or number
  // Of what is no sample: the first so many of the data make an epoch; 0: all of them.
  std::int64_t sequences = 0;
  // Of what its ranks read a node keeps the first so many bytes, for good; 0: nothing.
  Bytes cache;
};

struct Workload {
  Model model;
  std::int64_t seq_len = 0;
  std::int64_t target_len = 0;  // of an encoder and decoder: tokens that are told of each sequence, seq_len being those
                                // that are read; 0 in other models
  std::int64_t global_batch = 0;  // sequences per step
  Precision precision;
  Optimizer optimizer;
  LossScaling loss_scaling;
  AttentionKind attention = AttentionKind::flash;
  // Sequences are packed of documents of so many tokens (the last one what is left), and attention does not look from
  // one into another (Llama 3, arXiv:2407.21783, section 3.2); positions go on. 0: one document.
  std::int64_t document_length = 0;
  // How unevenly tokens go to experts: standard deviation of an expert's share in a microbatch over the mean share.
  double moe_imbalance = 0.0;
  // Of an encoder: the part of a sequence's tokens that are masked and to be told.
  double masked_share = 0.15;
  DataSpec data;

  // Of a sequence as data: those that are read, and those that are told of it.
  std::int64_t tokens_per_sequence() const { return seq_len + target_len; }

  // Of storage, for one sequence or sample.
  Bytes bytes_per_sequence() const;

  // Tokens of each sequence that the loss is the mean over: an encoder's masked ones, at least one; a classifier's
  // first one; all that a decoder tells.
  std::int64_t targets_per_sequence() const;
};

}  // namespace foretrain::workloads
