#include "exec/weights.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/output_file.h"
#include "plan/parameters.h"
#include "workloads/hf_config.h"
#include "workloads/hf_weights.h"

namespace foretrain::exec {

namespace {

namespace fs = std::filesystem;
using workloads::Safetensors;
using workloads::StoredTensor;
using workloads::WeightMap;

constexpr std::size_t kNamesShown = 5;

[[noreturn]] void refuse(const std::string& file, const std::string& what) {
  throw InputError(fmt::format("weights: {}: {}", file, what));
}

// Every tensor of the graph's model, zero.
std::map<std::string, FullTensor> empty_tensors(const plan::PlanGraph& graph) {
  std::map<std::string, FullTensor> tensors;
  for (const plan::Role& role : graph.roles) {
    for (const plan::ParameterFamily& family : role.parameter_families) {
      for (std::int32_t copy = 0; copy < std::max(1, family.layers); ++copy) {
        const std::int32_t layer = family.layers == 0 ? 0 : plan::layer_of_copy(role, family.layer_list, copy);
        for (const plan::Parameter& p : family.parameters) {
          FullTensor& tensor = tensors[plan::global_name(role, p, layer)];
          tensor.name = plan::global_name(role, p, layer);
          tensor.values.resize(static_cast<std::size_t>(p.global_rows * p.global_cols));
        }
      }
    }
  }
  return tensors;
}

std::string names_of(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) {
    text += (i == 0 ? "" : ", ") + shown(names[i]);
  }
  return names.size() > kNamesShown ? fmt::format("{} and {} more", text, names.size() - kNamesShown) : text;
}

// Weights as one file holds them: with the prefix of the whole model, or without.
class Reader {
 public:
  Reader(const workloads::Model& model, const Safetensors& weights)
      : model_(model), weights_(weights), maps_(workloads::weight_maps(model)) {
    has_prefix_ = std::any_of(weights.tensors().begin(), weights.tensors().end(),
                              [&](const StoredTensor& t) { return t.name.starts_with(maps_.prefix); });
  }

  void read(std::map<std::string, FullTensor>& tensors) {
    check_names();
    for (const WeightMap& map : maps_.maps) {
      if (map.may_lack && weights_.find(name(map.theirs)) == nullptr) {
        tensors.erase(map.ours);
        continue;
      }
      const StoredTensor& stored = *weights_.find(name(map.theirs));
      check(stored, map.shape);
      decode(stored.bytes, *stored.number_type(), values_);
      if (map.ours.empty()) {
        check_zero(stored);
        continue;
      }
      std::vector<double>& out = tensors.at(map.ours).values;
      const std::int64_t step = map.step();
      for (std::int64_t i = 0; i < std::ssize(map.rows); ++i) {
        const auto row = static_cast<std::size_t>(map.rows[static_cast<std::size_t>(i)] * map.cols);
        CHECK(row + static_cast<std::size_t>(map.cols) <= out.size(), "{}: row {}", map.ours, row);
        const double* from = values_.data() + map.first(i);
        for (std::int64_t c = 0; c < map.cols; ++c, from += step) {
          out[row + static_cast<std::size_t>(c)] = *from * map.scale;
        }
      }
    }
    if (model_.tied_embeddings) {
      check_tied();
    }
  }

 private:
  std::string name(const std::string& theirs) const {
    const std::string now =
        !has_prefix_ && theirs.starts_with(maps_.prefix) ? theirs.substr(maps_.prefix.size()) : theirs;
    return weights_.find(now) == nullptr && weights_.find(workloads::old_name(now)) != nullptr
               ? workloads::old_name(now)
               : now;
  }

  void check_names() const {
    std::set<std::string> known{maps_.tied_head};
    std::vector<std::string> missing, surplus;
    for (const WeightMap& map : maps_.maps) {
      known.insert(name(map.theirs));
      if (!map.may_lack && weights_.find(name(map.theirs)) == nullptr) {
        missing.push_back(name(map.theirs));
      }
    }
    for (const StoredTensor& t : weights_.tensors()) {
      if (!known.contains(t.name) && !workloads::is_no_weight(t.name, model_)) {
        surplus.push_back(t.name);
      }
    }
    if (!missing.empty() || !surplus.empty()) {
      refuse(weights_.path(),
             fmt::format("are not those of the job's model, a {} of {} layers:{}{}{}", maps_.model_type, model_.layers,
                         missing.empty() ? "" : " it lacks " + names_of(missing),
                         missing.empty() || surplus.empty() ? "" : ";",
                         surplus.empty() ? "" : " it has " + names_of(surplus) + ", which the model has not"));
    }
  }

  void check(const StoredTensor& stored, const std::vector<std::int64_t>& shape) const {
    if (stored.shape != shape) {
      refuse(stored.file, fmt::format("tensor {}: shape {}; the job's model needs {}", shown(stored.name),
                                      workloads::shape_text(stored.shape), workloads::shape_text(shape)));
    }
    if (!stored.number_type()) {
      refuse(stored.file, fmt::format("tensor {}: dtype {} is not allowed for a weight; expected one of: F64, F32, "
                                      "F16, BF16",
                                      shown(stored.name), stored.dtype));
    }
  }

  void check_zero(const StoredTensor& stored) const {
    if (std::any_of(values_.begin(), values_.end(), [](double x) { return x != 0.0; })) {
      refuse(stored.file,
             fmt::format("tensor {}: is not zero; a bias that balances experts is not built yet", shown(stored.name)));
    }
  }

  void check_tied() const {
    const StoredTensor* const stored = weights_.find(maps_.tied_head);
    const StoredTensor& table = *weights_.find(name(maps_.maps.front().theirs));
    if (stored != nullptr && (stored->dtype != table.dtype || !std::equal(stored->bytes.begin(), stored->bytes.end(),
                                                                          table.bytes.begin(), table.bytes.end()))) {
      refuse(stored->file, fmt::format("tensor {}: differs from {}; the job's model ties them (tied_embeddings)",
                                       shown(stored->name), shown(table.name)));
    }
  }

  const workloads::Model& model_;
  const Safetensors& weights_;
  const workloads::WeightMaps maps_;
  bool has_prefix_ = false;
  std::vector<double> values_;
};

// What shapes do not tell.
void check_config(const std::string& path, const workloads::Model& model) {
  std::error_code none;
  const fs::path folder = fs::is_directory(path, none) ? fs::path(path) : fs::path(path).parent_path();
  const std::string file = (folder / "config.json").string();
  if (!fs::exists(file, none)) {
    return;
  }
  const JsonDocument document = JsonDocument::from_file(file);
  if (!workloads::is_hf_config(document)) {
    return;
  }
  Mistakes mistakes;
  workloads::Model there = workloads::import_hf_config(document, mistakes);
  mistakes.throw_if_any();
  if (model.is_classifier() && !there.is_classifier()) {  // which the job puts in its head's place
    there.head = model.head;
    there.classes = model.classes;
    there.tied_embeddings = model.tied_embeddings;
  }
  if (const std::string what = workloads::model_difference(there, model); !what.empty()) {
    refuse(file, fmt::format("is not the job's model: {}; \"model\" may name this file", what));
  }
  const bool is_scaled = document.root().value("model_type", "") == "gpt_oss" &&
                         !document.root().contains("rope_scaling") && !document.root().contains("rope_parameters");
  if (is_scaled) {
    refuse(file, "/rope_scaling: is missing, which means \"yarn\" in gpt_oss; it is not built yet; expected null");
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json scaling = document.root().value(key, nlohmann::json());
    if (!scaling.is_object()) {
      continue;
    }
    const nlohmann::json type = scaling.value("rope_type", scaling.value("type", nlohmann::json("default")));
    if (type != "default" && !(type == "llama3" && there.rotary.are_scaled())) {
      refuse(file, fmt::format("/{}: rotary positions of type {} are not built yet; with them these weights would "
                               "compute something else; expected \"default\" or \"llama3\"",
                               key, shown(type)));
    }
  }
}

// Their tensor, out of ours: of values, or of gradients with respect to them.
std::string stored_bytes(const WeightMap& map, Dtype dtype, const std::map<std::string, const FullTensor*>& by_name,
                         bool gradients) {
  const double factor = gradients ? map.scale : 1 / map.scale;
  std::vector<double> values(map.rows.size() * static_cast<std::size_t>(map.cols));
  if (!map.ours.empty()) {
    const auto found = by_name.find(map.ours);
    CHECK(found != by_name.end(), "no values for {}", map.ours);
    const std::vector<double>& from = found->second->values;
    const std::int64_t step = map.step();
    for (std::int64_t i = 0; i < std::ssize(map.rows); ++i) {
      const auto row = static_cast<std::size_t>(map.rows[static_cast<std::size_t>(i)] * map.cols);
      CHECK(row + static_cast<std::size_t>(map.cols) <= from.size(), "{}: row {}", map.ours, row);
      double* to = values.data() + map.first(i);
      for (std::int64_t c = 0; c < map.cols; ++c, to += step) {
        *to = from[row + static_cast<std::size_t>(c)] * factor;
      }
    }
  }
  return encode(values, dtype);
}

std::vector<workloads::TensorToStore> to_store(const workloads::WeightMaps& maps, Dtype dtype,
                                               const std::map<std::string, const FullTensor*>& by_name,
                                               bool gradients) {
  std::vector<workloads::TensorToStore> out;
  for (const WeightMap& map : maps.maps) {
    out.push_back({map.theirs, map.shape,
                   [&map, &by_name, dtype, gradients] { return stored_bytes(map, dtype, by_name, gradients); }});
  }
  return out;
}

std::map<std::string, const FullTensor*> by_name(const std::vector<FullTensor>& tensors) {
  std::map<std::string, const FullTensor*> map;
  for (const FullTensor& tensor : tensors) {
    map[tensor.name] = &tensor;
  }
  return map;
}

}  // namespace

std::vector<FullTensor> read_weights(const plan::PlanGraph& graph, const workloads::Model& model,
                                     const Safetensors& weights) {
  check_config(weights.path(), model);
  std::map<std::string, FullTensor> tensors = empty_tensors(graph);
  Reader(model, weights).read(tensors);
  std::vector<FullTensor> all;
  for (auto& [name, tensor] : tensors) {
    all.push_back(std::move(tensor));
  }
  return all;
}

void check_can_save(const std::string& folder, const workloads::Model& model) {
  std::error_code none;
  if (fs::exists(folder, none) && !fs::is_directory(folder, none)) {
    throw InputError(fmt::format("save: {}: is no folder; expected one that exists or can be made", folder));
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    if (name == workloads::kWeightsIndex || name.ends_with(".safetensors")) {
      throw InputError(fmt::format("save: {}: holds weights already ({}); name another folder", folder, name));
    }
  }
  workloads::hf_model_type(model);
}

void save_model(const std::string& folder, const workloads::Model& model, std::int64_t max_positions, Dtype dtype,
                const std::vector<FullTensor>& tensors, std::int64_t shard_bytes) {
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (failure) {
    throw EnvironmentError(fmt::format("{}: cannot be made: {}", folder, failure.message()));
  }
  const workloads::WeightMaps maps = workloads::weight_maps(model);
  const auto values = by_name(tensors);
  write_file((fs::path(folder) / "config.json").string(),
             workloads::hf_config(model, max_positions, dtype).dump(2) + "\n");
  workloads::write_safetensors_folder(folder, dtype, to_store(maps, dtype, values, false), shard_bytes);
}

void save_gradients(const std::string& path, const workloads::Model& model, Dtype dtype,
                    const std::vector<FullTensor>& tensors) {
  const workloads::WeightMaps maps = workloads::weight_maps(model);
  const auto values = by_name(tensors);
  workloads::write_safetensors(path, dtype, to_store(maps, dtype, values, true));
}

}  // namespace foretrain::exec
