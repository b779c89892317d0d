#include "workloads/dense_file.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace foretrain::workloads {

namespace {

constexpr std::int64_t kMaxLayers = 10'000;
constexpr std::int64_t kMaxWidth = 1'000'000;

void read_hidden_layers(ObjectReader& reader, Model& m) {
  m.layers = reader.integer("layers", std::nullopt, 1, kMaxLayers);
  m.hidden = reader.integer("hidden", std::nullopt, 1, kMaxWidth);
  const std::string activation = reader.word("activation", "relu", {"relu", "sigmoid", "gelu", "gelu_erf"});
  for (const Activation a : {Activation::relu, Activation::sigmoid, Activation::gelu, Activation::gelu_erf}) {
    m.activation = activation == name(a) ? a : m.activation;
  }
}

}  // namespace

// What only transformers have is of one head, one wide, and out of everybody's way.
void read_dense(ObjectReader& reader, bool is_mlp, Model& m) {
  m.architecture = is_mlp ? Architecture::mlp : Architecture::linear;
  m.positions = Positions::none;
  m.tied_embeddings = false;
  m.hidden = m.heads = m.kv_heads = m.head_dim = m.ffn_hidden = 1;
  m.dense.inputs = reader.integer("inputs", std::nullopt, 1, kMaxWidth);
  m.dense.outputs = m.vocab = reader.integer("outputs", 1, 1, kMaxWidth);
  if (is_mlp) {
    read_hidden_layers(reader, m);
  }
  const std::string of_classes = m.dense.outputs == 1 ? "binary_cross_entropy" : "cross_entropy";
  const std::string loss =
      is_mlp ? reader.word("loss", of_classes, {"squared_error", "binary_cross_entropy", "cross_entropy"})
             : reader.word("loss", "squared_error", {"squared_error"});
  for (const Loss l : {Loss::squared_error, Loss::binary_cross_entropy, Loss::cross_entropy}) {
    m.dense.loss = loss == name(l) ? l : m.dense.loss;
  }
  if (m.dense.loss == Loss::cross_entropy && m.dense.outputs < 2) {
    reader.mistake("outputs", fmt::format("{} class; a cross_entropy needs 2 at least", m.dense.outputs));
  }
}

nlohmann::json dense_to_json(const Model& m) {
  nlohmann::json json{{"name", m.name},
                      {"architecture", name(m.architecture)},
                      {"inputs", m.dense.inputs},
                      {"outputs", m.dense.outputs},
                      {"loss", name(m.dense.loss)}};
  if (m.layers > 0) {
    json["layers"] = m.layers;
    json["hidden"] = m.hidden;
    json["activation"] = name(m.activation);
  }
  return json;
}

}  // namespace foretrain::workloads
