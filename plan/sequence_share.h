// Which tokens of a sequence a rank holds where context parallelism cuts it over a group of n: pieces i and 2n - 1 - i
// of the 2n equal pieces of the sequence, i its index in the group. Under a causal mask every rank then has equal work
// (as Megatron-LM and TransformerEngine deal them out; "zigzag" in ring-flash-attention).
#pragma once

#include <cstdint>

namespace foretrain::plan {

struct SequenceShare {
  std::int64_t tokens = 0;  // of the share; even where size > 1
  int index = 0, size = 1;  // in the group

  std::int64_t whole() const { return tokens * size; }
  // Neighbouring tokens have neighbouring positions up to the end of a run.
  std::int64_t run() const { return size == 1 ? tokens : tokens / 2; }
  // In the sequence, of the share's token t.
  std::int64_t position(std::int64_t t) const {
    return t < run() ? index * run() + t : (2 * size - 2 - index) * run() + t;
  }
};

// Of which rank, and there which token, is the token at a position of a sequence of `whole` tokens.
struct SharePlace {
  int index = 0;
  std::int64_t token = 0;
};
inline SharePlace share_place(std::int64_t position, std::int64_t whole, int size) {
  if (size == 1) {
    return {0, position};
  }
  const std::int64_t run = whole / (2 * size), piece = position / run, rest = position % run;
  return piece < size ? SharePlace{static_cast<int>(piece), rest}
                      : SharePlace{static_cast<int>(2 * size - 1 - piece), run + rest};
}

}  // namespace foretrain::plan
