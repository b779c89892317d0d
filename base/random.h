// Random numbers that are a function of a seed, a stream and a count: the same on every machine, whatever the order in
// which streams are drawn from.
#pragma once

#include <cstdint>

namespace foretrain {

// SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195), begun where the seed and the stream's number
// say.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, std::uint64_t stream) : state_(mixed(mixed(seed + kGolden) ^ stream)) {}

  std::uint64_t next() { return mixed(state_ += kGolden); }
  // In (0, 1): the middles of 2^53 equal parts, but for the last, whose middle rounds to 1 and is left to the one
  // before.
  double uniform() {
    const double u = (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53;
    return u < 1 ? u : 1 - 0x1p-53;
  }

 private:
  static constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15u;
  static std::uint64_t mixed(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  std::uint64_t state_;
};

}  // namespace foretrain
