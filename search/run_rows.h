// Published large runs as rows of `validate`: how often they failed and what share of their time they trained, beside a
// forecast that knows what their rows say of the run, and the other sites' failure rates (topologies/operations.json),
// not their own.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "reports/validation.h"
#include "search/row_reader.h"
#include "topologies/operations.h"

namespace foretrain::search {

// By its keys and group: of a run, or of what happens in one.
bool is_run_row(const nlohmann::json& object);

// One row for each figure that was published; one that is skipped where there is none, or too little to forecast it.
std::vector<reports::ValidationRow> forecast_run(const RowReader& reader, const topologies::Operations& operations);

}  // namespace foretrain::search
