// Order statistics of the normal distribution.
#pragma once

#include <cstdint>

namespace foretrain {

// The expected largest of n independent standard normals, n at least 1: exact for powers of two up to 2^17, straight
// lines between them, the last value beyond.
double largest_normal(std::int64_t n);

}  // namespace foretrain
