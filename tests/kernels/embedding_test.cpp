#include <gtest/gtest.h>

#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

TEST(Embedding, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const std::int64_t cols : {0, 1, 5, 64, 131}) {
      for (const std::int64_t tokens : {0, 1, 12}) {
        for (const Dtype d : kElementTypes) {
          for (const Dtype parameter : {d, wide(d)}) {
            const EmbeddingShape s = {
                .tokens = tokens, .seq = 6, .cols = cols, .vocab_start = 4, .vocab_rows = 9, .position_offset = 3};
            const std::vector<std::int32_t> ids = random_ids(tokens, 20, 1);
            const Values wte = random_tensor(parameter, s.vocab_rows * cols, 2);
            const Values wpe = random_tensor(parameter, 10 * cols, 3);
            Values out(d, static_cast<std::size_t>(tokens * cols));
            std::vector<double> expected(out.size());
            embedding_forward(s, ids.data(), wte.tensor(), wpe.tensor(), out.tensor());
            reference::embedding_forward(s, ids.data(), wte.doubles().data(), wpe.doubles().data(), expected.data());
            expect_close(out, expected, d, 2, isa);
            embedding_forward(s, ids.data(), wte.tensor(), {}, out.tensor());
            reference::embedding_forward<double>(s, ids.data(), wte.doubles().data(), nullptr, expected.data());
            expect_close(out, expected, d, 2, isa);

            const Values dout = random_tensor(d, tokens * cols, 4);
            Values dwte = random_tensor(wide(d), s.vocab_rows * cols, 5);
            Values dwpe = random_tensor(wide(d), 10 * cols, 6);
            std::vector<double> edwte = dwte.doubles(), edwpe = dwpe.doubles();
            embedding_backward(s, ids.data(), dout.tensor(), dwte.tensor(), dwpe.tensor());
            reference::embedding_backward(s, ids.data(), dout.doubles().data(), edwte.data(), edwpe.data());
            expect_close(dwte, edwte, d, 10, isa);
            expect_close(dwpe, edwpe, d, 10, isa);
          }
        }
      }
    }
  });
}

// Two shards of the table give, added, what the whole one gives; and each keeps its own rows' gradient.
TEST(Embedding, ShardsAddUp) {
  const std::vector<std::int32_t> ids = {0, 7, 3, 3, 5};
  const Values wte = random_tensor(Dtype::fp64, 8 * 3, 1);
  const EmbeddingShape whole = {.tokens = 5, .seq = 5, .cols = 3, .vocab_rows = 8};
  Values expected(Dtype::fp64, 15), low(Dtype::fp64, 15), high(Dtype::fp64, 15);
  embedding_forward(whole, ids.data(), wte.tensor(), {}, expected.tensor());
  EmbeddingShape half = whole;
  half.vocab_rows = 4;
  embedding_forward(half, ids.data(), wte.tensor(), {}, low.tensor());
  half.vocab_start = 4;
  embedding_forward(half, ids.data(), {static_cast<const double*>(wte.tensor().data) + 12, Dtype::fp64}, {},
                    high.tensor());
  for (std::size_t i = 0; i < 15; ++i) {
    EXPECT_EQ(low.get(i) + high.get(i), expected.get(i));
  }
}

}  // namespace
}  // namespace foretrain::kernels
