// How fast rotary positions turn.
#pragma once

#include <numbers>

namespace foretrain {

// Of d columns, pair i turns by f = base^(-2i/d) radians for each position. With a factor above 1 slow pairs are
// slower, as in Llama 3.1 ("llama3" of Hugging Face's rope_scaling): `original_positions` positions make w =
// original_positions f / 2 pi turns; up to `low` turns a pair's frequency is f / factor, from `high` on it is f, and in
// between it goes from the one to the other as w does.
struct RotaryFrequencies {
  double base = 10000.0;
  double factor = 1.0, low = 1.0, high = 4.0, original_positions = 8192.0;

  constexpr RotaryFrequencies() = default;
  constexpr RotaryFrequencies(double b) : base(b) {}  // NOLINT: most have just a base

  constexpr bool are_scaled() const { return factor != 1.0; }
  // Of a pair that turns by `f` without.
  constexpr double scaled(double f) const {
    if (!are_scaled()) {
      return f;
    }
    const double turns = original_positions * f / (2 * std::numbers::pi);
    const double kept = turns <= low ? 0.0 : turns >= high ? 1.0 : (turns - low) / (high - low);
    return f * ((1.0 - kept) / factor + kept);
  }

  friend bool operator==(const RotaryFrequencies&, const RotaryFrequencies&) = default;
};

}  // namespace foretrain
