// Files of measured collectives. Every row that is accepted has a forecast or a reason, and the report can be written.
// Training runs have a target of their own (validate_row), which simulates small ones only.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "base/error.h"
#include "search/validate.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (text.find("measured") != std::string::npos) {
    return 0;
  }
  std::istringstream in(text);
  try {
    const auto validation = foretrain::search::validate(in, "input");
    for (const auto& row : validation.rows) {
      CHECK(row.predicted.has_value() != row.skipped.has_value(), "{} has neither a forecast nor a reason", row.id);
      CHECK(!row.predicted || (std::isfinite(*row.predicted) && *row.predicted >= 0), "{} is forecast {} us", row.id,
            *row.predicted);
    }
    foretrain::reports::to_json(validation).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    foretrain::reports::to_csv(validation);
    foretrain::reports::to_text(validation, false);
  } catch (const foretrain::InputError&) {
  }
  return 0;
}
