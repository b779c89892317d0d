// Stands in for onednn_loader.cpp where oneDNN was absent at build time.
#include "kernels/bf16_library.h"

namespace foretrain::kernels {

const Bf16Library& bf16_library() {
  static const Bf16Library library = {.description = "fp32 (built without oneDNN)"};
  return library;
}

LibraryMatmul load_onednn_matmul(std::string* why) {
  *why = "built without oneDNN";
  return nullptr;
}

}  // namespace foretrain::kernels
