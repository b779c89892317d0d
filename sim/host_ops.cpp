#include "sim/host_ops.h"

namespace foretrain::sim {

namespace {

constexpr double kFrameworkOps = 4.5;  // of an op of a dense layer

struct FrameworkOps {
  double operator()(const plan::Gate& x) const { return x.direction == plan::Direction::forward ? 14 + 18 : 20; }
  double operator()(const plan::Route& x) const { return x.step == plan::RouteStep::count ? 4 : 15; }
  double operator()(const plan::GroupedMatmul& x) const { return 3 + static_cast<double>(x.experts); }
  template <class Other>
  double operator()(const Other&) const {
    return kFrameworkOps;
  }
};

}  // namespace

double host_ops(const plan::Work& work) {
  return std::visit(FrameworkOps{}, work) / kFrameworkOps;
}

bool host_waits_for(const plan::Work& work) {
  const auto* const route = std::get_if<plan::Route>(&work);
  return route != nullptr && route->step == plan::RouteStep::arrange && route->members > 1;
}

}  // namespace foretrain::sim
