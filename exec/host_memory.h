// What the host has left.
#pragma once

#include <cstdint>

namespace foretrain::exec {

// Bytes that the system says it can still give, or -1 where it does not say.
std::int64_t available_memory();

}  // namespace foretrain::exec
