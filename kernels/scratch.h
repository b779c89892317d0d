// This thread's working memory: grown when a kernel asks for more than ever before, then kept, so that a kernel's
// second call never faults a page in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/rotary_frequencies.h"

namespace foretrain::kernels {

// A matrix product has memory of its own, so that an op may use one while it holds the other.
enum class Scratch { op, product };

// At least `bytes` bytes, 64-byte aligned, already touched. Valid until the next call for the same use on this thread:
// a kernel asks once and divides what it got.
void* scratch(Scratch use, std::size_t bytes);

// cos and sin of the rotary angles, [seq][dim / 2] each, kept from call to call while the arguments stay the same.
template <class W>
struct RotaryTable {
  const W* cos;
  const W* sin;
};
template <class W>
RotaryTable<W> rotary_table(std::int64_t seq, std::int64_t dim, const RotaryFrequencies& frequencies,
                            std::int64_t position_offset);
extern template RotaryTable<float> rotary_table(std::int64_t, std::int64_t, const RotaryFrequencies&, std::int64_t);
extern template RotaryTable<double> rotary_table(std::int64_t, std::int64_t, const RotaryFrequencies&, std::int64_t);

}  // namespace foretrain::kernels
