#include <gtest/gtest.h>

#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

const std::vector<std::array<std::int64_t, 2>> kSizes = {{0, 5}, {1, 1}, {3, 7}, {4, 16}, {5, 64}, {6, 131}, {9, 768}};

void check(const NormShape& s, Dtype d, Dtype parameters, bool accumulate, const std::string& isa) {
  const std::int64_t n = s.rows * s.cols;
  const bool layernorm = s.kind == NormKind::layernorm;
  const Values x = random_tensor(d, n, 1, 3.0);
  const Values gain = random_tensor(parameters, s.cols, 2);
  const Values bias = random_tensor(parameters, s.cols, 3);
  const Values dy = random_tensor(d, n, 4);
  Values y(d, static_cast<std::size_t>(n));
  Values mean(wide(d), static_cast<std::size_t>(s.rows));
  Values rstd(wide(d), static_cast<std::size_t>(s.rows));
  norm_forward(s, x.tensor(), gain.tensor(), layernorm ? bias.tensor() : ConstTensor{}, y.tensor(), mean.tensor(),
               rstd.tensor());

  std::vector<double> ey(y.size()), emean(mean.size()), erstd(rstd.size());
  const std::vector<double> wx = x.doubles(), wgain = gain.doubles(), wbias = bias.doubles(), wdy = dy.doubles();
  reference::norm_forward<double>(s, wx.data(), wgain.data(), layernorm ? wbias.data() : nullptr, ey.data(),
                                  emean.data(), erstd.data());
  // One column: x - mean is 0 and the rounding of the mean is multiplied by 1/sqrt(epsilon).
  const double ulps = s.cols == 1 ? 2000.0 : 30.0;
  expect_close(y, ey, d, ulps, isa + " y");
  expect_close(rstd, erstd, d, ulps, isa + " rstd");
  if (layernorm) {
    expect_close(mean, emean, d, ulps, isa + " mean");
  }

  Values dx = random_tensor(d, n, 5);
  std::vector<double> edx = dx.doubles();
  Values beside(d, n);
  if (accumulate) {
    norm_backward_input(s, x.tensor(), gain.tensor(), dy.tensor(), mean.tensor(), rstd.tensor(), dx.tensor(),
                        beside.tensor());
  }
  norm_backward_input(s, x.tensor(), gain.tensor(), dy.tensor(), mean.tensor(), rstd.tensor(),
                      accumulate ? ConstTensor(dx.tensor()) : ConstTensor{}, dx.tensor());
  reference::norm_backward_input<double>(s, wx.data(), wgain.data(), wdy.data(), mean.doubles().data(),
                                         rstd.doubles().data(), edx.data(), accumulate);
  expect_close(dx, edx, d, 30 * ulps, isa + " dx");
  EXPECT_TRUE(!accumulate || beside.same_bits(dx)) << isa;

  Values dgain = random_tensor(wide(d), s.cols, 6);
  Values dbias = random_tensor(wide(d), s.cols, 7);
  std::vector<double> edgain = dgain.doubles(), edbias = dbias.doubles();
  norm_backward_weight(s, x.tensor(), dy.tensor(), mean.tensor(), rstd.tensor(), dgain.tensor(),
                       layernorm ? dbias.tensor() : Tensor{}, accumulate);
  reference::norm_backward_weight<double>(s, wx.data(), wdy.data(), mean.doubles().data(), rstd.doubles().data(),
                                          edgain.data(), layernorm ? edbias.data() : nullptr, accumulate);
  expect_close(dgain, edgain, d, ulps, isa + " dgain");
  expect_close(dbias, edbias, d, ulps, isa + " dbias");
}

TEST(Norm, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const auto& [rows, cols] : kSizes) {
      for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
        for (const Dtype d : kElementTypes) {
          for (const bool accumulate : {false, true}) {
            check({.kind = kind, .rows = rows, .cols = cols}, d, d, accumulate, isa);
            check({.kind = kind, .rows = rows, .cols = cols}, d, wide(d), accumulate, isa);
          }
        }
      }
    }
  });
}

TEST(Norm, BackwardMayOverwriteItsGradient) {
  const NormShape s = {.kind = NormKind::layernorm, .rows = 3, .cols = 37};
  for (const Dtype d : kElementTypes) {
    const Values x = random_tensor(d, 3 * 37, 1);
    const Values gain = random_tensor(d, 37, 2);
    Values y(d, x.size()), mean(wide(d), 3), rstd(wide(d), 3), dx(d, x.size());
    norm_forward(s, x.tensor(), gain.tensor(), {}, y.tensor(), mean.tensor(), rstd.tensor());
    Values dy = random_tensor(d, 3 * 37, 3);
    norm_backward_input(s, x.tensor(), gain.tensor(), dy.tensor(), mean.tensor(), rstd.tensor(), {}, dx.tensor());
    norm_backward_input(s, x.tensor(), gain.tensor(), dy.tensor(), mean.tensor(), rstd.tensor(), {}, dy.tensor());
    EXPECT_TRUE(dy.same_bits(Values(d, dx.doubles())));
  }
}

// x = (1, 3): mean 2, variance 1, so n = (-1, 1) / sqrt(1 + eps); with rmsnorm the mean square is 5.
TEST(Norm, ByHand) {
  const Values x(Dtype::fp64, {1, 3});
  const Values gain(Dtype::fp64, {2, 4});
  const Values bias(Dtype::fp64, {10, 20});
  Values y(Dtype::fp64, 2), mean(Dtype::fp64, 1), rstd(Dtype::fp64, 1);
  norm_forward({.rows = 1, .cols = 2, .epsilon = 0.0}, x.tensor(), gain.tensor(), bias.tensor(), y.tensor(),
               mean.tensor(), rstd.tensor());
  EXPECT_EQ(y.doubles(), (std::vector<double>{8, 24}));
  norm_forward({.kind = NormKind::rmsnorm, .rows = 1, .cols = 2, .epsilon = 0.0}, x.tensor(), gain.tensor(), {},
               y.tensor(), {}, rstd.tensor());
  EXPECT_DOUBLE_EQ(y.get(0), 2.0 / std::sqrt(5.0));
  EXPECT_DOUBLE_EQ(y.get(1), 12.0 / std::sqrt(5.0));
}

}  // namespace
}  // namespace foretrain::kernels
