// How many operands each op kind has (ops.h lists them).
#pragma once

#include "plan/ops.h"

namespace foretrain::plan {

struct Arity {
  std::size_t reads = 0, writes = 0;
  friend bool operator==(const Arity&, const Arity&) = default;
};
// `given`: what the op has, for the kinds that take any number (a checkpoint).
Arity arity(const Work& work, Arity given);

}  // namespace foretrain::plan
