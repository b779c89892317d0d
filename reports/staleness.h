// How stale the gradients were that servers updated by (plan/channel.h).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "plan/channel.h"

namespace foretrain::reports {

// {"updates", "mean", "max", "histogram": {"0": updates, …}}. REQUIRES: not empty.
nlohmann::ordered_json staleness_json(const plan::Staleness& updates);
// "2.00 in the mean, 3 at most".
std::string staleness_text(const plan::Staleness& updates);

}  // namespace foretrain::reports
