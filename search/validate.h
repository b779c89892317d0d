// Sets forecasts against published measurements. The kind of a row is told by its keys: `collective` and `bytes` make
// one of nccl-tests (time_us out of place; bytes is the total buffer); rows of training runs are not forecast yet.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "reports/validation.h"
#include "topologies/network_environment.h"

namespace foretrain::search {

// Reads a file of one JSON object per line; empty lines are passed over. `constants`: a file of network environments,
// "" for the catalogue's. Throws InputError with "file:line: what" of every line that cannot be read.
reports::Validation validate(const std::string& path, const std::string& constants);
// `origin` stands in messages.
reports::Validation validate(std::istream& in, const std::string& origin,
                             const std::vector<topologies::NetworkEnvironment>& environments);

}  // namespace foretrain::search
