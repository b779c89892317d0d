// The same processes under other numbers.
#pragma once

#include <memory>
#include <vector>

#include "exec/transport.h"

namespace foretrain::exec {

// Process `order[i]` is called i. REQUIRES: a permutation.
std::unique_ptr<Transport> renumbered(std::unique_ptr<Transport> transport, std::vector<int> order);

}  // namespace foretrain::exec
