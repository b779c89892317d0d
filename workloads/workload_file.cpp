#include "workloads/workload_file.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "workloads/model_file.h"

namespace foretrain::workloads {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kBelowOne = 0.999999;  // a moving average that forgets nothing never starts
constexpr std::int64_t kMaxSeqLen = 10'000'000;
constexpr std::int64_t kMaxBatch = 1'000'000'000;
constexpr std::int64_t kMaxSequences = 1'000'000'000'000;
constexpr std::int64_t kDefaultSamples = 1024;
constexpr std::int64_t kMaxLoaders = 64, kMaxPrefetch = 1024;
constexpr std::int64_t kMostBytes = 1'000'000'000'000;  // of one sequence
constexpr double kInitialScale = 65536;
constexpr std::int64_t kMaxSteps = 1'000'000'000'000;

const std::vector<std::string> kOptimizers{"sgd", "momentum", "adam", "adamw", "rmsprop", "lamb"};

OptimizerKind kind_of(const std::string& word) {
  const auto at = std::find(kOptimizers.begin(), kOptimizers.end(), word);
  return static_cast<OptimizerKind>(at - kOptimizers.begin());
}

Optimizer defaults_of(OptimizerKind kind) {
  Optimizer o;
  o.kind = kind;
  o.weight_decay = kind == OptimizerKind::adamw ? 0.1 : kind == OptimizerKind::lamb ? 0.01 : 0.0;
  o.beta2 = kind == OptimizerKind::rmsprop ? 0.99 : kind == OptimizerKind::lamb ? 0.999 : o.beta2;
  o.eps = kind == OptimizerKind::lamb ? 1e-6 : o.eps;
  return o;
}

// Only bf16 is rounded so.
Rounding read_rounding(ObjectReader& object, OptimizerKind kind, const Precision& precision) {
  if (object.word("rounding", "nearest", {"nearest", "stochastic"}) == "nearest") {
    return Rounding::nearest;
  }
  if (precision.parameter != Dtype::bf16) {
    object.mistake("rounding", fmt::format("stochastic is of bf16 weights without fp32 masters, and precision {} has "
                                           "weights in {}; expected nearest, or precision bf16",
                                           precision.word, foretrain::name(precision.parameter)));
  }
  if (kind == OptimizerKind::lamb) {
    object.mistake("rounding", "stochastic is not built with lamb; expected nearest, or another optimizer");
  }
  return Rounding::stochastic;
}

// A word, or an object with its numbers; and how it rounds what it updates.
Optimizer read_optimizer(ObjectReader& reader, Precision& precision) {
  const nlohmann::json* value = reader.raw("optimizer");
  if (value == nullptr || value->is_string()) {
    return defaults_of(kind_of(reader.word("optimizer", "adamw", kOptimizers)));
  }
  ObjectReader object = reader.object("optimizer");
  Optimizer o = defaults_of(kind_of(object.word("name", "adamw", kOptimizers)));
  const std::string schedule = object.word("decay", "cosine", {"cosine", "linear", "inverse_sqrt"});
  o.schedule = schedule == "linear"         ? Schedule::linear
               : schedule == "inverse_sqrt" ? Schedule::inverse_sqrt
                                            : o.schedule;
  o.learning_rate = object.number("learning_rate", o.learning_rate, 0, kInfinity);
  o.min_learning_rate = object.number("min_learning_rate", o.min_learning_rate, 0, kInfinity);
  o.warmup_steps = object.integer("warmup_steps", o.warmup_steps, 0, kMaxSteps);
  o.decay_steps = object.integer("decay_steps", o.decay_steps, 0, kMaxSteps);
  o.beta1 = object.number("beta1", o.beta1, 0, kBelowOne);
  o.beta2 = object.number("beta2", o.beta2, 0, kBelowOne);
  o.eps = object.number("eps", o.eps, 0, kInfinity);
  o.weight_decay = object.number("weight_decay", o.weight_decay, 0, kInfinity);
  o.momentum = object.number("momentum", o.momentum, 0, kBelowOne);
  o.clip = object.number("clip", o.clip, 0, kInfinity);
  precision.rounding = read_rounding(object, o.kind, precision);
  if (o.decay_steps != 0 && o.decay_steps <= o.warmup_steps) {
    object.mistake("decay_steps",
                   fmt::format("{} is not allowed; expected 0 (constant) or more than the {} warmup_steps",
                               o.decay_steps, o.warmup_steps));
  }
  object.finish();
  return o;
}

// "none", "dynamic", or an object with its numbers.
LossScaling read_loss_scaling(ObjectReader& reader, bool by_default) {
  LossScaling s;
  const nlohmann::json* value = reader.raw("loss_scaling");
  if (value == nullptr || value->is_string()) {
    const bool on = reader.word("loss_scaling", by_default ? "dynamic" : "none", {"none", "dynamic"}) == "dynamic";
    s.initial = on ? kInitialScale : 0;
    return s;
  }
  ObjectReader object = reader.object("loss_scaling");
  s.initial = object.number("initial", kInitialScale, 1e-30, 1e300);
  s.growth = object.number("growth", s.growth, 1, 1e6);
  s.backoff = object.number("backoff", s.backoff, 1e-6, kBelowOne);
  s.interval = object.integer("interval", s.interval, 1, kMaxSteps);
  s.limit = object.integer("limit", s.limit, 1, kMaxSteps);
  object.finish();
  return s;
}

// How items come to the ranks, and how they are read.
void read_reading(ObjectReader& object, DataSpec& data) {
  const std::string word = object.word("distribution", "random", {"random", "block", "sequential"});
  for (const Distribution d : {Distribution::block, Distribution::sequential}) {
    data.distribution = word == name(d) ? d : data.distribution;
  }
  data.reshuffle = object.boolean("reshuffle", data.distribution != Distribution::sequential);
  if (data.reshuffle && data.distribution == Distribution::sequential) {
    object.mistake("reshuffle", "true is not for distribution sequential, whose order is the data's own");
  }
  data.epochs = object.integer("epochs", 0, object.has("epochs") ? 1 : 0, kMaxSteps);
  data.loaders = object.integer("loaders", 1, 1, kMaxLoaders);
  data.prefetch = object.integer("prefetch", 0, 0, kMaxPrefetch);
  if (data.loaders > std::max<std::int64_t>(1, data.prefetch)) {
    object.mistake("loaders", fmt::format("{} threads with prefetch {}: a thread reads one microbatch ahead at a time; "
                                          "expected at most as many threads",
                                          data.loaders, data.prefetch));
  }
  data.bytes_per_sequence = object.bytes("bytes_per_sequence", Bytes{});
  if (data.bytes_per_sequence.value > kMostBytes) {
    object.mistake("bytes_per_sequence", fmt::format("is more than {}", to_string(Bytes{kMostBytes})));
  }
  data.cache = object.bytes("cache", Bytes{});
}

nlohmann::json reading_json(const DataSpec& data) {
  nlohmann::json json{{"distribution", name(data.distribution)},
                      {"reshuffle", data.reshuffle},
                      {"loaders", data.loaders},
                      {"prefetch", data.prefetch},
                      {"bytes_per_sequence", fmt::format("{} B", data.bytes_per_sequence.value)}};
  if (data.epochs > 0) {
    json["epochs"] = data.epochs;
  }
  if (data.sequences > 0) {
    json["sequences"] = data.sequences;
  }
  if (data.cache.value > 0) {
    json["cache"] = fmt::format("{} B", data.cache.value);
  }
  return json;
}

// Of what is made up item by item.
void read_made(ObjectReader& object, DataSpec& data) {
  data.samples = object.integer("samples", kDefaultSamples, 1, kMaxBatch);
  data.last_batch = object.word("last_batch", "drop", {"drop", "wrap"}) == "wrap" ? LastBatch::wrap : LastBatch::drop;
  read_reading(object, data);
}

// What a classifier is trained on is made up, too.
DataSpec read_labelled(ObjectReader& reader) {
  DataSpec data;
  ObjectReader object = reader.object("data", /*required=*/false);
  object.word("synthetic", "keywords", {"keywords"});
  data.synthetic = Synthetic::keywords;
  read_made(object, data);
  if (data.cache.value > 0) {
    object.mistake("cache",
                   "is not built with a classifier, whose sequences have lengths and classes beside them; leave the "
                   "key out");
  }
  object.finish();
  return data;
}

// What a model of features is trained on is made up.
DataSpec read_samples(ObjectReader& reader, const Dense& model) {
  DataSpec data;
  ObjectReader object = reader.object("data", /*required=*/false);
  const bool regression = model.loss == Loss::squared_error;
  const std::string kind = object.word("synthetic", regression ? "linear" : "shells", {"linear", "shells"});
  data.synthetic = kind == "linear" ? Synthetic::linear : Synthetic::shells;
  if ((data.synthetic == Synthetic::linear) != regression) {
    object.mistake("synthetic", fmt::format("\"{}\" is not for a loss of {}; expected {}", kind, name(model.loss),
                                            regression ? "linear" : "shells"));
  }
  data.noise = object.number("noise", 0.1, 0, kInfinity);
  read_made(object, data);
  object.finish();
  return data;
}

DataSpec read_data(ObjectReader& reader) {
  DataSpec data;
  ObjectReader object = reader.object("data", /*required=*/false);
  const auto file = [&object](const char* key) {
    const std::string path = object.has(key) ? object.text(key, "") : "";
    return path.empty() ? "" : object.file_path(key, path);
  };
  data.path = file("path");
  data.tokenizer = file("tokenizer");
  data.validation = file("validation");
  const std::string format = object.word("format", "auto", {"auto", "text", "llm.c", "uint16", "uint32", "megatron"});
  for (const DataFormat f :
       {DataFormat::text, DataFormat::llm_c, DataFormat::uint16, DataFormat::uint32, DataFormat::megatron}) {
    data.format = format == name(f) ? f : data.format;
  }
  data.last_batch = object.word("last_batch", "drop", {"drop", "wrap"}) == "wrap" ? LastBatch::wrap : LastBatch::drop;
  data.synthetic =
      object.word("synthetic", "none", {"none", "reverse"}) == "none" ? Synthetic::none : Synthetic::reverse;
  if (data.synthetic != Synthetic::none && !(data.path + data.tokenizer + data.validation).empty()) {
    object.mistake("synthetic",
                   fmt::format("\"{}\" is made up; leave path, tokenizer and validation out", name(data.synthetic)));
  }
  read_reading(object, data);
  data.sequences = object.integer("sequences", 0, object.has("sequences") ? 1 : 0, kMaxSequences);
  if (data.cache.value > 0 && data.sequences == 0) {
    object.mistake("cache", "how much of an epoch it holds is known with \"sequences\", the number of an epoch's");
  }
  object.finish();
  return data;
}

AttentionKind attention_of(const std::string& word) {
  return word == "unfused"         ? AttentionKind::unfused
         : word == "fused_softmax" ? AttentionKind::fused_softmax
         : word == "flash3"        ? AttentionKind::flash3
         : word == "cudnn"         ? AttentionKind::cudnn
                                   : AttentionKind::flash;
}

// Symbols are all ids but the start token, of which it takes two to tell anything.
void check_synthetic(const Workload& w, ObjectReader& reader) {
  if (w.data.synthetic == Synthetic::reverse && (!w.model.is_encoder_decoder() || w.target_len != w.seq_len)) {
    reader.mistake("data",
                   "synthetic \"reverse\" is of an encoder_decoder that tells as many tokens as it reads "
                   "(target_len seq_len)");
  } else if (w.data.synthetic == Synthetic::reverse && w.model.vocab < 3) {
    reader.mistake("data",
                   fmt::format("synthetic \"reverse\" needs a vocabulary of 3 at least, not {}", w.model.vocab));
  }
  if (w.data.synthetic == Synthetic::keywords && w.model.vocab < w.model.classes + 3) {
    reader.mistake("data", fmt::format("synthetic \"keywords\" of {} classes needs a vocabulary of {} at least, not {}",
                                       w.model.classes, w.model.classes + 3, w.model.vocab));
  }
  if (w.model.is_classifier() && w.seq_len < 2) {
    reader.mistake("seq_len",
                   "1 is not allowed: a classifier's sequences have a first token and others; expected 2 at "
                   "least");
  }
  if (w.model.is_classifier() && !is_flash(w.attention)) {
    reader.mistake("attention",
                   fmt::format("of padded sequences is built as flash attention; expected flash, flash3 or "
                               "cudnn, not {}",
                               name(w.attention)));
  }
}

void check_encoder_decoder(const Workload& w, ObjectReader& reader) {
  if (!is_flash(w.attention)) {
    reader.mistake("attention", fmt::format("cross attention is built as flash attention; expected flash, flash3 or "
                                            "cudnn, not {}",
                                            name(w.attention)));
  }
  if (w.document_length > 0) {
    reader.mistake("document_length",
                   fmt::format("{} is not built with an encoder; expected 0, or seq_len at least", w.document_length));
  }
}

}  // namespace

Workload read_workload(ObjectReader& reader, bool on_this_machine) {
  const std::string default_precision = on_this_machine ? "fp32" : "bf16";
  Workload w;
  const bool has_length = reader.has("seq_len") || !reader.has("model");
  w.seq_len = has_length ? reader.integer("seq_len", std::nullopt, 1, kMaxSeqLen) : 1;
  w.model = read_model(reader, "model", w.seq_len);
  if (!w.model.is_dense()) {
    w.seq_len = has_length ? w.seq_len : reader.integer("seq_len", std::nullopt, 1, kMaxSeqLen);
  } else if (w.seq_len != 1) {
    reader.mistake("seq_len", fmt::format("{} is not allowed: samples of features have no length; expected 1, or no "
                                          "seq_len",
                                          w.seq_len));
  }
  if (w.model.is_encoder_decoder()) {
    w.target_len = reader.integer("target_len", w.seq_len, 1, kMaxSeqLen);
  } else if (reader.has("target_len")) {
    reader.mistake("target_len", "is of an encoder_decoder, whose decoder tells other tokens than are read");
  }
  w.global_batch = reader.integer("global_batch", std::nullopt, 1, kMaxBatch);
  w.precision = precision_of(
      reader.word("precision", default_precision, {"fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "mxfp8", "nvfp4"}));
  w.optimizer = read_optimizer(reader, w.precision);
  w.loss_scaling = read_loss_scaling(reader, w.precision.word == "fp16" && on_this_machine);
  if (w.loss_scaling.is_on() && w.model.moe.experts > 0) {
    reader.mistake("loss_scaling", "is not built with experts, whose balance has a gradient of its own; expected none");
  }
  if (w.model.is_dense()) {
    for (const char* key : {"attention", "document_length", "moe_imbalance", "masked_share"}) {
      if (reader.has(key)) {
        reader.mistake(key, "is of transformers; leave the key out");
      }
    }
    w.data = read_samples(reader, w.model.dense);
    return w;
  }
  w.attention =
      attention_of(reader.word("attention", "flash", {"unfused", "fused_softmax", "flash", "flash3", "cudnn"}));
  w.document_length = reader.integer("document_length", 0, 0, kMaxSeqLen);
  w.document_length = w.document_length >= w.seq_len ? 0 : w.document_length;
  w.moe_imbalance = reader.number("moe_imbalance", 0.0, 0.0, 1e3);
  if (w.model.is_encoder()) {
    w.masked_share = w.model.is_classifier() ? w.masked_share : reader.number("masked_share", w.masked_share, 0, 1);
    if (w.document_length > 0) {
      reader.mistake("document_length", fmt::format("{} is not built with an encoder; expected 0, or seq_len at least",
                                                    w.document_length));
    }
  }
  if (reader.has("masked_share") && !w.model.is_encoder()) {
    reader.mistake("masked_share", "is of an encoder; a decoder tells every next token: leave it out");
  } else if (reader.has("masked_share") && w.model.is_classifier()) {
    reader.mistake("masked_share", "is of the head masked_lm; a classifier masks no tokens: leave it out");
  }
  w.data = w.model.is_classifier() ? read_labelled(reader) : read_data(reader);
  if (w.data.sequences > 0 && w.data.sequences < w.global_batch) {
    reader.mistake("data", fmt::format("sequences {} are fewer than the {} of a step (global_batch)", w.data.sequences,
                                       w.global_batch));
  }
  for (const auto& [key, tokens] : {std::pair{"seq_len", w.seq_len}, {"target_len", w.target_len}}) {
    if (w.model.positions == Positions::learned && tokens > w.model.max_positions) {
      reader.mistake(
          key, fmt::format("{} is not allowed; the model has {} learned positions", tokens, w.model.max_positions));
    }
  }
  if (w.model.is_encoder_decoder()) {
    check_encoder_decoder(w, reader);
  }
  check_synthetic(w, reader);
  if (w.model.attention_sinks && !is_flash(w.attention)) {
    reader.mistake("attention", fmt::format("the model's attention_sinks are built behind flash attention; expected "
                                            "flash, flash3 or cudnn, not {}",
                                            name(w.attention)));
  }
  return w;
}

nlohmann::json to_json(const Workload& w) {
  const Optimizer& o = w.optimizer;
  nlohmann::json json{{"model", to_json(w.model)},
                      {"seq_len", w.seq_len},
                      {"global_batch", w.global_batch},
                      {"precision", w.precision.word},
                      {"optimizer",
                       {{"name", name(o.kind)},
                        {"decay", name(o.schedule)},
                        {"learning_rate", o.learning_rate},
                        {"min_learning_rate", o.min_learning_rate},
                        {"warmup_steps", o.warmup_steps},
                        {"decay_steps", o.decay_steps},
                        {"beta1", o.beta1},
                        {"beta2", o.beta2},
                        {"eps", o.eps},
                        {"weight_decay", o.weight_decay},
                        {"momentum", o.momentum},
                        {"clip", o.clip}}}};
  if (w.precision.rounding != Rounding::nearest) {
    json["optimizer"]["rounding"] = name(w.precision.rounding);
  }
  const LossScaling& s = w.loss_scaling;
  json["loss_scaling"] = s.is_on() ? nlohmann::json{{"initial", s.initial},
                                                    {"growth", s.growth},
                                                    {"backoff", s.backoff},
                                                    {"interval", s.interval},
                                                    {"limit", s.limit}}
                                   : nlohmann::json("none");
  if (w.model.is_dense()) {
    json["data"] = {{"synthetic", name(w.data.synthetic)},
                    {"samples", w.data.samples},
                    {"noise", w.data.noise},
                    {"last_batch", name(w.data.last_batch)}};
    json["data"].update(reading_json(w.data));
    return json;
  }
  json["attention"] = name(w.attention);
  json["document_length"] = w.document_length;
  json["moe_imbalance"] = w.moe_imbalance;
  if (w.model.is_classifier()) {
    json["data"] = {
        {"synthetic", name(w.data.synthetic)}, {"samples", w.data.samples}, {"last_batch", name(w.data.last_batch)}};
    json["data"].update(reading_json(w.data));
    return json;
  }
  json["data"] = {{"path", w.data.path},
                  {"format", name(w.data.format)},
                  {"tokenizer", w.data.tokenizer},
                  {"validation", w.data.validation},
                  {"last_batch", name(w.data.last_batch)},
                  {"synthetic", name(w.data.synthetic)}};
  json["data"].update(reading_json(w.data));
  if (w.model.is_encoder_decoder()) {
    json["target_len"] = w.target_len;
  }
  if (w.model.is_encoder()) {
    json["masked_share"] = w.masked_share;
  }
  return json;
}

}  // namespace foretrain::workloads
