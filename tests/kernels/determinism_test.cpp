// The same inputs give the same bits at every alignment, on a second call, and while other threads compute.
#include <gtest/gtest.h>

#include <thread>

#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

using Run = std::function<std::vector<double>(Dtype, std::size_t shift)>;

Values moved(Dtype d, std::int64_t n, unsigned seed, std::size_t shift) {
  return {d, random_values(static_cast<std::size_t>(n), seed), shift};
}

std::vector<double> joined(std::initializer_list<const Values*> parts) {
  std::vector<double> all;
  for (const Values* part : parts) {
    const std::vector<double> x = part->doubles();
    all.insert(all.end(), x.begin(), x.end());
  }
  return all;
}

const std::vector<std::pair<std::string, Run>>& runs() {
  static const std::vector<std::pair<std::string, Run>> all = {
      {"matmul",
       [](Dtype d, std::size_t shift) {
         const Values a = moved(d, 61 * 301, 1, shift), b = moved(d, 83 * 301, 2, shift);
         Values c(d, 61 * 83, shift);
         matmul(MatmulShape::linear(61, 301, 83), a.tensor(), b.tensor(), {}, c.tensor(), false);
         return c.doubles();
       }},
      {"norm",
       [](Dtype d, std::size_t shift) {
         const NormShape s = {.rows = 9, .cols = 131};
         const Values x = moved(d, 9 * 131, 1, shift), dy = moved(d, 9 * 131, 2, shift), gain = moved(d, 131, 3, shift);
         Values y(d, x.size(), shift), dx(d, x.size(), shift), mean(wide(d), 9, shift), rstd(wide(d), 9, shift),
             dgain(wide(d), 131, shift), dbias(wide(d), 131, shift);
         norm_forward(s, x.tensor(), gain.tensor(), {}, y.tensor(), mean.tensor(), rstd.tensor());
         norm_backward_input(s, x.tensor(), gain.tensor(), dy.tensor(), mean.tensor(), rstd.tensor(), {}, dx.tensor());
         norm_backward_weight(s, x.tensor(), dy.tensor(), mean.tensor(), rstd.tensor(), dgain.tensor(), dbias.tensor(),
                              false);
         return joined({&y, &dx, &dgain, &dbias});
       }},
      {"activation",
       [](Dtype d, std::size_t shift) {
         const Values x = moved(d, 2 * 3 * 131, 1, shift), dy = moved(d, 3 * 131, 2, shift);
         Values y(d, dy.size(), shift), dx(d, x.size(), shift);
         activation_forward(Activation::swiglu, 3, 131, x.tensor(), y.tensor());
         activation_backward(Activation::swiglu, 3, 131, x.tensor(), dy.tensor(), dx.tensor());
         return joined({&y, &dx});
       }},
      {"attention",
       [](Dtype d, std::size_t shift) {
         const AttentionShape s = {.batch = 1, .seq = 131, .heads = 2, .kv_heads = 1, .head_dim = 20};
         const Values qkv = moved(d, s.tokens() * s.qkv_cols(), 1, shift);
         const Values d_o = moved(d, s.tokens() * s.out_cols(), 2, shift);
         Values o(d, d_o.size(), shift), lse(wide(d), 262, shift), dqkv(d, qkv.size(), shift);
         attention_forward(s, qkv.tensor(), o.tensor(), lse.tensor());
         attention_backward(s, qkv.tensor(), o.tensor(), lse.tensor(), d_o.tensor(), dqkv.tensor());
         return joined({&o, &lse, &dqkv});
       }},
      {"softmax",
       [](Dtype d, std::size_t shift) {
         const AttentionShape s = {.batch = 1, .seq = 131, .heads = 1, .kv_heads = 1, .head_dim = 4};
         Values p = moved(d, s.score_elements(), 1, shift);
         Values dp = moved(d, s.score_elements(), 2, shift);
         attention_scale_mask_softmax(s, p.tensor(), p.tensor());
         attention_scale_mask_softmax_backward(s, p.tensor(), dp.tensor(), dp.tensor());
         return joined({&p, &dp});
       }},
      {"cross entropy",
       [](Dtype d, std::size_t shift) {
         const CrossEntropyShape s = {.rows = 3, .cols = 1031, .valid = 1029};
         const std::vector<std::int32_t> targets = {5, 1028, 77};
         Values logits = moved(d, 3 * 1031, 1, shift);
         Values stats(wide(d), 9, shift), row_stats(wide(d), 6, shift);
         double loss = 0.0;
         cross_entropy_stats(s, logits.tensor(), targets.data(), stats.tensor());
         cross_entropy_combine(3, 1, stats.tensor(), 1.0, &loss, false, row_stats.tensor());
         cross_entropy_backward(s, logits.tensor(), targets.data(), row_stats.tensor(), 1.0, logits.tensor());
         return joined({&logits, &row_stats});
       }},
      {"squared norm",
       [](Dtype d, std::size_t shift) {
         std::vector<double> sum(1);
         squared_norm(moved(d, 5003, 1, shift).tensor(), 5003, sum.data(), false);
         return sum;
       }},
      {"optimizer",
       [](Dtype d, std::size_t shift) {
         const Dtype w = wide(d);
         const Values g = moved(w, 131, 1, shift);
         Values p = moved(w, 131, 2, shift), m = moved(w, 131, 3, shift), v(w, 131, shift);
         optimizer_step({.learning_rate = 0.1, .weight_decay = 0.1}, 131, g.tensor(), nullptr, p.tensor(), m.tensor(),
                        v.tensor(), {});
         return joined({&p, &m, &v});
       }},
  };
  return all;
}

TEST(Determinism, EveryAlignmentAndASecondCall) {
  for_instruction_sets([](const std::string& isa) {
    for (const auto& [what, run] : runs()) {
      for (const Dtype d : kElementTypes) {
        const std::vector<double> expected = run(d, 0);
        for (const std::size_t shift : {0, 1, 2, 3, 5, 8, 15}) {
          EXPECT_EQ(run(d, shift), expected) << isa << " " << what << " " << name(d) << " shifted by " << shift;
        }
      }
    }
  });
}

TEST(Determinism, WhileOtherThreadsCompute) {
  for (const auto& [what, run] : runs()) {
    const std::vector<double> expected = run(Dtype::fp32, 0);
    std::vector<std::vector<double>> results(8);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < results.size(); ++t) {
      threads.emplace_back([&results, &run = run, t] {
        for (int repeat = 0; repeat < 3; ++repeat) {
          results[t] = run(Dtype::fp32, t);
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    for (const std::vector<double>& result : results) {
      EXPECT_EQ(result, expected) << what;
    }
  }
}

// A thread's memory grows on the first call of a shape and then stays: a second call faults no page in.
TEST(Scratch, StopsGrowing) {
  std::thread([] {
    EXPECT_EQ(scratch_bytes(), 0u);
    for (const auto& [what, run] : runs()) {
      run(Dtype::fp32, 0);
    }
    const std::size_t after_first = scratch_bytes();
    EXPECT_GT(after_first, 0u);
    for (const auto& [what, run] : runs()) {
      run(Dtype::fp32, 0);
    }
    EXPECT_EQ(scratch_bytes(), after_first);
  }).join();
}

}  // namespace
}  // namespace foretrain::kernels
