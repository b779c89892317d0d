// Models as the transformers library stores them: which family of it a model belongs to, its config.json, and how each
// of their tensors lies in one of ours (names and row orders of plan/build_parameters.cpp and plan/build_experts.cpp).
//
// Ours are row-major [out, in] and stacked: q | k | v, gate | up, experts one after the other. Theirs differ by family:
// BERT and Llama have q, k and v apart; GPT-2 stores the transpose; GPT-NeoX stacks q | k | v head by head; DeepSeek
// has the rotated columns of a head in pairs where ours has them in halves; gpt-oss stacks experts, transposed, with
// gate and up columns in turn.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "workloads/model.h"

namespace foretrain::workloads {

// The model_type of a model. Throws InputError that names what no built family can say: such models have no weights
// there.
std::string hf_model_type(const Model& model);

// config.json of the model, whose import gives an equal model (capacity_factor and aux_loss, of training only, aside).
// Throws as hf_model_type does.
nlohmann::ordered_json hf_config(const Model& model, std::int64_t max_positions, Dtype dtype);

// The first difference of two models in what they compute: "norm_eps is 1e-05 there and 1e-06 here"; "" for none.
std::string model_difference(const Model& there, const Model& here);

// One of their tensors: `blocks` blocks, one after the other, each of as many of our rows, transposed or not.
struct WeightMap {
  std::string theirs;
  std::vector<std::int64_t> shape;
  std::string ours;                // "": none, it holds zeros (a bias that balances experts, which is not trained here)
  std::vector<std::int64_t> rows;  // of ours, in their order
  std::int64_t cols = 1;           // of ours
  std::int64_t blocks = 1;
  bool transposed = false;
  double scale = 1.0;     // ours is theirs times it
  bool may_lack = false;  // a model that was trained for something else has none

  // Place in their tensor of element (i, c), i being an index into `rows`: first(i) + c * step().
  std::int64_t first(std::int64_t i) const {
    const std::int64_t in_block = std::ssize(rows) / blocks;
    const std::int64_t block = i / in_block, r = i % in_block;
    return block * in_block * cols + (transposed ? r : r * cols);
  }
  std::int64_t step() const { return transposed ? std::ssize(rows) / blocks : 1; }
};

struct WeightMaps {
  std::string model_type;
  std::string prefix;           // of all names but the head's; files of the model without its head lack it
  std::string tied_head;        // name of a tied head, where a file has it nevertheless
  std::vector<WeightMap> maps;  // every tensor of the model, in its order; a tied head is not among them
};

// Throws as hf_model_type does.
WeightMaps weight_maps(const Model& model);

// What a tensor is called in files of the library's first years: BERT's norms had a gamma and a beta. Else the same.
std::string old_name(const std::string& theirs);

// Whether the library stores a tensor of this name that no parameter stands for: masks, rotary tables, modules that
// predict further tokens, BERT's pooler and sentence head, which masked tokens do not train, and before a classifier
// its masked-LM head.
bool is_no_weight(std::string_view theirs, const Model& model);

}  // namespace foretrain::workloads
