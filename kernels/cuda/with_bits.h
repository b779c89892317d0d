// For kernels that move elements and do not look at them.
#pragma once

#include "kernels/cuda/with_type.h"

namespace foretrain::kernels::cuda {

// Calls f(Type<U>) with an unsigned integer of an element's width.
template <class F>
void with_bits(int bits, F f) {
  switch (bits) {
    case 64: f(Type<std::uint64_t>{}); break;
    case 32: f(Type<std::uint32_t>{}); break;
    case 16: f(Type<std::uint16_t>{}); break;
    default: f(Type<std::uint8_t>{}); break;
  }
}

}  // namespace foretrain::kernels::cuda
