// Which values an axis of a search may have.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace foretrain::search {

// What `key` expects instead of `value`, "an integer from 1 to 1000000"; "" where the value is one. Requires: key is an
// axis (search/plan_space.h).
std::string expected_instead(const std::string& key, const nlohmann::json& value);

}  // namespace foretrain::search
