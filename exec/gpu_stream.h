// A GPU's stream, as those who put something into it know it.
#pragma once

namespace foretrain::exec {

struct GpuStream {
  void* handle = nullptr;
};

}  // namespace foretrain::exec
