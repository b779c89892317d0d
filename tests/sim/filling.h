// Progressive filling by the book, for tests: every round looks at every link and every flow, and nothing is kept.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "sim/fair_share.h"

namespace foretrain::sim {

struct FillingFlow {
  std::vector<LinkUse> route;
  std::int64_t copies = 1;
  Rate cap = kUnlimited;
};

// Number is Wide for the exact rates of sim/fair_share.h (whole division rounds down), long double for those over the
// reals.
template <class Number>
std::vector<Number> progressive_filling(const std::vector<Rate>& capacities, const std::vector<FillingFlow>& flows) {
  std::int64_t scale = 1;
  for (const FillingFlow& f : flows) {
    for (const LinkUse& u : f.route) {
      scale = std::lcm(scale, std::int64_t{u.denominator});
    }
  }
  std::vector<Number> rates(flows.size(), static_cast<Number>(kUnlimited));
  std::vector<bool> is_settled(flows.size());
  const auto use = [&](std::size_t f, std::size_t link) {
    Number sum = 0;
    for (const LinkUse& u : flows[f].route) {
      if (static_cast<std::size_t>(u.link) == link) {
        sum += static_cast<Number>(flows[f].copies) * u.numerator * (scale / u.denominator);
      }
    }
    return sum;
  };
  for (;;) {
    std::vector<Number> levels(capacities.size(), static_cast<Number>(kUnlimited));
    Number level = static_cast<Number>(kUnlimited);
    for (std::size_t l = 0; l < capacities.size(); ++l) {
      Number room = static_cast<Number>(capacities[l]) * scale, growing = 0;
      for (std::size_t f = 0; f < flows.size(); ++f) {
        (is_settled[f] ? room : growing) += is_settled[f] ? -use(f, l) * rates[f] : use(f, l);
      }
      if (growing > 0) {
        levels[l] = room / growing;
        level = std::min(level, levels[l]);
      }
    }
    for (std::size_t f = 0; f < flows.size(); ++f) {
      level = is_settled[f] ? level : std::min(level, static_cast<Number>(flows[f].cap));
    }
    if (level == static_cast<Number>(kUnlimited)) {
      return rates;
    }
    for (std::size_t f = 0; f < flows.size(); ++f) {
      bool stops = static_cast<Number>(flows[f].cap) == level;
      for (const LinkUse& u : flows[f].route) {
        stops = stops || levels[static_cast<std::size_t>(u.link)] == level;
      }
      if (stops && !is_settled[f]) {
        is_settled[f] = true;
        rates[f] = level;
      }
    }
  }
}

}  // namespace foretrain::sim
