// Models as JSON: the project's own form (a catalogue file, or an object inside a job) and, through hf_config.h,
// others'.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/json.h"
#include "workloads/model.h"

namespace foretrain::workloads {

// Folder of the catalogue.
inline constexpr const char* kModelFolder = "workloads/models";

// Reads the model at `key`: a catalogue name, a path to a model file or to a Hugging Face config.json, or an object.
// Records mistakes, and then returns some model that breaks no invariant. `seq_len` fills max_positions of a learned
// position table that is not given.
Model read_model(ObjectReader& reader, const std::string& key, std::int64_t seq_len);

// The object form with every default filled in; read_model gives back an equal model.
nlohmann::json to_json(const Model& model);

// Reads a model file (either form). Throws InputError with every mistake.
Model load_model(const std::string& path);

// Mistakes of a model whatever form it came in: sizes that do not divide, or that no int64 can count.
void check_model(const Model& model, ObjectReader& reader);

}  // namespace foretrain::workloads
