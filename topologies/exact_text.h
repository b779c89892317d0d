// Quantities as text that parses back to the same number.
#pragma once

#include <fmt/format.h>

#include <string>

#include "base/units.h"

namespace foretrain::topologies {

inline std::string exact(Bytes b) {
  return fmt::format("{} B", b.value);
}
inline std::string exact(Time t) {
  return fmt::format("{} ps", t.value);
}
inline std::string exact(Bandwidth b) {
  return fmt::format("{} B/s", b.value);
}
inline std::string exact(FlopRate f) {
  return fmt::format("{} FLOP/s", f.value);
}

}  // namespace foretrain::topologies
