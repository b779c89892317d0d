// Norms of gradients, steps of the optimizer, initial values.
#include <cmath>

#include "kernels/cuda/check_bench.h"
#include "kernels/cuda/kernels.h"
#include "kernels/reference.h"

namespace foretrain::kernels::cuda {

namespace {

using std::int64_t;

double* number(const Array& x, int64_t i = 0) {
  return static_cast<double*>(x.tensor().data) + i;
}

void gradient_norms(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const int64_t n : {0, 1, 133, 5000}) {
      const Array x = Array::random(bench, d, n, 1), sum(bench, Dtype::fp64, {0.25});
      double expected = 0.25;
      for (const double value : x.given()) {
        expected += value * value;
      }
      squared_norm(bench.stream(), x, n, number(sum), true);
      bench.expect("squared_norm, added", sum, {expected});
      squared_norm(bench.stream(), x, n, number(sum), false);
      bench.expect("squared_norm", sum, {expected - 0.25});
    }
  }
  for (const int64_t n : {0, 1, 300}) {
    const Array sums(bench, Dtype::fp64, Doubles(static_cast<std::size_t>(n), 4.0));
    for (const double clip : {1.0, 1e9}) {
      const Array result = Array::unset(bench, Dtype::fp64, 2);
      clip_coefficient(bench.stream(), {number(sums), static_cast<std::size_t>(n)}, clip, number(result, 1),
                       number(result));
      const double norm = std::sqrt(4.0 * static_cast<double>(n)), ratio = clip / (norm + 1e-6);
      bench.expect("clip_coefficient", result, {ratio > 1 ? 1 : ratio, norm});
    }
  }
  // One value that is none makes none of the norm, and of the coefficient.
  const Array broken(bench, Dtype::fp64, {1, std::nan(""), 1}), result(bench, Dtype::fp64, {0, 0});
  clip_coefficient(bench.stream(), {number(broken), 3}, 1.0, number(result, 1), number(result));
  const Doubles values = result.read();
  bench.expect_exact("clip_coefficient of no number", Array(bench, Dtype::fp64, {std::isnan(values[0]) ? 1.0 : 0.0}),
                     {1.0});
}

void optimizer_steps(Bench& bench) {
  for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::momentum, OptimizerKind::adam,
                                   OptimizerKind::adamw, OptimizerKind::rmsprop}) {
    for (const Dtype p : {Dtype::fp64, Dtype::fp32}) {
      for (const Dtype g : {p, p == Dtype::fp32 ? Dtype::bf16 : p}) {
        for (const int64_t n : {0, 1, 1030}) {
          for (const bool clipped : {false, true}) {
            OptimizerStep s;
            s.kind = kind;
            s.learning_rate = 0.01;
            s.weight_decay = 0.1;
            s.step = 3;
            const Array gradient = Array::random(bench, g, n, 1), parameter = Array::random(bench, p, n, 2);
            Doubles squares = random_values(n, 4);
            for (double& x : squares) {
              x = 0.01 + x * x;
            }
            // Of rmsprop m is a mean of squares, too.
            const Array m = kind == OptimizerKind::rmsprop ? Array(bench, p, squares) : Array::random(bench, p, n, 3);
            const Array v(bench, p, squares), coefficient(bench, Dtype::fp64, {0.25});
            const Array copy = Array::unset(bench, Dtype::bf16, n);
            Doubles ep = parameter.given(), em = m.given(), ev = v.given();
            const double factor = 0.25;
            reference::optimizer_step(s, n, gradient.given().data(), clipped ? &factor : nullptr, ep.data(), em.data(),
                                      ev.data());
            const bool has_copy = p == Dtype::fp32;
            optimizer_step(bench.stream(), s, n, gradient, clipped ? number(coefficient) : nullptr, parameter, m, v,
                           has_copy ? copy.tensor() : Tensor{});
            bench.expect("optimizer_step", parameter, ep);
            bench.expect("optimizer_step, m", m, em);
            bench.expect("optimizer_step, v", v, ev);
            if (has_copy) {
              bench.expect_exact("optimizer_step, copy", copy, parameter.read());
            }
          }
        }
      }
    }
  }
}

// The bits that the CPU draws, of what the same kernel makes of fp32.
void rounded_steps(Bench& bench) {
  for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::adamw}) {
    for (const Dtype g : {Dtype::fp32, Dtype::bf16}) {
      for (const int64_t n : {0, 1, 1030}) {
        OptimizerStep s;
        s.kind = kind;
        s.learning_rate = 0.01;
        s.weight_decay = 0.1;
        s.step = 3;
        s.rounding = {11, 4, {3, 7, 2, 5, 20}};
        const Array gradient = Array::random(bench, g, n, 1), parameter = Array::random(bench, Dtype::bf16, n, 2);
        const Array in_fp32(bench, Dtype::fp32, parameter.given());
        const auto moment = [&] { return Array(bench, Dtype::fp32, Doubles(static_cast<std::size_t>(n), 0.25)); };
        const Array m = moment(), v = moment(), m_of_fp32 = moment(), v_of_fp32 = moment();
        optimizer_step(bench.stream(), s, n, gradient, nullptr, parameter, m, v, {});
        optimizer_step(bench.stream(), s, n, gradient, nullptr, in_fp32, m_of_fp32, v_of_fp32, {});
        Doubles expected;
        for (const double x : in_fp32.read()) {
          const auto i = std::ssize(expected), index = (2 + (3 + i) / 7) * 20 + 5 + (3 + i) % 7;
          const std::uint32_t bits = rounding_bits(rounding_words(s.rounding, s.step, index / 8), index);
          expected.push_back(static_cast<double>(static_cast<float>(rounded(static_cast<float>(x), bits))));
        }
        bench.expect_exact("optimizer_step of bf16", parameter, expected);
        bench.expect_exact("optimizer_step of bf16, m", m, m_of_fp32.read());
        bench.expect_exact("optimizer_step of bf16, v", v, v_of_fp32.read());
      }
    }
  }
}

// The CPU's results.
void outer_steps(Bench& bench) {
  for (const OuterKind kind : {OuterKind::average, OuterKind::sgd, OuterKind::nesterov}) {
    for (const Dtype d : kElementTypes) {
      for (const int64_t n : {0, 1, 1030}) {
        const OuterStep s{kind, 3, 0.7, 0.9};
        const Array weights = Array::random(bench, d, n, 1), anchor = Array::random(bench, wide(d), n, 2);
        const Array momentum = Array::random(bench, wide(d), n, 3), copy = Array::unset(bench, Dtype::bf16, n);
        const bool has_copy = d == Dtype::fp32;
        // In fp64, and so before rounding.
        Doubles w = weights.given(), a = anchor.given(), m = momentum.given();
        const auto wide_of = [](Doubles& x) { return Tensor{x.data(), Dtype::fp64}; };
        const bool has_anchor = kind != OuterKind::average, has_momentum = kind == OuterKind::nesterov;
        kernels::outer_step(s, n, wide_of(w), has_anchor ? wide_of(a) : Tensor{}, has_momentum ? wide_of(m) : Tensor{},
                            {});
        outer_step(bench.stream(), s, n, weights, has_anchor ? anchor.tensor() : Tensor{},
                   has_momentum ? momentum.tensor() : Tensor{}, has_copy ? copy.tensor() : Tensor{});
        bench.expect("outer_step", weights, w);
        bench.expect("outer_step, anchor", anchor, a);
        bench.expect("outer_step, momentum", momentum, m);
        if (has_copy) {
          bench.expect_exact("outer_step, copy", copy, weights.read());
        }
      }
    }
  }
}

void lamb(Bench& bench) {
  for (const Dtype d : {Dtype::fp64, Dtype::fp32}) {
    for (const int64_t n : {0, 1, 1030}) {
      OptimizerStep s;
      s.kind = OptimizerKind::lamb;
      s.weight_decay = 0.1;
      s.step = 3;
      const Array gradient = Array::random(bench, d, n, 1), parameter = Array::random(bench, d, n, 2);
      const Array m = Array::random(bench, d, n, 3), coefficient(bench, Dtype::fp64, {0.25});
      Doubles squares = random_values(n, 4);
      for (double& x : squares) {
        x = 0.01 + x * x;
      }
      const Array v(bench, d, squares), norms(bench, Dtype::fp64, {3.0, 2.0, 0.0});
      Doubles eg = gradient.given(), ep = parameter.given(), em = m.given(), ev = v.given();
      const double quarter = 0.25, weights = 3.0, updates = 2.0;
      lamb_update(bench.stream(), s, n, gradient, number(coefficient), parameter, m, v);
      reference::lamb_update(s, n, eg.data(), &quarter, ep.data(), em.data(), ev.data());
      bench.expect("lamb_update", gradient, eg);
      bench.expect("lamb_update, m", m, em);
      bench.expect("lamb_update, v", v, ev);
      const Array copy = Array::unset(bench, Dtype::bf16, n);
      const bool has_copy = d == Dtype::fp32;
      lamb_step(bench.stream(), n, 0.01, gradient, number(norms), number(norms, 1), parameter,
                has_copy ? copy.tensor() : Tensor{});
      reference::lamb_step(n, 0.01, eg.data(), &weights, &updates, ep.data());
      bench.expect("lamb_step", parameter, ep);
      if (has_copy) {
        bench.expect_exact("lamb_step, copy", copy, parameter.read());
      }
      lamb_step(bench.stream(), n, 0.01, gradient, number(norms, 2), number(norms, 1), parameter, {});
      reference::lamb_step<double>(n, 0.01, eg.data(), nullptr, nullptr, ep.data());
      bench.expect("lamb_step of weights that are 0", parameter, ep);
    }
  }
}

void loss_scales(Bench& bench) {
  const LossScaleRule rule{8, 4, 0.5, 2};
  LossScaleState expected{8, 0, 0, 0, 0};
  const Array state(bench, Dtype::fp64, {8, 0, 0, 0, 0}), norms(bench, Dtype::fp64, {1.0, std::nan(""), INFINITY});
  for (const int64_t norm : {0, 0, 0, 1, 2, 0}) {
    update_loss_scale(bench.stream(), rule, number(norms, norm), static_cast<LossScaleState*>(state.tensor().data));
    const double value = norms.given()[static_cast<std::size_t>(norm)];
    kernels::update_loss_scale(rule, &value, &expected);
    bench.expect_exact("update_loss_scale", state,
                       {expected.scale, expected.steps, expected.is_finite, expected.in_a_row, expected.skipped});
  }
  const Array sums(bench, Dtype::fp64, {144, 256}), factor(bench, Dtype::fp64, {4.0});
  const Array result = Array::unset(bench, Dtype::fp64, 2);
  clip_coefficient(bench.stream(), {number(sums), 2}, 1.0, number(result, 1), number(result), number(factor));
  bench.expect("clip_coefficient of scaled gradients", result, {1.0 / (5.0 + 1e-6) / 4.0, 5.0});
}

// A step as a graph of ops takes it, its numbers on the device from the gradient on: one that has a gradient that is no
// number leaves all as it is, the next one goes on.
void guarded_steps(Bench& bench) {
  constexpr int64_t n = 1030;
  const LossScaleRule rule{8, 4, 0.5, 2};
  for (const Dtype d : {Dtype::fp64, Dtype::fp32}) {
    for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::adamw, OptimizerKind::lamb}) {
      OptimizerStep s;
      s.kind = kind;
      s.learning_rate = 0.01;
      s.weight_decay = 0.1;
      s.step = 3;
      const Array state(bench, Dtype::fp64, {8, 0, 0, 0, 0}), sum(bench, Dtype::fp64, {0}),
          norms(bench, Dtype::fp64, {3, 2});
      const Array clipped = Array::unset(bench, Dtype::fp64, 2), squares(bench, d, Doubles(n, 0.5));
      const Array parameter = Array::random(bench, d, n, 2), m = Array::random(bench, d, n, 3);
      const Array copy = Array::random(bench, Dtype::bf16, n, 4);
      const Tensor given_copy = d == Dtype::fp32 ? copy.tensor() : Tensor{};
      Stream stream = bench.stream();
      stream.guard = number(state, 2);  // is_finite
      for (const bool is_number : {false, true}) {
        Doubles values = random_values(n, 1);
        values[700] = is_number ? values[700] : std::nan("");
        const Array gradient(bench, d, values);
        squared_norm(bench.stream(), gradient, n, number(sum), false);
        clip_coefficient(bench.stream(), {number(sum), 1}, 1.0, number(clipped, 1), number(clipped), number(state));
        update_loss_scale(bench.stream(), rule, number(clipped, 1), static_cast<LossScaleState*>(state.tensor().data));
        Doubles ep = parameter.given(), em = m.given(), ev = squares.given(), eg = gradient.given();
        if (kind == OptimizerKind::lamb) {
          lamb_update(stream, s, n, gradient, number(clipped), parameter, m, squares);
          lamb_step(stream, n, 0.01, gradient, number(norms), number(norms, 1), parameter, given_copy);
        } else {
          optimizer_step(stream, s, n, gradient, number(clipped), parameter, m, squares, given_copy);
        }
        if (!is_number) {
          bench.expect_exact("a skipped step", parameter, ep);
          bench.expect_exact("a skipped step, m", m, em);
          bench.expect_exact("a skipped step, v", squares, ev);
          bench.expect_exact("a skipped step, copy", copy, copy.given());
          continue;
        }
        const double coefficient = clipped.read()[0], weights = 3, updates = 2;
        if (kind == OptimizerKind::lamb) {
          reference::lamb_update(s, n, eg.data(), &coefficient, ep.data(), em.data(), ev.data());
          reference::lamb_step(n, 0.01, eg.data(), &weights, &updates, ep.data());
        } else {
          reference::optimizer_step(s, n, eg.data(), &coefficient, ep.data(), em.data(), ev.data());
        }
        bench.expect("a step behind a skipped one", parameter, ep);
        bench.expect("a step behind a skipped one, m", m, em);
        bench.expect("a step behind a skipped one, v", squares, ev);
        if (given_copy) {
          bench.expect_exact("a step behind a skipped one, copy", copy, parameter.read());
        }
      }
    }
  }
}

// Two pieces of a tensor, one of them of odd offset.
void initial_values(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const InitShape s : {InitShape{0, 5, 0, 0, 5, 1, 2}, InitShape{3, 7, 0, 0, 7, 1234567890123, 2},
                              InitShape{40, 33, 5, 11, 101, 7, 1}}) {
      const int64_t n = s.rows * s.cols;
      Doubles normal(static_cast<std::size_t>(n)), uniform(normal);
      reference::init_normal(s, 0.02, normal.data());
      reference::init_uniform(s, -1.0, 3.0, uniform.data());
      const Array x = Array::unset(bench, d, n), y = Array::unset(bench, d, n);
      init_normal(bench.stream(), s, 0.02, x);
      init_uniform(bench.stream(), s, -1.0, 3.0, y);
      bench.expect("init_normal", x, normal, 1e-2);
      bench.expect("init_uniform", y, uniform, 1e-2);
    }
  }
}

constexpr Check kChecks[] = {{"squared_norm, clip_coefficient", gradient_norms},
                             {"optimizer_step", optimizer_steps},
                             {"optimizer_step of bf16", rounded_steps},
                             {"outer_step", outer_steps},
                             {"lamb", lamb},
                             {"loss_scale", loss_scales},
                             {"optimizer, guarded", guarded_steps},
                             {"init", initial_values}};

}  // namespace

std::span<const Check> optimizer_checks() {
  return kChecks;
}

}  // namespace foretrain::kernels::cuda
