#include "base/code.h"

namespace foretrain {

std::string_view name(Coding c) {
  return c == Coding::int8 ? "int8" : "top_k";
}

}  // namespace foretrain
