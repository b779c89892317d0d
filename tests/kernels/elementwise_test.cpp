#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

const std::vector<std::int64_t> kCounts = {0, 1, 3, 16, 31, 64, 133, 1000};
const std::vector<Activation> kActivations = {Activation::gelu,    Activation::relu,     Activation::swiglu,
                                              Activation::geglu,   Activation::gelu_erf, Activation::swiglu_clamped,
                                              Activation::sigmoid, Activation::tanh};

TEST(Activation, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const Activation kind : kActivations) {
      for (const Dtype d : kElementTypes) {
        for (const std::int64_t cols : kCounts) {
          const std::int64_t rows = 3;
          const std::int64_t width = is_gated(kind) ? 2 * cols : cols;
          const Values x = random_tensor(d, rows * width, 1, 6.0);
          const Values dy = random_tensor(d, rows * cols, 2);
          Values y(d, dy.size());
          Values dx(d, x.size());
          std::vector<double> ey(y.size()), edx(dx.size());
          activation_forward(kind, rows, cols, x.tensor(), y.tensor());
          activation_backward(kind, rows, cols, x.tensor(), dy.tensor(), dx.tensor());
          reference::activation_forward<double>(kind, rows, cols, x.doubles().data(), ey.data());
          reference::activation_backward<double>(kind, rows, cols, x.doubles().data(), dy.doubles().data(), edx.data());
          // gelu takes the exponential of up to 26 here: that many roundings of the argument enter, times slope and
          // gate.
          expect_close(y, ey, d, 100, isa + " forward");
          expect_close(dx, edx, d, 100, isa + " backward");
        }
      }
    }
  });
}

// Far out, gelu is 0 or x and its slope 0 or 1; nothing may overflow on the way.
TEST(Activation, FarFromZero) {
  for (const Dtype d : kElementTypes) {
    const double far = d == Dtype::fp16 ? 65504 : 1e30;
    const Values x(d, {-far, -1e4, -100, 0, 100, 1e4, far});
    const Values dy(d, std::vector<double>(7, 1.0));
    Values y(d, 7), dx(d, 7);
    activation_forward(Activation::gelu, 1, 7, x.tensor(), y.tensor());
    activation_backward(Activation::gelu, 1, 7, x.tensor(), dy.tensor(), dx.tensor());
    for (std::size_t i = 0; i < 7; ++i) {
      EXPECT_EQ(y.get(i), std::max(x.get(i), 0.0));
    }
    EXPECT_EQ(dx.get(1), 0.0);
    EXPECT_EQ(dx.get(2), 0.0);
    EXPECT_EQ(dx.get(3), 0.5);
    EXPECT_EQ(dx.get(4), 1.0);
    EXPECT_EQ(dx.get(5), 1.0);
  }
}

TEST(Activation, InPlace) {
  for (const Dtype d : kElementTypes) {
    const Values x = random_tensor(d, 77, 1);
    const Values dy = random_tensor(d, 77, 2);
    Values y(d, 77, 1), same(d, x.doubles(), 1);
    activation_forward(Activation::gelu, 7, 11, x.tensor(), y.tensor());
    activation_forward(Activation::gelu, 7, 11, same.tensor(), same.tensor());
    EXPECT_TRUE(y.same_bits(same));
    Values dx(d, 77, 1), over_dy(d, dy.doubles(), 1), over_x(d, x.doubles(), 1);
    activation_backward(Activation::gelu, 7, 11, x.tensor(), dy.tensor(), dx.tensor());
    activation_backward(Activation::gelu, 7, 11, x.tensor(), over_dy.tensor(), over_dy.tensor());
    activation_backward(Activation::gelu, 7, 11, over_x.tensor(), dy.tensor(), over_x.tensor());
    EXPECT_TRUE(dx.same_bits(over_dy));
    EXPECT_TRUE(dx.same_bits(over_x));
  }
}

// The vector exponential within 2 ulp of the exact value where that is normal, seen through silu: swiglu with up = 1
// gives x / (1 + exp(-x)), for large -x about x exp(x).
TEST(Activation, ExponentialIsAccurate) {
  for_instruction_sets([](const std::string& isa) {
    std::vector<double> in;
    const std::int64_t n = 8000;
    for (std::int64_t i = 0; i < n; ++i) {
      in.push_back(static_cast<double>(static_cast<float>(-80.0 + 0.01 * static_cast<double>(i))));
    }
    in.resize(2 * static_cast<std::size_t>(n), 1.0);
    const Values x(Dtype::fp32, in);
    Values y(Dtype::fp32, static_cast<std::size_t>(n));
    activation_forward(Activation::swiglu, 1, n, x.tensor(), y.tensor());
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      const double exact = in[i] / (1.0 + std::exp(-in[i]));
      EXPECT_NEAR(y.get(i), exact, 4.0 * rounding(Dtype::fp32) * 2.0 * std::abs(exact)) << isa << " " << in[i];
    }
  });
}

TEST(ResidualAdd, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const Dtype d : kElementTypes) {
      for (const Dtype parameter : {d, wide(d)}) {
        for (const std::int64_t cols : kCounts) {
          const Values a = random_tensor(d, 3 * cols, 1);
          const Values b = random_tensor(d, 3 * cols, 2);
          const Values bias = random_tensor(parameter, cols, 3);
          Values y(d, a.size());
          std::vector<double> expected(a.size());
          residual_add(3, cols, a.tensor(), b.tensor(), bias.tensor(), y.tensor());
          reference::residual_add(3, cols, a.doubles().data(), b.doubles().data(), bias.doubles().data(),
                                  expected.data());
          expect_close(y, expected, d, 4, isa);
          Values in_place(d, a.doubles(), 3);
          residual_add(3, cols, in_place.tensor(), b.tensor(), {}, in_place.tensor());
          reference::residual_add<double>(3, cols, a.doubles().data(), b.doubles().data(), nullptr, expected.data());
          expect_close(in_place, expected, d, 2, isa);
        }
      }
    }
  });
}

TEST(BiasGradient, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const Dtype d : kElementTypes) {
      for (const std::int64_t rows : {0, 1, 3, 4, 9, 64}) {
        for (const std::int64_t cols : kCounts) {
          for (const bool accumulate : {false, true}) {
            const Values dy = random_tensor(d, rows * cols, 1);
            Values db = random_tensor(wide(d), cols, 2);
            std::vector<double> expected = db.doubles();
            bias_gradient(rows, cols, dy.tensor(), db.tensor(), accumulate);
            reference::bias_gradient(rows, cols, dy.doubles().data(), expected.data(), accumulate);
            expect_close(db, expected, d, 200, isa);  // the sum may be small beside what was summed
          }
        }
      }
    }
  });
}

TEST(FillCastAdd, EveryPairOfTypes) {
  for_instruction_sets([](const std::string& isa) {
    for (const std::int64_t n : kCounts) {
      for (const Dtype from : kElementTypes) {
        Values filled(from, static_cast<std::size_t>(n));
        fill(filled.tensor(), n, 1.0 / 3.0);
        for (std::size_t i = 0; i < filled.size(); ++i) {
          EXPECT_EQ(filled.get(i), Values(from, std::vector<double>{1.0 / 3.0}).get(0)) << isa;
        }
        for (const Dtype to : kElementTypes) {
          const Values src = random_tensor(from, n, 1);
          Values dst(to, src.size());
          cast(src.tensor(), dst.tensor(), n);
          EXPECT_TRUE(dst.same_bits(Values(to, src.doubles()))) << isa << name(from) << name(to);
          if (to == wide(from) || to == from) {
            dst = Values(to, random_values(src.size(), 2));
            const Values before = dst;
            add(src.tensor(), dst.tensor(), n);
            for (std::size_t i = 0; i < dst.size(); ++i) {
              const double exact = src.get(i) + before.get(i);
              EXPECT_NEAR(dst.get(i), exact, rounding(to) * std::abs(exact)) << isa;
            }
          }
        }
      }
    }
  });
  Values narrow(Dtype::bf16, 4), whole(Dtype::fp64, 4);
  EXPECT_THROW(add(narrow.tensor(), whole.tensor(), 4), InternalError);
}

// ((s0 + s1) + s2) + … in this very order: in fp32, 1e8 + 1 + 1 … - 1e8 loses every 1, in another order it would not.
TEST(SumInOrder, TheOrderIsTheSources) {
  for_instruction_sets([](const std::string& isa) {
    for (const std::int64_t n : kCounts) {
      const auto size = static_cast<std::size_t>(n);
      std::vector<Values> sources;
      sources.emplace_back(Dtype::fp32, std::vector<double>(size, 1e8), 1);
      for (int i = 0; i < 5; ++i) {
        sources.emplace_back(Dtype::fp32, std::vector<double>(size, 1.0), 2);
      }
      sources.emplace_back(Dtype::fp32, std::vector<double>(size, -1e8), 3);
      std::vector<ConstTensor> tensors;
      for (const Values& s : sources) {
        tensors.push_back(s.tensor());
      }
      Values out(Dtype::fp32, size);
      sum_in_order(tensors, out.tensor(), {}, n);
      for (std::size_t i = 0; i < size; ++i) {
        EXPECT_EQ(out.get(i), 0.0) << isa;
      }
    }
  });
}

TEST(SumInOrder, RoundsOnceAndMayOverwriteASource) {
  for_instruction_sets([](const std::string& isa) {
    for (const Dtype d : kElementTypes) {
      for (const std::int64_t n : kCounts) {
        for (const std::size_t count : {std::size_t{1}, std::size_t{2}, std::size_t{5}}) {
          std::vector<Values> sources;
          for (std::size_t s = 0; s < count; ++s) {
            sources.push_back(random_tensor(d, n, static_cast<unsigned>(s)));
          }
          std::vector<ConstTensor> tensors;
          for (const Values& s : sources) {
            tensors.push_back(s.tensor());
          }
          std::vector<double> expected(static_cast<std::size_t>(n));
          for (std::size_t i = 0; i < expected.size(); ++i) {
            if (d == Dtype::fp64) {
              double sum = sources[0].get(i);
              for (std::size_t s = 1; s < count; ++s) {
                sum += sources[s].get(i);
              }
              expected[i] = sum;
            } else {
              auto sum = static_cast<float>(sources[0].get(i));
              for (std::size_t s = 1; s < count; ++s) {
                sum += static_cast<float>(sources[s].get(i));
              }
              expected[i] = static_cast<double>(sum);
            }
          }
          // As an all_reduce in place: the sum into the last source, and copies into the first and elsewhere.
          Values elsewhere = random_tensor(d, n, 9);
          const std::vector<Tensor> copies = {sources[0].tensor(), elsewhere.tensor()};
          sum_in_order(tensors, sources[count - 1].tensor(), copies, n);
          const Values rounded(d, expected);
          for (std::size_t i = 0; i < expected.size(); ++i) {
            EXPECT_EQ(sources[count - 1].get(i), rounded.get(i)) << isa << name(d);
            EXPECT_EQ(sources[0].get(i), rounded.get(i)) << isa << name(d);
            EXPECT_EQ(elsewhere.get(i), rounded.get(i)) << isa << name(d);
          }
        }
      }
    }
  });
  Values out(Dtype::fp32, 1);
  EXPECT_THROW(sum_in_order({}, out.tensor(), {}, 1), InternalError);
}

}  // namespace
}  // namespace foretrain::kernels
