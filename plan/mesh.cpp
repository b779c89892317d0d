#include "plan/mesh.h"

#include <algorithm>

#include "base/error.h"

namespace foretrain::plan {

namespace {

constexpr std::array<Axis, kAxes> kAllAxes{Axis::pp, Axis::dp, Axis::cp, Axis::tp};

std::size_t index(Axis a) {
  return static_cast<std::size_t>(a);
}

const AxisSpan* span_along(const Group& group, Axis a) {
  for (const AxisSpan& span : group.spans) {
    if (span.axis == a) {
      return &span;
    }
  }
  return nullptr;
}

// How many neighbours a span parts in its strides.
int span_block(const Mesh& mesh, const AxisSpan& span) {
  return span.block == 0 ? mesh.size(span.axis) : span.block;
}

// How many coordinates of a group lie along a span, which of them a coordinate is (-1: none), and the coordinate of the
// i-th member in the group of `own`.
int span_size(const Mesh& mesh, const AxisSpan& span) {
  return span.only.empty() ? span_block(mesh, span) / span.stride : static_cast<int>(span.only.size());
}

int span_index(const Mesh& mesh, const AxisSpan& span, int coordinate) {
  if (!span.only.empty()) {
    const auto at = std::find(span.only.begin(), span.only.end(), coordinate);
    return at == span.only.end() ? -1 : static_cast<int>(at - span.only.begin());
  }
  return coordinate % span_block(mesh, span) / span.stride;
}

int span_coordinate(const Mesh& mesh, const AxisSpan& span, int own, int i) {
  if (!span.only.empty()) {
    return span.only[static_cast<std::size_t>(i)];
  }
  const int block = span_block(mesh, span);
  return own / block * block + own % span.stride + i * span.stride;
}

void check_group(const Mesh& mesh, const Group& group) {
  for (const AxisSpan& span : group.spans) {
    const int size = mesh.size(span.axis), end = mesh.end(span.axis);
    CHECK(span.block >= 0 && (span.block == 0 || size % span.block == 0), "group {}: blocks of {} along {} of {} ranks",
          group.name, span.block, name(span.axis), size);
    CHECK(span.stride >= 1 && span_block(mesh, span) % span.stride == 0, "group {}: every {}th of {} along {}",
          group.name, span.stride, span_block(mesh, span), name(span.axis));
    CHECK(span.only.empty() || (span.block == 0 && span.stride == 1), "group {}: blocks or strides of a list",
          group.name);
    for (std::size_t i = 0; i < span.only.size(); ++i) {
      CHECK(span.only[i] >= 0 && span.only[i] < end && (i == 0 || span.only[i - 1] < span.only[i]),
            "group {}: coordinates along {} must ascend and lie below {}", group.name, name(span.axis), end);
    }
  }
}

std::string axis_list() {
  return "pp, dp, cp, tp";
}

}  // namespace

std::string_view name(Axis a) {
  switch (a) {
    case Axis::pp: return "pp";
    case Axis::dp: return "dp";
    case Axis::cp: return "cp";
    case Axis::tp: return "tp";
  }
  return "?";
}

Rank Mesh::within() const {
  Rank n = 1;
  for (const int e : extent) {
    n *= e;
  }
  return n;
}

Coordinates Mesh::coordinates(Rank r) const {
  Coordinates c{};
  if (r >= within()) {
    c[index(Axis::dp)] = size(Axis::dp) + static_cast<int>(r - within());
    return c;
  }
  for (std::size_t i = order.size(); i-- > 0;) {
    const Rank n = size(order[i]);
    c[index(order[i])] = static_cast<int>(r % n);
    r /= n;
  }
  return c;
}

Rank Mesh::rank(const Coordinates& c) const {
  const int further = c[index(Axis::dp)] - size(Axis::dp);
  if (further >= 0) {
    return within() + further;
  }
  Rank r = 0;
  for (const Axis a : order) {
    r = r * size(a) + c[index(a)];
  }
  return r;
}

Rank Mesh::stride(Axis a) const {
  Rank s = 1;
  for (std::size_t i = order.size(); i-- > 0 && order[i] != a;) {
    s *= size(order[i]);
  }
  return s;
}

Rank Mesh::peer(Rank r, Axis a, int coordinate, bool relative) const {
  if (r >= within()) {
    return coordinate;
  }
  Coordinates c = coordinates(r);
  int& along = c[index(a)];
  along = relative ? ((along + coordinate) % size(a) + size(a)) % size(a) : coordinate;
  return rank(c);
}

std::array<Axis, kAxes> parse_rank_order(const std::string& text) {
  std::vector<Axis> axes;
  std::size_t from = 0;
  while (from <= text.size()) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    const std::string word = text.substr(from, comma - from);
    const auto axis = std::find_if(kAllAxes.begin(), kAllAxes.end(), [&](Axis a) { return name(a) == word; });
    if (axis == kAllAxes.end()) {
      throw InputError(fmt::format("\"{}\" names the unknown axis \"{}\"; expected each of {} once, slowest first",
                                   text, word, axis_list()));
    }
    if (std::find(axes.begin(), axes.end(), *axis) != axes.end()) {
      throw InputError(fmt::format("\"{}\" names the axis \"{}\" twice; expected each of {} once, slowest first", text,
                                   word, axis_list()));
    }
    axes.push_back(*axis);
    from = comma + 1;
  }
  std::array<Axis, kAxes> order{};
  for (std::size_t i = 0; i < kAllAxes.size(); ++i) {
    if (std::find(axes.begin(), axes.end(), kAllAxes[i]) == axes.end()) {
      throw InputError(fmt::format("\"{}\" lacks the axis \"{}\"; expected each of {} once, slowest first", text,
                                   name(kAllAxes[i]), axis_list()));
    }
    order[i] = axes[i];
  }
  return order;
}

int group_size(const Mesh& mesh, const Group& group) {
  check_group(mesh, group);
  int n = 1;
  for (const AxisSpan& span : group.spans) {
    n *= span_size(mesh, span);
  }
  return n;
}

bool contains(const Mesh& mesh, const Group& group, Rank r) {
  const Coordinates c = mesh.coordinates(r);
  const AxisSpan* const along_dp = span_along(group, Axis::dp);
  if (r >= mesh.within() && (along_dp == nullptr || along_dp->only.empty())) {
    return false;
  }
  return std::all_of(group.spans.begin(), group.spans.end(),
                     [&](const AxisSpan& span) { return span_index(mesh, span, c[index(span.axis)]) >= 0; });
}

int index_in_group(const Mesh& mesh, const Group& group, Rank r) {
  const Coordinates c = mesh.coordinates(r);
  int result = 0;
  for (const Axis a : mesh.order) {
    if (const AxisSpan* span = span_along(group, a)) {
      const int i = span_index(mesh, *span, c[index(a)]);
      CHECK(i >= 0, "rank {} is not in group {}", r, group.name);
      result = result * span_size(mesh, *span) + i;
    }
  }
  return result;
}

std::vector<Rank> members(const Mesh& mesh, const Group& group, Rank r) {
  CHECK(contains(mesh, group, r), "rank {} is not in group {}", r, group.name);
  const Coordinates own = mesh.coordinates(r);
  const int n = group_size(mesh, group);
  std::vector<Rank> result;
  result.reserve(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) {
    Coordinates c = own;
    int rest = i;
    for (std::size_t k = mesh.order.size(); k-- > 0;) {
      const Axis a = mesh.order[k];
      if (const AxisSpan* span = span_along(group, a)) {
        const int size = span_size(mesh, *span);
        c[index(a)] = span_coordinate(mesh, *span, own[index(a)], rest % size);
        rest /= size;
      }
    }
    result.push_back(mesh.rank(c));
  }
  return result;
}

}  // namespace foretrain::plan
