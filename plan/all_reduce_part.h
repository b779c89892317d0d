// How an all_reduce is cut into one part per member.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/dtype.h"

namespace foretrain::plan {

struct ElementRange {
  std::int64_t begin = 0, end = 0;
};

// The part that member `index` of `members` reduces. Parts are whole cache lines, so that no two members write to one;
// the last ones may be shorter, or empty.
inline ElementRange all_reduce_part(std::int64_t elements, Dtype dtype, int index, int members) {
  constexpr std::int64_t kCacheLine = 64;
  const std::int64_t line = kCacheLine / size_bytes(dtype, 1);
  const std::int64_t lines = (elements + line - 1) / line;
  const std::int64_t part = (lines + members - 1) / members * line;
  const std::int64_t begin = std::min(elements, index * part);
  return {begin, std::min(elements, begin + part)};
}

}  // namespace foretrain::plan
