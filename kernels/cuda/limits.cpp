#include "kernels/cuda/limits.h"

#include <limits>

#include "base/error.h"
#include "kernels/cuda/stream.h"

namespace foretrain::kernels::cuda {

int as_int(const char* op, std::int64_t size) {
  CHECK(size >= 0 && size <= std::numeric_limits<int>::max() / 4, "{}: a size of {}; kernels count it in int", op,
        size);
  return static_cast<int>(size);
}

void check_most(const char* op, const char* what, std::int64_t count, std::int64_t most) {
  CHECK(count <= most, "{}: {} {}; at most {}", op, count, what, most);
}

void check_workspace(const char* op, std::size_t bytes) {
  CHECK(bytes <= kWorkspaceBytes, "{}: needs {} bytes of workspace; there are {}", op, bytes, kWorkspaceBytes);
}

}  // namespace foretrain::kernels::cuda
