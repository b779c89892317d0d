#include "workloads/workload.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace foretrain::workloads {
namespace {

TEST(LearningRate, WarmsUpThenDecays) {
  Optimizer o;
  o.learning_rate = 1.0;
  o.min_learning_rate = 0.2;
  o.warmup_steps = 4;
  o.decay_steps = 12;
  EXPECT_DOUBLE_EQ(learning_rate(o, 0), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate(o, 3), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(o, 4), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(o, 8), 0.6);  // half way: the mean of both ends
  EXPECT_DOUBLE_EQ(learning_rate(o, 12), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(o, 1'000'000), 0.2);
}

TEST(LearningRate, IsConstantWithoutDecay) {
  Optimizer o;
  o.learning_rate = 0.5;
  EXPECT_DOUBLE_EQ(learning_rate(o, 0), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(o, 99), 0.5);
}

TEST(Precision, RecipesByWord) {
  EXPECT_FALSE(precision_of("fp64").has_master());
  EXPECT_FALSE(precision_of("fp32").has_master());
  EXPECT_EQ(precision_of("tf32").compute, Dtype::tf32);
  EXPECT_EQ(precision_of("tf32").parameter, Dtype::fp32);
  for (const char* word : {"fp16", "bf16", "fp8", "mxfp8", "nvfp4"}) {
    const Precision p = precision_of(word);
    EXPECT_EQ(p.word, word);
    EXPECT_TRUE(p.has_master());
    EXPECT_EQ(bits(p.parameter), 16);
    EXPECT_EQ(p.gradient, Dtype::fp32);
    EXPECT_EQ(p.state, Dtype::fp32);
  }
  EXPECT_THROW(precision_of("int8"), InternalError);
}

TEST(Words, OfAttentionAndOptimizers) {
  EXPECT_EQ(name(AttentionKind::fused_softmax), "fused_softmax");
  EXPECT_EQ(name(OptimizerKind::adamw), "adamw");
  EXPECT_FALSE(is_flash(AttentionKind::unfused));
  EXPECT_TRUE(is_flash(AttentionKind::cudnn));
}

// From 1 at step 2 to 0.2 at step 6: halfway at step 4.
TEST(LearningRate, FallsInALine) {
  Optimizer o;
  o.schedule = Schedule::linear;
  o.learning_rate = 1;
  o.min_learning_rate = 0.2;
  o.warmup_steps = 2;
  o.decay_steps = 6;
  EXPECT_DOUBLE_EQ(learning_rate(o, 0), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(o, 2), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(o, 4), 0.6);
  EXPECT_DOUBLE_EQ(learning_rate(o, 5), 0.4);
  EXPECT_DOUBLE_EQ(learning_rate(o, 100), 0.2);
}

// The 16th step is four times the 4th, where the warm-up ends: half of its rate.
TEST(LearningRate, FallsAsTheInverseRoot) {
  Optimizer o;
  o.schedule = Schedule::inverse_sqrt;
  o.learning_rate = 1;
  o.min_learning_rate = 0.1;
  o.warmup_steps = 4;
  EXPECT_DOUBLE_EQ(learning_rate(o, 1), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(o, 3), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(o, 15), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(o, 1'000'000), 0.1);
  o.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(learning_rate(o, 3), 0.5);
}

}  // namespace
}  // namespace foretrain::workloads
