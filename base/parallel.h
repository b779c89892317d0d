// Independent pieces of work on all cores.
#pragma once

#include <cstddef>
#include <functional>

namespace foretrain {

// Cores that this process may run on (its affinity mask), at least 1.
int available_cores();

// work(0) … work(count - 1), each once, in any order, on as many threads as this process may use cores. Of the
// exceptions the one of the lowest index is thrown, when all are done.
void in_parallel(std::size_t count, const std::function<void(std::size_t)>& work);

}  // namespace foretrain
