// Words of a strategy about what replicas exchange. Used by strategy.cpp only.
#pragma once

#include "plan/strategy.h"

namespace foretrain::plan {

// "compression", of a strategy that is read but for this. Records mistakes.
Compression read_compression(ObjectReader& reader, const Strategy& strategy);

// "data_parallel" and what belongs to it, of a strategy that is read but for these. Records mistakes.
void read_data_parallel(ObjectReader& reader, Strategy& strategy);
void add_local_sgd(nlohmann::json& all, const Strategy& strategy);

}  // namespace foretrain::plan
