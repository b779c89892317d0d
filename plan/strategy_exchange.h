// Words of a strategy about what replicas exchange. Used by strategy.cpp and data_parallel.cpp only.
#pragma once

#include "plan/strategy.h"

namespace foretrain::plan {

// "compression", of a strategy that is read but for this. Records mistakes.
Compression read_compression(ObjectReader& reader, const Strategy& strategy);

// What belongs to "data_parallel" "local_sgd". Records mistakes.
void read_local_sgd(ObjectReader& reader, Strategy& strategy);
void write_local_sgd(const Strategy& strategy, nlohmann::json& out);

}  // namespace foretrain::plan
