// Figures as people read them, and as JSON carries them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/units.h"

namespace foretrain::reports {

std::string percent(double fraction);         // 0.4512 -> "45.1 %"; "-" for a number that is none
std::string signed_percent(double fraction);  // "+3.2 %", "-0.5 %"
std::string count(std::int64_t n);            // 1536000 -> "1,536,000"
std::string compact(double value);         // three digits and a power of ten: "312e12" -> "312 T", "1.5e9" -> "1.50 G"
std::string seconds_text(double seconds);  // as Time prints: "1.23 ms"; "-" for a number that is none

// null for what is no finite number: documents never hold NaN.
nlohmann::ordered_json number(double value);

}  // namespace foretrain::reports
