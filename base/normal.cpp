#include "base/normal.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace foretrain {

namespace {

// Of 2^k, by quadrature.
constexpr std::array kLargestNormal{0.0,   0.564, 1.029, 1.424, 1.766, 2.070, 2.344, 2.595, 2.827,
                                    3.044, 3.248, 3.442, 3.626, 3.802, 3.971, 4.134, 4.291, 4.443};

}  // namespace

double largest_normal(std::int64_t n) {
  std::size_t k = 0;
  while (k + 2 < kLargestNormal.size() && std::int64_t{2} << k <= n) {
    ++k;
  }
  const auto below = static_cast<double>(std::int64_t{1} << k);
  const double way = std::min(1.0, (static_cast<double>(std::max<std::int64_t>(n, 1)) - below) / below);
  return kLargestNormal[k] + way * (kLargestNormal[k + 1] - kLargestNormal[k]);
}

}  // namespace foretrain
