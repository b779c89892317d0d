// Every backward launcher in fp64 against central differences of its forward launcher: with random weights w,
// d/dx sum(w * f(x)) is what the backward gives for dy = w.
#include <gtest/gtest.h>

#include "kernels/reference.h"
#include "tests/kernels/values.h"

namespace foretrain::kernels {
namespace {

using Vector = std::vector<double>;

Tensor as_tensor(Vector& x) {
  return {x.data(), Dtype::fp64};
}
ConstTensor as_tensor(const Vector& x) {
  return {x.data(), Dtype::fp64};
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

// Compares `gradient` with differences of sum(w * f(x)), to 1e-6 of the largest gradient.
void expect_gradient(const Vector& x, const Vector& w, const Vector& gradient,
                     const std::function<Vector(const Vector&)>& f, const std::string& what) {
  double largest = 0.0;
  for (const double g : gradient) {
    largest = std::max(largest, std::abs(g));
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double h = 1e-5 * std::max(1.0, std::abs(x[i]));
    Vector up = x;
    Vector down = x;
    up[i] += h;
    down[i] -= h;
    const double difference = (dot(w, f(up)) - dot(w, f(down))) / (up[i] - down[i]);
    EXPECT_NEAR(gradient[i], difference, 1e-6 * std::max(largest, std::abs(difference))) << what << " at " << i;
  }
}

TEST(Gradients, Linear) {
  const std::int64_t rows = 5, in = 7, out = 3;
  const Vector x = random_values(35, 1), w = random_values(21, 2), bias = random_values(3, 3),
               dy = random_values(15, 4);
  const auto forward = [&](const Vector& a, const Vector& b, const Vector& c) {
    Vector y(15);
    matmul(MatmulShape::linear(rows, in, out), as_tensor(a), as_tensor(b), as_tensor(c), as_tensor(y), false);
    return y;
  };
  Vector dx(35), dw(21), db(3);
  matmul(MatmulShape::linear_backward_input(rows, in, out), as_tensor(dy), as_tensor(w), {}, as_tensor(dx), false);
  matmul(MatmulShape::linear_backward_weight(rows, in, out), as_tensor(dy), as_tensor(x), {}, as_tensor(dw), false);
  bias_gradient(rows, out, as_tensor(dy), as_tensor(db), false);
  expect_gradient(
      x, dy, dx, [&](const Vector& v) { return forward(v, w, bias); }, "x");
  expect_gradient(
      w, dy, dw, [&](const Vector& v) { return forward(x, v, bias); }, "w");
  expect_gradient(
      bias, dy, db, [&](const Vector& v) { return forward(x, w, v); }, "bias");
}

TEST(Gradients, Norm) {
  for (const NormKind kind : {NormKind::layernorm, NormKind::rmsnorm}) {
    for (const auto& [rows, cols] : std::vector<std::array<std::int64_t, 2>>{{1, 2}, {3, 13}}) {
      const NormShape s = {.kind = kind, .rows = rows, .cols = cols};
      const bool layernorm = kind == NormKind::layernorm;
      const auto n = static_cast<std::size_t>(rows * cols);
      const Vector x = random_values(n, 1, 2.0), dy = random_values(n, 2);
      const Vector gain = random_values(static_cast<std::size_t>(cols), 3);
      const Vector bias = random_values(static_cast<std::size_t>(cols), 4);
      Vector mean(static_cast<std::size_t>(rows)), rstd(static_cast<std::size_t>(rows));
      const auto forward = [&](const Vector& a, const Vector& g, const Vector& b) {
        Vector y(n);
        norm_forward(s, as_tensor(a), as_tensor(g), layernorm ? as_tensor(b) : ConstTensor{}, as_tensor(y),
                     as_tensor(mean), as_tensor(rstd));
        return y;
      };
      forward(x, gain, bias);
      Vector dx(n), dgain(gain.size()), dbias(gain.size());
      norm_backward_input(s, as_tensor(x), as_tensor(gain), as_tensor(dy), as_tensor(mean), as_tensor(rstd), {},
                          as_tensor(dx));
      norm_backward_weight(s, as_tensor(x), as_tensor(dy), as_tensor(mean), as_tensor(rstd), as_tensor(dgain),
                           layernorm ? as_tensor(dbias) : Tensor{}, false);
      expect_gradient(
          x, dy, dx, [&](const Vector& v) { return forward(v, gain, bias); }, "x");
      expect_gradient(
          gain, dy, dgain, [&](const Vector& v) { return forward(x, v, bias); }, "gain");
      if (layernorm) {
        expect_gradient(
            bias, dy, dbias, [&](const Vector& v) { return forward(x, gain, v); }, "bias");
      }
    }
  }
}

TEST(Gradients, OutputLoss) {
  for (const OutputLoss kind : {OutputLoss::squared_error, OutputLoss::binary_cross_entropy}) {
    const Vector y = random_values(33, 1, 4.0), target = random_values(33, 2);
    Vector dy(33);
    output_loss_backward(kind, 33, as_tensor(y), as_tensor(target), 0.25, as_tensor(dy));
    expect_gradient(
        y, {1.0}, dy,
        [&](const Vector& v) {
          Vector loss(1);
          output_loss_forward(kind, 33, as_tensor(v), as_tensor(target), 0.25, loss.data());
          return loss;
        },
        "loss " + std::to_string(static_cast<int>(kind)));
  }
}

TEST(Gradients, Activation) {
  for (const Activation kind :
       {Activation::gelu, Activation::relu, Activation::swiglu, Activation::geglu, Activation::gelu_erf,
        Activation::swiglu_clamped, Activation::sigmoid, Activation::tanh}) {
    const std::int64_t rows = 3, cols = 11;
    const Vector x = random_values(is_gated(kind) ? 66 : 33, 1, kind == Activation::swiglu_clamped ? 12.0 : 4.0),
                 dy = random_values(33, 2);
    Vector dx(x.size());
    activation_backward(kind, rows, cols, as_tensor(x), as_tensor(dy), as_tensor(dx));
    expect_gradient(
        x, dy, dx,
        [&](const Vector& v) {
          Vector y(33);
          activation_forward(kind, rows, cols, as_tensor(v), as_tensor(y));
          return y;
        },
        "activation " + std::to_string(static_cast<int>(kind)));
  }
}

TEST(Gradients, HeadNorm) {
  const HeadNormShape s = {.rows = 3, .heads = 2, .kv_heads = 1, .head_dim = 5};
  const auto n = static_cast<std::size_t>(s.rows * s.qkv_cols());
  const Vector x = random_values(n, 1), dy = random_values(n, 2), q_gain = random_values(5, 3),
               k_gain = random_values(5, 4);
  Vector raw(static_cast<std::size_t>(s.rows * s.raw_cols()));
  const auto forward = [&](const Vector& v, const Vector& q, const Vector& k) {
    Vector y = v;
    head_norm_forward(s, as_tensor(q), as_tensor(k), as_tensor(y), as_tensor(raw));
    return y;
  };
  forward(x, q_gain, k_gain);
  Vector dx = dy, dq(5), dk(5);
  head_norm_backward_weight(s, as_tensor(raw), as_tensor(dx), as_tensor(dq), as_tensor(dk));
  head_norm_backward_input(s, as_tensor(raw), as_tensor(q_gain), as_tensor(k_gain), as_tensor(dx));
  expect_gradient(
      x, dy, dx, [&](const Vector& v) { return forward(v, q_gain, k_gain); }, "x");
  expect_gradient(
      q_gain, dy, dq, [&](const Vector& v) { return forward(x, v, k_gain); }, "q_gain");
  expect_gradient(
      k_gain, dy, dk, [&](const Vector& v) { return forward(x, q_gain, v); }, "k_gain");
}

TEST(Gradients, LatentHeads) {
  const LatentHeadsShape s = {.batch = 2, .seq = 3, .heads = 2, .nope_dim = 3, .rope_dim = 4, .v_dim = 5};
  const auto of = [&](std::int64_t cols) { return static_cast<std::size_t>(s.tokens() * cols); };
  const Vector q = random_values(of(s.q_cols()), 1), kv = random_values(of(s.kv_cols()), 2);
  const Vector k_rope = random_values(of(s.rope_dim), 3), dy = random_values(of(s.qkv_cols()), 4);
  const auto forward = [&](const Vector& a, const Vector& b, const Vector& c) {
    Vector y(of(s.qkv_cols()));
    latent_heads_forward(s, 100.0, as_tensor(a), as_tensor(b), as_tensor(c), as_tensor(y));
    return y;
  };
  Vector dq(q.size()), dkv(kv.size()), dk_rope(k_rope.size());
  latent_heads_backward(s, 100.0, as_tensor(dy), as_tensor(dq), as_tensor(dkv), as_tensor(dk_rope));
  expect_gradient(
      q, dy, dq, [&](const Vector& v) { return forward(v, kv, k_rope); }, "q");
  expect_gradient(
      kv, dy, dkv, [&](const Vector& v) { return forward(q, v, k_rope); }, "kv");
  expect_gradient(
      k_rope, dy, dk_rope, [&](const Vector& v) { return forward(q, kv, v); }, "k_rope");
}

TEST(Gradients, Rotary) {
  const AttentionShape s = {.batch = 1, .seq = 5, .heads = 2, .kv_heads = 1, .head_dim = 6};
  const auto n = static_cast<std::size_t>(s.tokens() * s.qkv_cols());
  const Vector x = random_values(n, 1), dy = random_values(n, 2);
  Vector dx = dy;
  rotary_backward(s, 4, 100.0, 3, as_tensor(dx));
  expect_gradient(
      x, dy, dx,
      [&](const Vector& v) {
        Vector y = v;
        rotary_forward(s, 4, 100.0, 3, as_tensor(y));
        return y;
      },
      "rotary");
}

TEST(Gradients, FlashAttention) {
  for (const auto& [causal, window, document] : {std::tuple{true, 0, 0}, {false, 0, 0}, {true, 4, 0}, {true, 3, 5}}) {
    for (const std::int64_t seq : {1, 5, 13, 100}) {
      AttentionShape s = {.batch = 1, .seq = seq, .heads = 2, .kv_heads = 1, .head_dim = 3, .causal = causal};
      s.window = window;
      s.document = document;
      s.heads = seq == 100 ? 1 : 2;
      const auto n = static_cast<std::size_t>(s.tokens() * s.qkv_cols());
      const auto n_out = static_cast<std::size_t>(s.tokens() * s.out_cols());
      const Vector x = random_values(n, 1, 2.0), d_o = random_values(n_out, 2);
      Vector o(n_out), lse(static_cast<std::size_t>(s.heads * seq)), dqkv(n);
      attention_forward(s, as_tensor(x), as_tensor(o), as_tensor(lse));
      attention_backward(s, as_tensor(x), as_tensor(o), as_tensor(lse), as_tensor(d_o), as_tensor(dqkv));
      expect_gradient(
          x, d_o, dqkv,
          [&](const Vector& v) {
            Vector y(n_out);
            attention_forward(s, as_tensor(v), as_tensor(y), as_tensor(lse));
            return y;
          },
          "seq " + std::to_string(seq));
    }
  }
}

// Sinks change what flash attention's backward is given, and have a gradient of their own.
TEST(Gradients, AttentionWithSinks) {
  const AttentionShape s = {.batch = 2, .seq = 7, .heads = 4, .kv_heads = 2, .head_dim = 3, .window = 3};
  const auto n_out = static_cast<std::size_t>(s.tokens() * s.out_cols());
  const Vector x = random_values(static_cast<std::size_t>(s.tokens() * s.qkv_cols()), 1, 2.0),
               sinks = random_values(4, 3, 2.0), d_o = random_values(n_out, 2);
  Vector lse(static_cast<std::size_t>(s.batch * s.heads * s.seq));
  const auto forward = [&](const Vector& qkv, const Vector& sink) {
    Vector o(n_out);
    attention_forward(s, as_tensor(qkv), as_tensor(o), as_tensor(lse));
    attention_sinks_forward(s, as_tensor(sink), as_tensor(o), as_tensor(lse));
    return o;
  };
  const Vector o = forward(x, sinks);
  Vector dqkv(x.size()), d_sinks(4);
  attention_backward(s, as_tensor(x), as_tensor(o), as_tensor(lse), as_tensor(d_o), as_tensor(dqkv));
  attention_sinks_backward(s, as_tensor(sinks), as_tensor(o), as_tensor(lse), as_tensor(d_o), as_tensor(d_sinks));
  expect_gradient(
      x, d_o, dqkv, [&](const Vector& v) { return forward(v, sinks); }, "qkv");
  expect_gradient(
      sinks, d_o, d_sinks, [&](const Vector& v) { return forward(x, v); }, "sinks");
}

TEST(Gradients, UnfusedAttention) {
  const AttentionShape s = {.batch = 2, .seq = 7, .heads = 4, .kv_heads = 2, .head_dim = 5, .window = 3};
  const auto n = static_cast<std::size_t>(s.tokens() * s.qkv_cols());
  const auto n_out = static_cast<std::size_t>(s.tokens() * s.out_cols());
  const Vector x = random_values(n, 1, 2.0), d_o = random_values(n_out, 2);
  Vector p(static_cast<std::size_t>(s.score_elements())), dp(p.size());
  const auto forward = [&](const Vector& qkv) {
    Vector o(n_out);
    attention_scores(s, as_tensor(qkv), as_tensor(p));
    attention_scale_mask(s, as_tensor(p));
    attention_softmax(s, as_tensor(p), as_tensor(p));
    attention_context(s, as_tensor(p), as_tensor(qkv), as_tensor(o));
    return o;
  };
  forward(x);
  Vector dqkv(n);
  attention_context_backward(s, as_tensor(p), as_tensor(x), as_tensor(d_o), as_tensor(dp), as_tensor(dqkv));
  attention_softmax_backward(s, as_tensor(p), as_tensor(dp), as_tensor(dp));
  attention_scale_mask_backward(s, as_tensor(dp));
  attention_scores_backward(s, as_tensor(dp), as_tensor(x), as_tensor(dqkv));
  expect_gradient(x, d_o, dqkv, forward, "qkv");
}

TEST(Gradients, Embedding) {
  const EmbeddingShape s = {.tokens = 6, .seq = 3, .cols = 4, .vocab_start = 1, .vocab_rows = 5, .position_offset = 2};
  const std::vector<std::int32_t> ids = {0, 1, 5, 1, 6, 3};
  const Vector wte = random_values(20, 1), wpe = random_values(20, 2), dout = random_values(24, 3);
  const auto forward = [&](const Vector& a, const Vector& b) {
    Vector y(24);
    embedding_forward(s, ids.data(), as_tensor(a), as_tensor(b), as_tensor(y));
    return y;
  };
  Vector dwte(20), dwpe(20);
  embedding_backward(s, ids.data(), as_tensor(dout), as_tensor(dwte), as_tensor(dwpe));
  expect_gradient(
      wte, dout, dwte, [&](const Vector& v) { return forward(v, wpe); }, "wte");
  expect_gradient(
      wpe, dout, dwpe, [&](const Vector& v) { return forward(wte, v); }, "wpe");
}

TEST(Gradients, CrossEntropy) {
  const CrossEntropyShape s = {.rows = 3, .cols = 13, .valid = 11};
  const std::vector<std::int32_t> targets = {0, 10, 4};
  const Vector x = random_values(39, 1, 3.0);
  Vector stats(9), row_stats(6);
  const auto forward = [&](const Vector& v) {
    Vector loss(1);
    cross_entropy_stats(s, as_tensor(v), targets.data(), as_tensor(stats));
    cross_entropy_combine(s.rows, 1, as_tensor(stats), 1.0 / 3.0, loss.data(), false, as_tensor(row_stats));
    return loss;
  };
  forward(x);
  Vector gradient = x;
  cross_entropy_backward(s, as_tensor(gradient), targets.data(), as_tensor(row_stats), 1.0 / 3.0, as_tensor(gradient));
  expect_gradient(x, {1.0}, gradient, forward, "logits");
}

}  // namespace
}  // namespace foretrain::kernels
