// Reading and writing the "moe" part of a model.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "base/json.h"
#include "workloads/moe.h"

namespace foretrain::workloads {

// Reads `key` of a model of so many layers. Records mistakes.
Moe read_moe(ObjectReader& reader, const char* key, std::int64_t layers);
// What no reader may let pass, whatever the file's format.
void check_moe(const Moe& moe, std::int64_t layers, ObjectReader& reader);
nlohmann::json to_json(const Moe& moe);

}  // namespace foretrain::workloads
