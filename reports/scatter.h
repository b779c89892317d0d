// Forecast over measurement as a picture: every used row a dot, groups by colour, both axes logarithmic; below it the
// error over the measurement. Plain SVG, readable without script or font files.
#pragma once

#include <string>

#include "reports/validation.h"

namespace foretrain::reports {

// Verdicts are left out. Where rows have several units, those of the first used row's are drawn.
std::string scatter_svg(const Validation& validation);

}  // namespace foretrain::reports
