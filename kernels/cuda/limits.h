// What launchers check of a GPU's limits; an InternalError says what stood there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace foretrain::kernels::cuda {

// A size that kernels count in int, with room for a few tiles more.
int as_int(const char* op, std::int64_t size);
// Of `what` a launcher takes so many.
void check_most(const char* op, const char* what, std::int64_t count, std::int64_t most);
void check_workspace(const char* op, std::size_t bytes);

}  // namespace foretrain::kernels::cuda
