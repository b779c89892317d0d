// What `foretrain validate` says of training runs, for people and as JSON (reports/validation_figures.h has what the
// figures are).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "reports/validation_figures.h"

namespace foretrain::reports {

// "" without rows. All must be of training runs.
std::string training_text(const ValidationRows& rows, bool colour);
nlohmann::ordered_json training_json(const ValidationRows& rows);

}  // namespace foretrain::reports
