// What `foretrain validate` says of whole runs, for people.
#pragma once

#include <string>

#include "reports/validation_figures.h"

namespace foretrain::reports {

// "" without rows. All must be of whole runs.
std::string runs_text(const ValidationRows& rows, bool colour);

}  // namespace foretrain::reports
