#include "kernels/cuda/check_bench.h"
#include "kernels/cuda/kernels.h"
#include "kernels/reference.h"

namespace foretrain::kernels::cuda {

namespace {

using std::int64_t;

void activations(Bench& bench) {
  for (const Activation kind : kActivations) {
    for (const Dtype d : kElementTypes) {
      for (const int64_t cols : kCounts) {
        const int64_t rows = 3, width = is_gated(kind) ? 2 * cols : cols;
        const Array x = Array::random(bench, d, rows * width, 1, 9.0);
        const Array dy = Array::random(bench, d, rows * cols, 2);
        const Array y = Array::unset(bench, d, rows * cols), dx = Array::unset(bench, d, rows * width);
        activation_forward(bench.stream(), kind, rows, cols, x, y);
        activation_backward(bench.stream(), kind, rows, cols, x, dy, dx);
        Doubles ey(static_cast<std::size_t>(rows * cols)), edx(static_cast<std::size_t>(rows * width));
        reference::activation_forward(kind, rows, cols, x.given().data(), ey.data());
        reference::activation_backward(kind, rows, cols, x.given().data(), dy.given().data(), edx.data());
        const std::string what = fmt::format("activation {}, {} columns", static_cast<int>(kind), cols);
        bench.expect(what, y, ey);
        bench.expect(what + ", backward", dx, edx);
        if (!is_gated(kind)) {
          activation_backward(bench.stream(), kind, rows, cols, x, dy, dy);
          bench.expect(what + ", backward over dy", dy, edx);
          const Array again = Array::random(bench, d, rows * cols, 2);
          activation_forward(bench.stream(), kind, rows, cols, x, x);
          bench.expect(what + " in place", x, ey);
        }
      }
    }
  }
}

// Far out, gelu is 0 or x and its slope 0 or 1; nothing may overflow on the way.
void far_from_zero(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    const Array x(bench, d, {-1e30, -1e4, -100, 0, 100, 1e4, 1e30}), ones(bench, d, Doubles(7, 1.0));
    const Array y = Array::unset(bench, d, 7), dx = Array::unset(bench, d, 7);
    activation_forward(bench.stream(), Activation::gelu, 1, 7, x, y);
    activation_backward(bench.stream(), Activation::gelu, 1, 7, x, ones, dx);
    bench.expect_exact("gelu far from zero", y, {0, 0, 0, 0, 100, 1e4, 1e30});
    bench.expect_exact("slope of gelu far from zero", dx, {0, 0, 0, 0.5, 1, 1, 1});
  }
}

void residual_adds(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const Dtype parameter : parameter_types(d)) {
      for (const int64_t cols : kCounts) {
        for (const bool has_bias : {false, true}) {
          const Array a = Array::random(bench, d, 3 * cols, 1), b = Array::random(bench, d, 3 * cols, 2);
          const Array bias = Array::random(bench, parameter, cols, 3), y = Array::unset(bench, d, 3 * cols);
          Doubles expected(a.given().size());
          reference::residual_add<double>(3, cols, a.given().data(), b.given().data(),
                                          has_bias ? bias.given().data() : nullptr, expected.data());
          const ConstTensor given = has_bias ? ConstTensor(bias) : ConstTensor{};
          residual_add(bench.stream(), 3, cols, a, b, given, y);
          bench.expect("residual_add", y, expected);
          residual_add(bench.stream(), 3, cols, a, b, given, a);
          bench.expect("residual_add in place", a, expected);
        }
      }
    }
  }
}

void column_sums(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const int64_t rows : {0, 1, 9, 64, 200}) {
      for (const int64_t cols : {0, 1, 31, 65, 264}) {
        for (const bool accumulate : {false, true}) {
          const Array dy = Array::random(bench, d, rows * cols, 1);
          const Array db = Array::random(bench, wide(d), cols, 2);
          Doubles expected = db.given();
          reference::bias_gradient(rows, cols, dy.given().data(), expected.data(), accumulate);
          bias_gradient(bench.stream(), rows, cols, dy, db, accumulate);
          bench.expect(fmt::format("bias_gradient of {} x {}", rows, cols), db, expected);
        }
      }
    }
  }
}

void fills_casts_adds(Bench& bench) {
  for (const int64_t n : kCounts) {
    for (const Dtype from : kElementTypes) {
      const Array filled = Array::unset(bench, from, n);
      fill(bench.stream(), filled, n, 1.0 / 3.0);
      bench.expect_exact("fill", filled, Doubles(static_cast<std::size_t>(n), 1.0 / 3.0));
      for (const Dtype to : kElementTypes) {
        const Array src = Array::random(bench, from, n, 1), dst = Array::unset(bench, to, n);
        cast(bench.stream(), src, dst, n);
        bench.expect_exact(fmt::format("cast from {}", name(from)), dst, src.given());
        if (to == wide(from) || to == from) {
          const Array sum = Array::random(bench, to, n, 2);
          Doubles expected = sum.given();
          for (std::size_t i = 0; i < expected.size(); ++i) {
            expected[i] += src.given()[i];
          }
          add(bench.stream(), src, sum, n);
          bench.expect(fmt::format("add of {}", name(from)), sum, expected);
        }
      }
    }
  }
}

// In fp32, 1e8 + 1 + 1 … - 1e8 loses every 1, in another order it would not.
void sums_in_order(Bench& bench) {
  for (const int64_t n : kCounts) {
    const auto size = static_cast<std::size_t>(n);
    const Array large(bench, Dtype::fp32, Doubles(size, 1e8)), one(bench, Dtype::fp32, Doubles(size, 1.0)),
        back(bench, Dtype::fp32, Doubles(size, -1e8)), out = Array::unset(bench, Dtype::fp32, n);
    const std::vector<ConstTensor> sources = {large, one, one, one, back};
    sum_in_order(bench.stream(), sources, out, {}, n);
    bench.expect_exact("sum_in_order", out, Doubles(size, 0.0));
    for (const Dtype d : kElementTypes) {
      const Array a = Array::random(bench, d, n, 1), b = Array::random(bench, d, n, 2),
                  c = Array::random(bench, d, n, 3);
      Doubles expected(size);
      for (std::size_t i = 0; i < size; ++i) {
        expected[i] = a.given()[i] + b.given()[i] + c.given()[i];
      }
      const std::vector<ConstTensor> parts = {a, b, c};
      const Array copy = Array::unset(bench, d, n);
      const std::vector<Tensor> copies = {copy, c};
      sum_in_order(bench.stream(), parts, b, copies, n);  // over two of them
      bench.expect("sum_in_order of three", b, expected);
      bench.expect("sum_in_order of three, a copy", copy, expected);
      bench.expect("sum_in_order of three, over a source", c, expected);
    }
  }
}

void matrices(Bench& bench) {
  for (const Dtype d : kElementTypes) {
    for (const int64_t cols : {0, 1, 33, 400}) {
      const int64_t rows = 5, ld_src = cols + 2, ld_dst = cols + 1;
      const Array src = Array::random(bench, d, rows * ld_src, 1), dst = Array::random(bench, d, rows * ld_dst, 2);
      Doubles expected = dst.given();
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          expected[static_cast<std::size_t>(r * ld_dst + c)] = src.given()[static_cast<std::size_t>(r * ld_src + c)];
        }
      }
      copy_matrix(bench.stream(), rows, cols, src, ld_src, dst, ld_dst);
      bench.expect_exact("copy_matrix", dst, expected);
    }
  }
}

constexpr Check kChecks[] = {
    {"activation", activations},
    {"activation, in packs", in_packs<activations>},
    {"activation, far out", far_from_zero},
    {"residual_add", residual_adds},
    {"residual_add, in packs", in_packs<residual_adds>},
    {"bias_gradient", column_sums},
    {"bias_gradient, in packs", in_packs<column_sums>},
    {"fill, cast, add", fills_casts_adds},
    {"sum_in_order", sums_in_order},
    {"copy_matrix", matrices},
};

}  // namespace

std::span<const Check> elementwise_checks() {
  return kChecks;
}

}  // namespace foretrain::kernels::cuda
