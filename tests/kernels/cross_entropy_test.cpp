#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

TEST(CrossEntropy, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const std::int64_t rows : {0, 1, 5}) {
      for (const auto& [cols, valid] :
           std::vector<std::array<std::int64_t, 2>>{{1, 1}, {8, 5}, {100, 97}, {384, 256}, {3000, 2999}}) {
        for (const Dtype d : kElementTypes) {
          const CrossEntropyShape s = {.rows = rows, .cols = cols, .valid = valid, .vocab_start = 10};
          Values logits = random_tensor(d, rows * cols, 1, 8.0);
          // Some targets belong to other shards.
          const std::vector<std::int32_t> targets = random_ids(rows, static_cast<std::int32_t>(10 + valid), 2);
          const std::vector<double> x = logits.doubles();
          Values stats(wide(d), static_cast<std::size_t>(3 * rows));
          std::vector<double> expected(stats.size());
          cross_entropy_stats(s, logits.tensor(), targets.data(), stats.tensor());
          reference::cross_entropy_stats(s, x.data(), targets.data(), expected.data());
          expect_close(stats, expected, d, 40, isa);

          Values row_stats(wide(d), static_cast<std::size_t>(2 * rows));
          for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
            row_stats.set(2 * r, expected[3 * r]);
            row_stats.set(2 * r + 1, std::log(expected[3 * r + 1]));
          }
          std::vector<double> gradient = x;
          reference::cross_entropy_backward(s, gradient.data(), targets.data(), row_stats.doubles().data(), 0.125);
          cross_entropy_backward(s, logits.tensor(), targets.data(), row_stats.tensor(), 0.125, logits.tensor());
          expect_close(logits, gradient, d, 40, isa);
        }
      }
    }
  });
}

TEST(CrossEntropy, CombinesAgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const std::int64_t rows : {0, 1, 6}) {
      for (const std::int64_t parts : {1, 2, 3}) {
        for (const Dtype d : {Dtype::fp64, Dtype::fp32}) {
          Values stats = random_tensor(d, parts * rows * 3, 1);
          for (std::size_t i = 1; i < stats.size(); i += 3) {
            stats.set(i, std::abs(stats.get(i)) + 1.0);
          }
          Values row_stats(d, static_cast<std::size_t>(2 * rows));
          std::vector<double> expected(row_stats.size());
          double loss = 2.0;
          double expected_loss = 2.0;
          cross_entropy_combine(rows, parts, stats.tensor(), 0.5, &loss, true, row_stats.tensor());
          reference::cross_entropy_combine(rows, parts, stats.doubles().data(), 0.5, &expected_loss, true,
                                           expected.data());
          EXPECT_NEAR(loss, expected_loss, 1e-6);
          expect_close(row_stats, expected, d, 10, isa);
        }
      }
    }
  });
}

// Two shards, of which the second holds padding only, and one shard give the same loss; two equal logits: log 2.
TEST(CrossEntropy, ShardsAndPadding) {
  const std::int32_t target = 1;
  const Values low(Dtype::fp64, {3.0, 3.0});
  Values stats(Dtype::fp64, 6), row_stats(Dtype::fp64, 2);
  cross_entropy_stats({.rows = 1, .cols = 2, .valid = 2}, low.tensor(), &target, stats.tensor());
  const Values padding(Dtype::fp64, {50.0, std::numeric_limits<double>::quiet_NaN()});
  Values rest(Dtype::fp64, 3);
  cross_entropy_stats({.rows = 1, .cols = 2, .valid = 0, .vocab_start = 2}, padding.tensor(), &target, rest.tensor());
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(rest.doubles(), (std::vector<double>{-infinity, 0.0, -infinity}));
  for (std::size_t i = 0; i < 3; ++i) {
    stats.set(3 + i, rest.get(i));
  }
  double loss = -1.0;
  cross_entropy_combine(1, 2, stats.tensor(), 1.0, &loss, false, row_stats.tensor());
  EXPECT_DOUBLE_EQ(loss, std::log(2.0));
  Values gradient(Dtype::fp64, {50.0, 60.0});
  cross_entropy_backward({.rows = 1, .cols = 2, .valid = 0, .vocab_start = 2}, gradient.tensor(), &target,
                         row_stats.tensor(), 1.0, gradient.tensor());
  EXPECT_EQ(gradient.doubles(), (std::vector<double>{0.0, 0.0}));
}

// Two rows, of which one has no target: the other's loss alone, log 2, and no gradient there, on either of two shards.
// A logit that is no number shows nevertheless.
TEST(CrossEntropy, RowsWithoutATarget) {
  for (const Dtype d : kElementTypes) {
    const std::int32_t targets[] = {-1, 3};
    Values stats(wide(d), 12), row_stats(wide(d), 4);
    const auto shard = [&](std::int64_t number, const Values& logits) {
      Values part(wide(d), 6);
      cross_entropy_stats({.rows = 2, .cols = 2, .valid = 2, .vocab_start = 2 * number}, logits.tensor(), targets,
                          part.tensor());
      for (std::int64_t i = 0; i < 6; ++i) {
        stats.set(static_cast<std::size_t>(6 * number + i), part.get(static_cast<std::size_t>(i)));
      }
    };
    Values left(d, {7.0, 2.0, -1e4, -1e4}), right(d, {1.0, 0.0, 3.0, 3.0});
    shard(0, left);
    shard(1, right);
    double loss = 0.0;
    cross_entropy_combine(2, 2, stats.tensor(), 1.0, &loss, false, row_stats.tensor());
    EXPECT_NEAR(loss, std::log(2.0), 1e-6);
    cross_entropy_backward({.rows = 2, .cols = 2, .valid = 2, .vocab_start = 2}, right.tensor(), targets,
                           row_stats.tensor(), 1.0, right.tensor());
    EXPECT_EQ(right.get(0), 0.0);
    EXPECT_EQ(right.get(1), 0.0);
    EXPECT_NEAR(right.get(2), 0.5, 1e-2);  // bf16 has 8 bits
    EXPECT_NEAR(right.get(3), -0.5, 1e-2);
    shard(0, Values(d, {7.0, std::numeric_limits<double>::quiet_NaN(), 0.0, 0.0}));
    cross_entropy_combine(2, 2, stats.tensor(), 1.0, &loss, false, row_stats.tensor());
    EXPECT_TRUE(std::isnan(loss));
  }
}

// Logits of ±1e4 neither overflow nor turn into NaN.
TEST(CrossEntropy, LargeLogits) {
  for (const Dtype d : kElementTypes) {
    const std::int32_t target = 1;
    Values logits(d, {1e4, -1e4, 0.0});
    Values stats(wide(d), 3), row_stats(wide(d), 2);
    double loss = 0.0;
    cross_entropy_stats({.rows = 1, .cols = 3, .valid = 3}, logits.tensor(), &target, stats.tensor());
    const double span = logits.get(0) - logits.get(1);
    cross_entropy_combine(1, 1, stats.tensor(), 1.0, &loss, false, row_stats.tensor());
    EXPECT_EQ(loss, span);
    // Beside the logits and in their place: the same.
    Values gradient(d, 3);
    for (Values* const to : {&gradient, &logits}) {
      cross_entropy_backward({.rows = 1, .cols = 3, .valid = 3}, logits.tensor(), &target, row_stats.tensor(), 1.0,
                             to->tensor());
      EXPECT_EQ(to->doubles(), (std::vector<double>{1.0, -1.0, 0.0}));
    }
  }
}

// A vocabulary of 50,257 in fp32: the loss keeps seven digits.
TEST(CrossEntropy, LongRowsKeepTheirDigits) {
  const std::int64_t n = 50257;
  const Values logits = random_tensor(Dtype::fp32, n, 1, 3.0);
  const std::int32_t target = 17;
  Values stats(Dtype::fp32, 3), row_stats(Dtype::fp32, 2);
  double loss = 0.0;
  cross_entropy_stats({.rows = 1, .cols = n, .valid = n}, logits.tensor(), &target, stats.tensor());
  cross_entropy_combine(1, 1, stats.tensor(), 1.0, &loss, false, row_stats.tensor());
  double sum = 0.0;
  for (const double x : logits.doubles()) {
    sum += std::exp(x);
  }
  EXPECT_NEAR(loss, std::log(sum) - logits.get(17), 2e-7 * loss);
}

// (3 - 1)^2 + (0 - 2)^2 = 8, slopes 2 (y - t): 4 and -4; of a logit log(1 + e^y) - t y: log 2 at y 0 for any t; e^800
// does not fit a double, and the loss there is 800 - 800 t.
TEST(OutputLoss, ByHand) {
  for (const Dtype d : kElementTypes) {
    const Values y(d, std::vector<double>{3, 0}), t(d, std::vector<double>{1, 2});
    Values dy(d, 2);
    double loss = 1.0;
    output_loss_forward(OutputLoss::squared_error, 2, y.tensor(), t.tensor(), 0.5, &loss);
    output_loss_backward(OutputLoss::squared_error, 2, y.tensor(), t.tensor(), 0.5, dy.tensor());
    EXPECT_EQ(loss, 5.0);
    EXPECT_EQ(dy.doubles(), (std::vector<double>{2, -2}));

    const Values logits(d, std::vector<double>{0, 800, -800}), labels(d, std::vector<double>{1, 0, 0});
    Values slope(d, 3);
    loss = 0.0;
    output_loss_forward(OutputLoss::binary_cross_entropy, 3, logits.tensor(), labels.tensor(), 1.0, &loss);
    output_loss_backward(OutputLoss::binary_cross_entropy, 3, logits.tensor(), labels.tensor(), 1.0, slope.tensor());
    EXPECT_DOUBLE_EQ(loss, std::log(2.0) + 800.0);
    EXPECT_EQ(slope.doubles(), (std::vector<double>{-0.5, 1, 0}));
  }
}

TEST(OutputLoss, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const OutputLoss kind : {OutputLoss::squared_error, OutputLoss::binary_cross_entropy}) {
      for (const Dtype d : kElementTypes) {
        for (const std::int64_t n : {0, 1, 16, 133}) {
          const Values y(d, random_values(n, 1, 9.0)), t(d, random_values(n, 2));
          Values dy(d, n);
          double loss = 0.5;
          output_loss_forward(kind, n, y.tensor(), t.tensor(), 0.3, &loss);
          output_loss_backward(kind, n, y.tensor(), t.tensor(), 0.3, dy.tensor());
          std::vector<double> expected(static_cast<std::size_t>(n));
          const double all = reference::output_loss_forward(kind, n, y.doubles().data(), t.doubles().data(), 0.3);
          reference::output_loss_backward(kind, n, y.doubles().data(), t.doubles().data(), 0.3, expected.data());
          EXPECT_NEAR(loss, all + 0.5, 1e-12 * std::max(1.0, all)) << isa;
          expect_close(dy, expected, d, 40, isa);
        }
      }
    }
  });
}

}  // namespace
}  // namespace foretrain::kernels
