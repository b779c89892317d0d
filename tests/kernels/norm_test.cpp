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

// ---- heads of packed qkv --------------------------------------------------------------------------------------------

TEST(HeadNorm, AgainstTheReference) {
  for_instruction_sets([](const std::string& isa) {
    for (const auto& [rows, head_dim] : kSizes) {
      const HeadNormShape s = {.rows = rows, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .epsilon = 1e-6};
      for (const Dtype d : kElementTypes) {
        for (const Dtype p : {d, wide(d)}) {
          const std::string what = isa + " head_dim " + std::to_string(head_dim);
          const Values q_gain = random_tensor(p, head_dim, 1), k_gain = random_tensor(p, head_dim, 2);
          const std::vector<double> wq = q_gain.doubles(), wk = k_gain.doubles();
          Values qkv = random_tensor(d, rows * s.qkv_cols(), 3, 3.0);
          std::vector<double> expected = qkv.doubles();
          Values raw(d, static_cast<std::size_t>(rows * s.raw_cols()));
          std::vector<double> expected_raw(raw.size());
          head_norm_forward(s, q_gain.tensor(), k_gain.tensor(), qkv.tensor(), raw.tensor());
          reference::head_norm_forward(s, wq.data(), wk.data(), expected.data(), expected_raw.data());
          expect_close(qkv, expected, d, 30, what + " y");
          EXPECT_EQ(raw.doubles(), expected_raw) << what;

          Values d_q_gain = random_tensor(wide(d), head_dim, 4), d_k_gain = random_tensor(wide(d), head_dim, 5);
          std::vector<double> edq = d_q_gain.doubles(), edk = d_k_gain.doubles();
          Values dqkv = random_tensor(d, rows * s.qkv_cols(), 6);
          std::vector<double> edqkv = dqkv.doubles();
          head_norm_backward_weight(s, raw.tensor(), dqkv.tensor(), d_q_gain.tensor(), d_k_gain.tensor());
          reference::head_norm_backward_weight(s, expected_raw.data(), edqkv.data(), edq.data(), edk.data());
          expect_close(d_q_gain, edq, d, 100, what + " dq_gain");
          expect_close(d_k_gain, edk, d, 100, what + " dk_gain");
          head_norm_backward_input(s, raw.tensor(), q_gain.tensor(), k_gain.tensor(), dqkv.tensor());
          reference::head_norm_backward_input(s, expected_raw.data(), wq.data(), wk.data(), edqkv.data());
          // One column: what is left of dx is the rounding of what cancels, times 1/|x|.
          expect_close(dqkv, edqkv, d, head_dim == 1 ? 1e5 : 1000, what + " dx");
        }
      }
    }
  });
}

// q = (3, 4): mean square 12.5, so y = q gain / sqrt(12.5); k = (0, 5) the same; v stays.
TEST(HeadNorm, ByHand) {
  const Values q_gain(Dtype::fp64, {1, 2}), k_gain(Dtype::fp64, {7, 1});
  Values qkv(Dtype::fp64, {3, 4, 0, 5, 8, 9}), raw(Dtype::fp64, 4);
  head_norm_forward({.rows = 1, .heads = 1, .kv_heads = 1, .head_dim = 2, .epsilon = 0.0}, q_gain.tensor(),
                    k_gain.tensor(), qkv.tensor(), raw.tensor());
  const double r = std::sqrt(12.5);
  const std::vector<double> expected = {3 / r, 8 / r, 0, 5 / r, 8, 9};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_DOUBLE_EQ(qkv.get(i), expected[i]);
  }
  EXPECT_EQ(raw.doubles(), (std::vector<double>{3, 4, 0, 5}));
}

}  // namespace
}  // namespace foretrain::kernels
