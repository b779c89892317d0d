// Where some elements of a tensor lie in the whole of it, whose they are, and what two such sets have in common.
#pragma once

#include <algorithm>
#include <cstdint>

namespace foretrain::exec {

// So many elements of a slab, row by row: of columns [col, col + width) of `row` and those below it, the first `skip`
// left out. 0 <= skip < width.
struct TensorRun {
  std::int64_t row = 0, col = 0, width = 1, skip = 0, elements = 0;

  std::int64_t end_row() const { return elements == 0 ? row : row + (skip + elements - 1) / width + 1; }
  friend bool operator==(const TensorRun&, const TensorRun&) = default;
};

// Of those that each have values of their own for the same elements: which replica of those that drift apart (local
// SGD), and which member of it.
struct Among {
  std::int64_t replica = 0, replicas = 1, member = 0, members = 1;

  friend bool operator==(const Among&, const Among&) = default;
};

// Calls fn(first element in a, first element in b, elements) for all that two runs of one tensor share, in order.
template <class Fn>
void for_each_common(const TensorRun& a, const TensorRun& b, const Fn& fn) {
  // Places of a line, and the first one's element of the run.
  struct Stretch {
    std::int64_t begin = 0, end = 0, element = 0;
  };
  const auto common = [&fn](const Stretch& x, const Stretch& y) {
    const std::int64_t begin = std::max(x.begin, y.begin), end = std::min(x.end, y.end);
    if (begin < end) {
      fn(x.element + begin - x.begin, y.element + begin - y.begin, end - begin);
    }
  };
  if (a.col == b.col && a.width == b.width) {
    // Slabs of the same columns are one line.
    const auto line = [](const TensorRun& r) {
      const std::int64_t begin = r.row * r.width + r.skip;
      return Stretch{begin, begin + r.elements, 0};
    };
    common(line(a), line(b));
    return;
  }
  const auto columns = [](const TensorRun& r, std::int64_t row) {
    const std::int64_t before = (row - r.row) * r.width;  // elements of the slab above
    const std::int64_t first = std::max(before, r.skip), last = std::min(before + r.width, r.skip + r.elements);
    return Stretch{r.col + first - before, r.col + last - before, first - r.skip};
  };
  const std::int64_t end = std::min(a.end_row(), b.end_row());
  for (std::int64_t row = std::max(a.row, b.row); row < end; ++row) {
    common(columns(a, row), columns(b, row));
  }
}

}  // namespace foretrain::exec
