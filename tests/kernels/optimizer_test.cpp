#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "base/error.h"
#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

const std::vector<OptimizerKind> kKinds = {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::adam,
                                           OptimizerKind::adamw, OptimizerKind::rmsprop};

TEST(Optimizer, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const OptimizerKind kind : kKinds) {
      for (const std::int64_t n : {0, 1, 7, 64, 133}) {
        for (const auto& [parameter, gradient, copy] :
             std::vector<std::array<Dtype, 3>>{{Dtype::fp64, Dtype::fp64, Dtype::fp64},
                                               {Dtype::fp32, Dtype::fp32, Dtype::fp32},
                                               {Dtype::fp32, Dtype::fp32, Dtype::bf16},
                                               {Dtype::fp32, Dtype::fp32, Dtype::fp16},
                                               {Dtype::fp32, Dtype::bf16, Dtype::bf16}}) {
          Values p = random_tensor(parameter, n, 1);
          const bool copies = size_bytes(copy, 1) == 2;
          Values m(parameter, p.size()), v(parameter, p.size()), narrow(copies ? copy : Dtype::bf16, p.size());
          std::vector<double> ep = p.doubles(), em(p.size()), ev(p.size());
          for (std::int64_t t = 1; t <= 3; ++t) {
            const OptimizerStep step = {.kind = kind, .learning_rate = 0.01, .weight_decay = 0.1, .step = t};
            const Values g = random_tensor(gradient, n, static_cast<unsigned>(t));
            const double coefficient = 0.5;
            optimizer_step(step, n, g.tensor(), &coefficient, p.tensor(), m.tensor(), v.tensor(),
                           copies ? narrow.tensor() : Tensor{});
            reference::optimizer_step(step, n, g.doubles().data(), &coefficient, ep.data(), em.data(), ev.data());
          }
          expect_close(p, ep, parameter, 10, isa);
          expect_close(m, em, parameter, 10, isa);
          expect_close(v, ev, parameter, 20, isa);
          if (copies) {
            EXPECT_TRUE(narrow.same_bits(Values(copy, p.doubles())));
          }
        }
      }
    }
  });
}

// First step of Adam without decay: m/(1-b1) = g, v/(1-b2) = g^2, so the step is lr g/(|g| + eps), about lr sign(g).
TEST(Optimizer, FirstStepByHand) {
  Values p(Dtype::fp64, {1.0, 1.0}), m(Dtype::fp64, 2), v(Dtype::fp64, 2);
  const Values g(Dtype::fp64, {4.0, -0.25});
  optimizer_step({.kind = OptimizerKind::adamw, .learning_rate = 0.1, .epsilon = 0.0, .weight_decay = 0.5, .step = 1},
                 2, g.tensor(), nullptr, p.tensor(), m.tensor(), v.tensor(), {});
  EXPECT_NEAR(p.get(0), 1.0 - 0.05 - 0.1, 1e-15);
  EXPECT_NEAR(p.get(1), 1.0 - 0.05 + 0.1, 1e-15);
  EXPECT_NEAR(m.get(0), 0.4, 1e-15);
  EXPECT_NEAR(v.get(0), 0.8, 1e-15);
}

// m = 0.25 4^2 = 4, so that the step is 0.1 4 / (2 + 1); then m = 0.75 4 + 0.25 = 3.25.
TEST(Optimizer, RmspropByHand) {
  Values p(Dtype::fp64, std::vector<double>{1.0}), m(Dtype::fp64, 1);
  OptimizerStep step{.kind = OptimizerKind::rmsprop, .learning_rate = 0.1, .beta2 = 0.75, .epsilon = 1.0};
  const Values first(Dtype::fp64, std::vector<double>{4.0}), second(Dtype::fp64, std::vector<double>{-1.0});
  optimizer_step(step, 1, first.tensor(), nullptr, p.tensor(), m.tensor(), {}, {});
  EXPECT_NEAR(m.get(0), 4.0, 1e-15);
  EXPECT_NEAR(p.get(0), 1.0 - 0.4 / 3.0, 1e-15);
  step.step = 2;
  optimizer_step(step, 1, second.tensor(), nullptr, p.tensor(), m.tensor(), {}, {});
  EXPECT_NEAR(m.get(0), 3.25, 1e-15);
  EXPECT_NEAR(p.get(0), 1.0 - 0.4 / 3.0 + 0.1 / (std::sqrt(3.25) + 1.0), 1e-15);
}

// First step: m^ = g, sqrt(v^) = |g|, so that u = sign(g) + 0.5 p = {2, -2} of p = {2, -2}: their norms are alike and
// the ratio 1; with weights four times as large (a sum of squares of 16 times) it is 4.
TEST(Optimizer, LambByHand) {
  Values p(Dtype::fp64, {2.0, -2.0}), m(Dtype::fp64, 2), v(Dtype::fp64, 2), g(Dtype::fp64, {4.0, -0.25});
  const OptimizerStep step{.kind = OptimizerKind::lamb, .epsilon = 0.0, .weight_decay = 0.5};
  const double half = 0.5;
  lamb_update(step, 2, g.tensor(), &half, p.tensor(), m.tensor(), v.tensor());
  EXPECT_NEAR(m.get(0), 0.2, 1e-15);
  EXPECT_NEAR(v.get(0), 0.2, 1e-15);
  EXPECT_NEAR(g.get(0), 2.0, 1e-14);
  EXPECT_NEAR(g.get(1), -2.0, 1e-14);
  const double weights = 128.0, updates = 8.0, none = 0.0;
  lamb_step(2, 0.1, g.tensor(), &weights, &updates, p.tensor(), {});
  EXPECT_NEAR(p.get(0), 2.0 - 0.1 * 4 * 2, 1e-14);
  lamb_step(2, 0.1, g.tensor(), &none, &updates, p.tensor(), {});
  EXPECT_NEAR(p.get(0), 1.2 - 0.1 * 2, 1e-14);
  lamb_step(2, 0.1, g.tensor(), nullptr, nullptr, p.tensor(), {});
  EXPECT_NEAR(p.get(0), 1.0 - 0.1 * 2, 1e-14);
}

TEST(Optimizer, LambAgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const std::int64_t n : {0, 1, 7, 64, 133}) {
      for (const Dtype d : {Dtype::fp64, Dtype::fp32}) {
        Values p = random_tensor(d, n, 1), m(d, p.size()), v(d, p.size()), narrow(Dtype::bf16, p.size());
        std::vector<double> ep = p.doubles(), em(p.size()), ev(p.size());
        for (std::int64_t t = 1; t <= 3; ++t) {
          const OptimizerStep step = {.kind = OptimizerKind::lamb, .weight_decay = 0.1, .step = t};
          Values g = random_tensor(d, n, static_cast<unsigned>(t));
          std::vector<double> eg = g.doubles();
          const double coefficient = 0.5, weights = 3.0, updates = 2.0;
          lamb_update(step, n, g.tensor(), &coefficient, p.tensor(), m.tensor(), v.tensor());
          reference::lamb_update(step, n, eg.data(), &coefficient, ep.data(), em.data(), ev.data());
          expect_close(g, eg, d, 40, isa);
          const bool copies = d == Dtype::fp32;
          lamb_step(n, 0.01, g.tensor(), &weights, &updates, p.tensor(), copies ? narrow.tensor() : Tensor{});
          reference::lamb_step(n, 0.01, eg.data(), &weights, &updates, ep.data());
          if (copies) {
            EXPECT_TRUE(narrow.same_bits(Values(Dtype::bf16, p.doubles())));
          }
        }
        expect_close(p, ep, d, 40, isa);
        expect_close(m, em, d, 10, isa);
        expect_close(v, ev, d, 20, isa);
      }
    }
  });
}

// Grows after two steps with numbers, halves at one without, and starts to count again.
TEST(LossScale, ByHand) {
  const LossScaleRule rule{8, 4, 0.5, 2};
  LossScaleState s{8, 0, 0, 0, 0};
  const double fine = 3.0, broken = std::numeric_limits<double>::infinity(), none = std::nan("");
  update_loss_scale(rule, &fine, &s);
  EXPECT_EQ(std::tie(s.scale, s.steps, s.is_finite), std::make_tuple(8.0, 1.0, 1.0));
  update_loss_scale(rule, &fine, &s);
  EXPECT_EQ(std::tie(s.scale, s.steps, s.is_finite), std::make_tuple(32.0, 0.0, 1.0));
  update_loss_scale(rule, &fine, &s);
  update_loss_scale(rule, &broken, &s);
  update_loss_scale(rule, &none, &s);
  EXPECT_EQ(std::tie(s.scale, s.steps, s.is_finite), std::make_tuple(8.0, 0.0, 0.0));
  EXPECT_EQ(std::tie(s.in_a_row, s.skipped), std::make_tuple(2.0, 2.0));
  update_loss_scale(rule, &fine, &s);
  EXPECT_EQ(std::tie(s.in_a_row, s.skipped, s.is_finite), std::make_tuple(0.0, 2.0, 1.0));
}

// Gradients 4 times as large: their norm of 20 is 5, clipped to 1 by 1/5 and made so by 1/4.
TEST(ClipCoefficient, OfScaledGradients) {
  double norm = 0.0, coefficient = 0.0;
  const double factor = 4.0;
  clip_coefficient(std::vector<double>{144.0, 256.0}, 1.0, &norm, &coefficient, &factor);
  EXPECT_EQ(norm, 5.0);
  EXPECT_NEAR(coefficient, 0.05, 1e-7);
}

TEST(Optimizer, RefusesWrongTypes) {
  Values p(Dtype::fp32, 4), m(Dtype::fp64, 4), v(Dtype::fp32, 4), g(Dtype::fp32, 4);
  EXPECT_THROW(optimizer_step({}, 4, g.tensor(), nullptr, p.tensor(), m.tensor(), v.tensor(), {}), InternalError);
  EXPECT_THROW(optimizer_step({.step = 0}, 4, g.tensor(), nullptr, p.tensor(), v.tensor(), v.tensor(), {}),
               InternalError);
}

TEST(SquaredNorm, IsExactForIntegers) {
  for_instruction_sets([](const std::string& isa) {
    for (const Dtype d : kElementTypes) {
      for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{17}, std::size_t{255}}) {
        std::vector<double> x(n);
        double expected = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
          x[i] = static_cast<double>(i);
          expected += x[i] * x[i];
        }
        double sum = 3.0;
        squared_norm(Values(d, x).tensor(), static_cast<std::int64_t>(n), &sum, true);
        EXPECT_EQ(sum, expected + 3.0) << isa;
        squared_norm(Values(d, x).tensor(), static_cast<std::int64_t>(n), &sum, false);
        EXPECT_EQ(sum, expected) << isa;
      }
    }
  });
}

// 1e30 squared does not fit fp32; it fits fp64.
TEST(SquaredNorm, DoesNotOverflow) {
  double sum = 0.0;
  squared_norm(Values(Dtype::fp32, std::vector<double>{1e30}).tensor(), 1, &sum, false);
  EXPECT_NEAR(sum, 1e60, 1e53);
}

TEST(ClipCoefficient, ByHand) {
  double norm = 0.0;
  double coefficient = 0.0;
  const std::vector<double> sums = {9.0, 16.0};
  clip_coefficient(sums, 10.0, &norm, &coefficient);
  EXPECT_EQ(norm, 5.0);
  EXPECT_EQ(coefficient, 1.0);
  clip_coefficient(sums, 1.0, &norm, &coefficient);
  EXPECT_EQ(coefficient, 1.0 / (5.0 + 1e-6));
  clip_coefficient({}, 1.0, &norm, &coefficient);
  EXPECT_EQ(norm, 0.0);
  EXPECT_EQ(coefficient, 1.0);
  clip_coefficient(std::vector<double>{std::numeric_limits<double>::quiet_NaN()}, 1.0, &norm, &coefficient);
  EXPECT_TRUE(std::isnan(coefficient));
}

}  // namespace
}  // namespace foretrain::kernels
