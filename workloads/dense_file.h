// Linear models and multilayer perceptrons in JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/json.h"
#include "workloads/model.h"

namespace foretrain::workloads {

// The keys of a model with an `architecture` of linear or mlp, but those that all models have. Mistakes are recorded.
void read_dense(ObjectReader& reader, bool is_mlp, Model& m);
nlohmann::json dense_to_json(const Model& m);

}  // namespace foretrain::workloads
