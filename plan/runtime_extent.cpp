#include "plan/runtime_extent.h"

#include <algorithm>
#include <cmath>
#include <variant>

#include "base/normal.h"

namespace foretrain::plan {

namespace {

struct Resize {
  std::int64_t value;

  void operator()(Permute& x) const { x.rows = value; }
  void operator()(GroupedMatmul& x) const { x.rows = value; }
  void operator()(ExpertBias& x) const { x.rows = value; }
  void operator()(ExpertActivation& x) const { x.rows = value; }
  void operator()(Matmul& x) const { x.m = value; }
  void operator()(Collective& x) const { x.elements = x.row > 0 ? value * x.row : x.elements; }
  template <class Other>
  void operator()(Other&) const {}
};

}  // namespace

Op at_extent(const Op& op, std::int64_t value) {
  Op result = op;
  if (op.runtime_extent >= 0) {
    std::visit(Resize{value}, result.work);
  }
  return result;
}

std::int64_t busiest(const Mesh& mesh, const std::vector<Group>& groups, const RuntimeExtent& extent) {
  const int ranks = extent.group == kNoGroup ? 1 : group_size(mesh, groups[static_cast<std::size_t>(extent.group)]);
  const double expected = std::ceil(extent.mean + extent.stddev * largest_normal(ranks));
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(expected), 0, extent.maximum);
}

}  // namespace foretrain::plan
