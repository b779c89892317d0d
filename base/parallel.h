// Independent pieces of work on all cores.
#pragma once

#include <cstddef>
#include <functional>

namespace foretrain {

// work(0) … work(count - 1), each once, in any order, on as many threads as the machine has cores. Of the exceptions
// the one of the lowest index is thrown, when all are done.
void in_parallel(std::size_t count, const std::function<void(std::size_t)>& work);

}  // namespace foretrain
