// Choosing experts, tables of rows and moving rows by hand; gradients against central differences in fp64; products per
// expert against one product per row.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.h"
#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

using Ids = std::vector<std::int32_t>;
using Vector = std::vector<double>;

Tensor as_tensor(Vector& x) {
  return {x.data(), Dtype::fp64};
}
ConstTensor as_tensor(const Vector& x) {
  return {x.data(), Dtype::fp64};
}

struct Gated {
  Vector scores, weights;
  Ids chosen;
};

Gated gate(const GateShape& s, const Vector& logits) {
  Gated g{Vector(logits.size()), Vector(static_cast<std::size_t>(s.tokens * s.top_k)),
          Ids(static_cast<std::size_t>(s.tokens * s.top_k))};
  gate_forward(s, as_tensor(logits), as_tensor(g.scores), as_tensor(g.weights), g.chosen.data());
  return g;
}

// Odds 1 : 2 : 4 : 1 are scores of 1/8, 1/4, 1/2, 1/8: experts 2 and 1 with 2/3 and 1/3; of equal scores the first.
TEST(Gate, SoftmaxOverTheChosen) {
  const Vector logits{0, std::log(2.0), std::log(4.0), 0, 7, 7, 7, 7};
  const Gated g = gate({2, 4, 2}, logits);
  EXPECT_EQ(g.chosen, (Ids{2, 1, 0, 1}));
  EXPECT_NEAR(g.scores[2], 0.5, 1e-15);
  EXPECT_NEAR(g.weights[0], 2.0 / 3, 1e-15);
  EXPECT_NEAR(g.weights[1], 1.0 / 3, 1e-15);
  EXPECT_EQ(g.weights[2], 0.5);
  GateShape raw{2, 4, 2};
  raw.normalize = false;
  raw.scale = 3;
  EXPECT_NEAR(gate(raw, logits).weights[1], 0.75, 1e-15);
}

// Sigmoids of 0, ln 3, -ln 3, ln 3 are 1/2, 3/4, 1/4, 3/4. Groups {0, 1} and {2, 3} sum to 5/4 and 1: the first wins.
TEST(Gate, SigmoidFromTheBestGroup) {
  GateShape s{1, 4, 2};
  s.router = Router::sigmoid;
  s.scale = 2.5;
  const Vector logits{0, std::log(3.0), -std::log(3.0), std::log(3.0)};
  EXPECT_EQ(gate(s, logits).chosen, (Ids{1, 3}));
  s.groups = 2;
  s.top_groups = 1;
  const Gated g = gate(s, logits);
  EXPECT_EQ(g.chosen, (Ids{1, 0}));
  EXPECT_NEAR(g.weights[0], 2.5 * 0.6, 1e-15);
  EXPECT_NEAR(g.weights[1], 2.5 * 0.4, 1e-15);
}

TEST(Gate, NoTokensAndOneExpert) {
  EXPECT_TRUE(gate({0, 4, 2}, {}).chosen.empty());
  EXPECT_EQ(gate({1, 1, 1}, {3.0}).weights, (Vector{1.0}));
  EXPECT_THROW(gate({1, 2, 3}, {1, 2}), InternalError);
}

// The balancing loss as its definition says it.
double balance_loss(const GateShape& s, const Vector& scores, const Ids& counts, double coefficient) {
  double all = 0, sum = 0;
  for (const std::int32_t n : counts) {
    all += n;
  }
  const auto parts = static_cast<double>(counts.size()) / static_cast<double>(s.experts);
  for (std::int64_t e = 0; e < s.experts; ++e) {
    double count = 0, mean = 0;
    for (std::size_t i = static_cast<std::size_t>(e); i < counts.size(); i += static_cast<std::size_t>(s.experts)) {
      count += counts[i];
    }
    for (std::int64_t t = 0; t < s.tokens; ++t) {
      double total = 0;
      for (std::int64_t j = 0; j < s.experts; ++j) {
        total += s.router == Router::sigmoid ? scores[static_cast<std::size_t>(t * s.experts + j)] : 0;
      }
      mean += scores[static_cast<std::size_t>(t * s.experts + e)] / (s.router == Router::sigmoid ? total : 1);
    }
    sum += count / all * mean / (static_cast<double>(s.tokens) * parts);
  }
  return coefficient * static_cast<double>(s.experts) * sum;
}

TEST(Gate, GradientsOfWeightsAndBalance) {
  for (const Router router : {Router::softmax, Router::sigmoid}) {
    for (const bool normalize : {true, false}) {
      for (const double coefficient : {0.0, 0.3}) {
        GateShape s{3, 5, 2};
        s.router = router;
        s.normalize = normalize;
        s.scale = 1.5;
        const Vector logits = random_values(15, 1, 2.0), dweights = random_values(6, 2);
        const Gated g = gate(s, logits);
        Ids counts(10, 1);
        for (const std::int32_t e : g.chosen) {
          ++counts[static_cast<std::size_t>(e)];
        }
        Vector dlogits(15);
        gate_backward(s, as_tensor(g.scores), g.chosen.data(), as_tensor(dweights), coefficient, counts.data(), 2,
                      as_tensor(dlogits));
        const auto value = [&](const Vector& x) {
          const Gated at = gate(s, x);
          EXPECT_EQ(at.chosen, g.chosen);
          double sum = coefficient == 0 ? 0 : balance_loss(s, at.scores, counts, coefficient);
          for (std::size_t i = 0; i < 6; ++i) {
            sum += dweights[i] * at.weights[i];
          }
          return sum;
        };
        for (std::size_t i = 0; i < 15; ++i) {
          Vector up = logits, down = logits;
          up[i] += 1e-6;
          down[i] -= 1e-6;
          EXPECT_NEAR(dlogits[i], (value(up) - value(down)) / (up[i] - down[i]), 1e-8) << i;
        }
      }
    }
  }
}

// Choices 2 0 | 2 1 | 2 0 of 3 experts: expert 0 gets choices 1 and 5, expert 1 choice 3, expert 2 choices 0, 2, 4.
TEST(Route, CountsAndPlaces) {
  const Ids chosen{2, 0, 2, 1, 2, 0};
  Ids place(6), counts(3);
  route_count(6, 3, 0, chosen.data(), place.data(), counts.data());
  EXPECT_EQ(counts, (Ids{2, 1, 3}));
  EXPECT_EQ(place, (Ids{3, 0, 4, 2, 5, 1}));
  route_count(6, 3, 2, chosen.data(), place.data(), counts.data());  // expert 2 drops its third
  EXPECT_EQ(counts, (Ids{2, 1, 2}));
  EXPECT_EQ(place, (Ids{3, 0, 4, 2, -1, 1}));
  route_count(0, 3, 0, chosen.data(), place.data(), counts.data());
  EXPECT_EQ(counts, (Ids{0, 0, 0}));
}

// Two members with two experts each. This one has 1, 2 | 0, 3 rows for them; 2, 0 arrive from the first and 1, 1 from
// the second. By expert: rows 0, 1 (member 0, expert 0) at 0, 1; row 2 (member 1, expert 0) at 2; row 3 at 3.
TEST(Route, ArrangesWhatArrives) {
  const Ids counts{1, 2, 0, 3}, arrived{2, 0, 1, 1};
  Ids place(6), offsets(3), to(2), from(2);
  route_arrange(6, 4, 2, counts.data(), arrived.data(), place.data(), offsets.data(), to.data(), from.data());
  EXPECT_EQ(to, (Ids{3, 3}));
  EXPECT_EQ(from, (Ids{2, 2}));
  EXPECT_EQ(offsets, (Ids{0, 3, 4}));
  EXPECT_EQ(place, (Ids{0, 1, 2, 3, -1, -1}));
  const Ids crossed{1, 2, 1, 1};  // rows 0 | 1, 2 | 3 | 4: experts 0, 1, 1, 0, 1
  route_arrange(6, 4, 2, counts.data(), crossed.data(), place.data(), offsets.data(), to.data(), from.data());
  EXPECT_EQ(offsets, (Ids{0, 2, 5}));
  EXPECT_EQ(place, (Ids{0, 2, 3, 1, 4, -1}));
  EXPECT_THROW(
      route_arrange(4, 4, 2, counts.data(), crossed.data(), place.data(), offsets.data(), to.data(), from.data()),
      InternalError);
}

// Two tokens with two copies; the second copy of the first has no place.
TEST(Permute, ThereAndBack) {
  const Ids place{1, -1, 0, 2};
  for (const Dtype d : kElementTypes) {
    const Values x(d, {1, 2, 3, 4});
    Values y(d, 6), back(d, 4);
    permute_forward(2, 2, 2, x.tensor(), place.data(), y.tensor());
    permute_backward(2, 2, 2, y.tensor(), place.data(), back.tensor());
    EXPECT_EQ(y.doubles(), (Vector{3, 4, 1, 2, 3, 4}));
    EXPECT_EQ(back.doubles(), (Vector{1, 2, 6, 8}));
  }
  Values nothing(Dtype::fp32, Vector{5.0});
  permute_backward(1, 1, 1, nothing.tensor(), Ids{-1}.data(), nothing.tensor());
  EXPECT_EQ(nothing.get(0), 0.0);
}

// Experts with 2, 0 and 3 rows, against one product per row with the matrix of its expert.
TEST(Grouped, AgainstOneRowAtATime) {
  const std::int64_t out = 5, in = 7;
  const Ids offsets{0, 2, 2, 5};
  const GroupedShape s{3, out, in};
  for (const Dtype d : kElementTypes) {
    const Values x = random_tensor(d, 5 * in, 1), w = random_tensor(d, 3 * out * in, 2),
                 dy = random_tensor(d, 5 * out, 3);
    Values y(d, 5 * out), dx(d, 5 * in), dw(wide(d), w.size());
    grouped_forward(s, offsets.data(), x.tensor(), w.tensor(), y.tensor());
    grouped_backward_input(s, offsets.data(), dy.tensor(), w.tensor(), dx.tensor());
    fill(dw.tensor(), 3 * out * in, 1.0);
    grouped_backward_weight(s, offsets.data(), dy.tensor(), x.tensor(), dw.tensor());
    const Vector xs = x.doubles(), ws = w.doubles(), dys = dy.doubles();
    Vector ey(5 * out, 0), edx(5 * in, 0), edw(static_cast<std::size_t>(3 * out * in), 1);
    for (std::size_t r = 0; r < 5; ++r) {
      const std::size_t e = r < 2 ? 0 : 2;
      for (std::size_t o = 0; o < 5; ++o) {
        for (std::size_t i = 0; i < 7; ++i) {
          ey[r * 5 + o] += xs[r * 7 + i] * ws[(e * 5 + o) * 7 + i];
          edx[r * 7 + i] += dys[r * 5 + o] * ws[(e * 5 + o) * 7 + i];
          edw[(e * 5 + o) * 7 + i] += dys[r * 5 + o] * xs[r * 7 + i];
        }
      }
    }
    expect_close(y, ey, d, 30, "forward");
    expect_close(dx, edx, d, 30, "backward input");
    expect_close(dw, edw, d, 30, "backward weight");
  }
}

TEST(ExpertActivation, IsTheActivationTimesTheWeight) {
  const Vector weights{0.5, 2.0, 0.0};
  for (const Activation kind : {Activation::relu, Activation::swiglu}) {
    const std::int64_t cols = 4, width = is_gated(kind) ? 8 : 4;
    const Vector x = random_values(static_cast<std::size_t>(3 * width), 1), dy = random_values(12, 2);
    const auto forward = [&](const Vector& v, const Vector& w) {
      Vector y(12);
      expert_activation_forward(kind, 3, cols, as_tensor(v), as_tensor(w), as_tensor(y));
      return y;
    };
    Vector plain(12), dx(x.size()), dweights(3);
    reference::activation_forward<double>(kind, 3, cols, x.data(), plain.data());
    const Vector y = forward(x, weights);
    for (std::size_t i = 0; i < 12; ++i) {
      EXPECT_NEAR(y[i], plain[i] * weights[i / 4], 1e-14);
    }
    expert_activation_backward(kind, 3, cols, as_tensor(x), as_tensor(weights), as_tensor(dy), as_tensor(dx),
                               as_tensor(dweights));
    const auto difference = [&](const std::function<Vector(double)>& f) {
      const Vector up = f(1e-6), down = f(-1e-6);
      double sum = 0;
      for (std::size_t i = 0; i < 12; ++i) {
        sum += dy[i] * (up[i] - down[i]) / 2e-6;
      }
      return sum;
    };
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(dx[i], difference([&](double h) {
                    Vector moved = x;
                    moved[i] += h;
                    return forward(moved, weights);
                  }),
                  1e-8);
    }
    for (std::size_t r = 0; r < 3; ++r) {
      EXPECT_NEAR(dweights[r], difference([&](double h) {
                    Vector moved = weights;
                    moved[r] += h;
                    return forward(x, moved);
                  }),
                  1e-8);
    }
  }
}

// Two experts with rows {0} and {1, 2}, two columns; weights 1, 2, 3, of which the op takes half.
TEST(ExpertBias, ByHand) {
  const Ids offsets{0, 1, 3};
  const Vector bias{1, 10, 2, 20}, weights{1, 2, 3}, dy{1, 2, 3, 4, 5, 6};
  const ExpertBiasShape shape{2, 3, 2, 0.5};
  Vector y{0, 0, 0, 0, 0, 100};
  expert_bias_forward(shape, offsets.data(), as_tensor(bias), as_tensor(weights), as_tensor(y));
  EXPECT_EQ(y, (Vector{0.5, 5, 2, 20, 3, 130}));
  Vector dweights{100, 0, 0};  // 1·1 + 2·10, 3·2 + 4·20, 5·2 + 6·20, halved
  expert_bias_backward_weights(shape, offsets.data(), as_tensor(dy), as_tensor(bias), as_tensor(dweights));
  EXPECT_EQ(dweights, (Vector{110.5, 43, 65}));
  Vector dbias{0, 0, 1000, 0};  // 1·(1, 2); 2·(3, 4) + 3·(5, 6)
  expert_bias_gradient(shape, offsets.data(), as_tensor(dy), as_tensor(weights), as_tensor(dbias));
  EXPECT_EQ(dbias, (Vector{1, 2, 1021, 26}));
}

TEST(ExpertBias, WithoutExpertsOrWeights) {
  const Vector bias{1, 10}, dy{1, 2, 3, 4};
  Vector y{0, 0, 1, 1}, dbias{0, 0};
  const ExpertBiasShape shape{0, 2, 2, 1.0};
  expert_bias_forward(shape, nullptr, as_tensor(bias), {}, as_tensor(y));
  EXPECT_EQ(y, (Vector{1, 10, 2, 11}));
  expert_bias_gradient(shape, nullptr, as_tensor(dy), {}, as_tensor(dbias));
  EXPECT_EQ(dbias, (Vector{4, 6}));
  expert_bias_gradient({0, 0, 2, 1.0}, nullptr, as_tensor(dy), {}, as_tensor(dbias));  // no rows
  EXPECT_EQ(dbias, (Vector{4, 6}));
}

}  // namespace
}  // namespace foretrain::kernels
