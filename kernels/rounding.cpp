#include "kernels/rounding.h"

namespace foretrain::kernels {

void store_rounded(const Rounding& r, std::int64_t step, std::int64_t begin, std::int64_t n, const float* x,
                   Bf16* out) {
  std::int64_t row = (r.part.first + begin) / r.part.cols, col = (r.part.first + begin) % r.part.cols;
  std::int64_t known = -1;
  std::array<std::uint32_t, 4> words{};
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t index = r.part.index(row, col);
    if (index / 8 != known) {
      known = index / 8;
      words = rounding_words(r, step, known);
    }
    out[i] = rounded(x[i], rounding_bits(words, index));
    if (++col == r.part.cols) {
      col = 0;
      ++row;
    }
  }
}

}  // namespace foretrain::kernels
