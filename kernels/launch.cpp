// The launchers of kernels.h: check the call, then run the build of the op for this processor's instruction set.
#include "kernels/launch.h"

#include <cmath>

#include "base/error.h"
#include "kernels/bf16_library.h"
#include "kernels/simd/ops.h"

namespace foretrain::kernels {

void check_element(const char* op, Dtype d) {
  CHECK(d == Dtype::fp64 || d == Dtype::fp32 || d == Dtype::bf16, "{}: element type {}; fp64, fp32 and bf16 exist", op,
        name(d));
}

void check_element_or_wide(const char* op, Dtype element, std::initializer_list<Dtype> types) {
  for (const Dtype d : types) {
    CHECK(d == element || d == wide(element), "{}: operand of type {}; with {} elements it is {} or {}", op, name(d),
          name(element), name(element), name(wide(element)));
  }
}

void check_sizes(const char* op, std::initializer_list<std::int64_t> sizes) {
  for (const std::int64_t size : sizes) {
    CHECK(size >= 0, "{}: size {}; sizes are not negative", op, size);
  }
}

void check_attention(const char* op, const AttentionShape& s, Dtype qkv, std::initializer_list<Dtype> others) {
  check_element(op, qkv);
  check_element_or_wide(op, qkv, others);
  check_sizes(op, {s.batch, s.seq, s.heads, s.kv_heads, s.head_dim, s.value_dim});
  CHECK(s.heads == 0 || (s.kv_heads > 0 && s.heads % s.kv_heads == 0), "{}: {} heads over {} key/value heads", op,
        s.heads, s.kv_heads);
  CHECK(s.scale >= 0.0, "{}: scale {}; it is positive, or 0 for the default", op, s.scale);
  CHECK(s.window == 0 || (s.window > 0 && s.causal), "{}: window {}; it needs a causal mask", op, s.window);
  CHECK(s.document == 0 || (s.document > 0 && s.causal), "{}: documents of {}; they need a causal mask", op,
        s.document);
}

namespace {

void check_same(const char* op, Dtype element, std::initializer_list<Dtype> types) {
  check_element(op, element);
  for (const Dtype d : types) {
    CHECK(d == element, "{}: operands of types {} and {}; they share one", op, name(element), name(d));
  }
}

void check_wide(const char* op, Dtype element, std::initializer_list<Dtype> types) {
  for (const Dtype d : types) {
    CHECK(d == wide(element), "{}: operand of type {}; with {} elements it is {}", op, name(d), name(element),
          name(wide(element)));
  }
}

// A tensor that may be absent, checked as the op's element type when it is.
Dtype present(ConstTensor t, Dtype otherwise) {
  return t ? t.dtype : otherwise;
}

void check_rotary(const char* op, const AttentionShape& s, std::int64_t rotary_dim, Dtype qkv) {
  check_attention(op, s, qkv, {});
  CHECK(rotary_dim >= 0 && rotary_dim <= s.head_dim && rotary_dim % 2 == 0,
        "{}: {} columns of {}; an even number of a head's columns", op, rotary_dim, s.head_dim);
}

void check_norm(const char* op, const NormShape& s, ConstTensor mean, ConstTensor rstd, Dtype element) {
  check_sizes(op, {s.rows, s.cols});
  check_wide(op, element, {rstd.dtype, s.kind == NormKind::layernorm ? mean.dtype : rstd.dtype});
}

}  // namespace

void matmul(const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c, bool accumulate) {
  check_sizes("matmul", {s.m, s.n, s.k, s.lda, s.ldb, s.ldc, s.batch});
  for (const Dtype d : {a.dtype, b.dtype, c.dtype, present(bias, c.dtype)}) {
    check_element("matmul", d);
    CHECK(wide(d) == wide(c.dtype), "matmul: {} beside {}; all are fp64, or none", name(d), name(c.dtype));
  }
  if (a.dtype == Dtype::bf16 && b.dtype == Dtype::bf16 && s.m > 0 && s.n > 0 && s.k > 0) {
    if (const Bf16Library& library = bf16_library();
        library.matmul != nullptr && library.matmul(s, a, b, bias, c, accumulate)) {
      return;
    }
  }
  table().matmul(s, a, b, bias, c, accumulate);
}

void norm_forward(const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor bias, Tensor y, Tensor mean,
                  Tensor rstd) {
  check_same("norm_forward", x.dtype, {y.dtype});
  check_element_or_wide("norm_forward", x.dtype, {gain.dtype});
  CHECK(!bias || (bias.dtype == gain.dtype && s.kind == NormKind::layernorm),
        "norm_forward: bias of type {}; it has gain's type {}, and rmsnorm has none", name(bias.dtype),
        name(gain.dtype));
  check_norm("norm_forward", s, mean, rstd, x.dtype);
  table().norm_forward(s, x, gain, bias, y, mean, rstd);
}

void norm_backward_input(const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor dy, ConstTensor mean,
                         ConstTensor rstd, ConstTensor base, Tensor dx) {
  check_same("norm_backward_input", x.dtype, {dy.dtype, dx.dtype, present(base, x.dtype)});
  check_element_or_wide("norm_backward_input", x.dtype, {gain.dtype});
  check_norm("norm_backward_input", s, mean, rstd, x.dtype);
  CHECK(!base || dx.data != dy.data, "norm_backward_input: dx is dy, and cannot be added to at the same time");
  table().norm_backward_input(s, x, gain, dy, mean, rstd, base, dx);
}

void norm_backward_weight(const NormShape& s, ConstTensor x, ConstTensor dy, ConstTensor mean, ConstTensor rstd,
                          Tensor dgain, Tensor dbias, bool accumulate) {
  check_same("norm_backward_weight", x.dtype, {dy.dtype});
  check_norm("norm_backward_weight", s, mean, rstd, x.dtype);
  check_wide("norm_backward_weight", x.dtype, {dgain.dtype, present(dbias, dgain.dtype)});
  table().norm_backward_weight(s, x, dy, mean, rstd, dgain, dbias, accumulate);
}

void head_norm_forward(const HeadNormShape& s, ConstTensor q_gain, ConstTensor k_gain, Tensor qkv, Tensor raw) {
  check_same("head_norm_forward", qkv.dtype, {raw.dtype});
  check_element_or_wide("head_norm_forward", qkv.dtype, {q_gain.dtype, k_gain.dtype});
  check_sizes("head_norm_forward", {s.rows, s.heads, s.kv_heads, s.head_dim});
  table().head_norm_forward(s, q_gain, k_gain, qkv, raw);
}

void head_norm_backward_input(const HeadNormShape& s, ConstTensor raw, ConstTensor q_gain, ConstTensor k_gain,
                              Tensor dqkv) {
  check_same("head_norm_backward_input", raw.dtype, {dqkv.dtype});
  check_element_or_wide("head_norm_backward_input", raw.dtype, {q_gain.dtype, k_gain.dtype});
  check_sizes("head_norm_backward_input", {s.rows, s.heads, s.kv_heads, s.head_dim});
  table().head_norm_backward_input(s, raw, q_gain, k_gain, dqkv);
}

void head_norm_backward_weight(const HeadNormShape& s, ConstTensor raw, ConstTensor dqkv, Tensor dq_gain,
                               Tensor dk_gain) {
  check_same("head_norm_backward_weight", raw.dtype, {dqkv.dtype});
  check_wide("head_norm_backward_weight", raw.dtype, {dq_gain.dtype, dk_gain.dtype});
  check_sizes("head_norm_backward_weight", {s.rows, s.heads, s.kv_heads, s.head_dim});
  table().head_norm_backward_weight(s, raw, dqkv, dq_gain, dk_gain);
}

void activation_forward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x, Tensor y) {
  check_same("activation_forward", x.dtype, {y.dtype});
  check_sizes("activation_forward", {rows, cols});
  table().activation_forward(kind, rows, cols, x, y);
}

void activation_backward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x, ConstTensor dy,
                         Tensor dx) {
  check_same("activation_backward", x.dtype, {dy.dtype, dx.dtype});
  check_sizes("activation_backward", {rows, cols});
  table().activation_backward(kind, rows, cols, x, dy, dx);
}

void residual_add(std::int64_t rows, std::int64_t cols, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor y) {
  check_same("residual_add", a.dtype, {b.dtype, y.dtype});
  check_element_or_wide("residual_add", a.dtype, {present(bias, a.dtype)});
  check_sizes("residual_add", {rows, cols});
  table().residual_add(rows, cols, a, b, bias, y);
}

void bias_gradient(std::int64_t rows, std::int64_t cols, ConstTensor dy, Tensor db, bool accumulate) {
  check_element("bias_gradient", dy.dtype);
  check_wide("bias_gradient", dy.dtype, {db.dtype});
  check_sizes("bias_gradient", {rows, cols});
  table().bias_gradient(rows, cols, dy, db, accumulate);
}

void fill(Tensor x, std::int64_t n, double value) {
  check_element("fill", x.dtype);
  check_sizes("fill", {n});
  table().fill(x, n, value);
}

void cast(ConstTensor src, Tensor dst, std::int64_t n) {
  check_element("cast", src.dtype);
  check_element("cast", dst.dtype);
  check_sizes("cast", {n});
  table().cast(src, dst, n);
}

void add(ConstTensor src, Tensor dst, std::int64_t n) {
  check_element("add", src.dtype);
  check_element_or_wide("add", src.dtype, {dst.dtype});
  check_sizes("add", {n});
  table().add(src, dst, n);
}

void sum_in_order(std::span<const ConstTensor> sources, Tensor dst, std::span<const Tensor> copies, std::int64_t n) {
  CHECK(!sources.empty(), "sum_in_order: no sources; at least one is needed");
  for (const ConstTensor& source : sources) {
    check_same("sum_in_order", dst.dtype, {source.dtype});
  }
  for (const Tensor& copy : copies) {
    check_same("sum_in_order", dst.dtype, {copy.dtype});
  }
  check_sizes("sum_in_order", {n});
  table().sum_in_order(sources, dst, copies, n);
}

void rotary_forward(const AttentionShape& s, std::int64_t rotary_dim, double base, std::int64_t position_offset,
                    Tensor qkv) {
  check_rotary("rotary_forward", s, rotary_dim, qkv.dtype);
  table().rotary_forward(s, rotary_dim, base, position_offset, qkv);
}

void rotary_backward(const AttentionShape& s, std::int64_t rotary_dim, double base, std::int64_t position_offset,
                     Tensor dqkv) {
  check_rotary("rotary_backward", s, rotary_dim, dqkv.dtype);
  table().rotary_backward(s, rotary_dim, base, position_offset, dqkv);
}

void attention_forward(const AttentionShape& s, ConstTensor qkv, Tensor o, Tensor lse) {
  check_attention("attention_forward", s, qkv.dtype, {});
  check_same("attention_forward", qkv.dtype, {o.dtype});
  check_wide("attention_forward", qkv.dtype, {lse.dtype});
  table().attention_forward(s, qkv, o, lse);
}

void attention_backward(const AttentionShape& s, ConstTensor qkv, ConstTensor o, ConstTensor lse, ConstTensor d_o,
                        Tensor dqkv) {
  check_attention("attention_backward", s, qkv.dtype, {});
  check_same("attention_backward", qkv.dtype, {o.dtype, d_o.dtype, dqkv.dtype});
  check_wide("attention_backward", qkv.dtype, {lse.dtype});
  table().attention_backward(s, qkv, o, lse, d_o, dqkv);
}

void attention_scale_mask(const AttentionShape& s, Tensor scores) {
  check_attention("attention_scale_mask", s, scores.dtype, {});
  table().attention_scale_mask(s, scores);
}

void attention_softmax(const AttentionShape& s, ConstTensor scores, Tensor p) {
  check_attention("attention_softmax", s, scores.dtype, {});
  CHECK(wide(p.dtype) == wide(scores.dtype), "attention_softmax: {} from {}", name(p.dtype), name(scores.dtype));
  table().attention_softmax(s, scores, p);
}

void attention_scale_mask_softmax(const AttentionShape& s, ConstTensor scores, Tensor p) {
  check_attention("attention_scale_mask_softmax", s, scores.dtype, {});
  CHECK(wide(p.dtype) == wide(scores.dtype), "attention_scale_mask_softmax: {} from {}", name(p.dtype),
        name(scores.dtype));
  table().attention_scale_mask_softmax(s, scores, p);
}

void attention_softmax_backward(const AttentionShape& s, ConstTensor p, ConstTensor dp, Tensor ds) {
  check_attention("attention_softmax_backward", s, p.dtype, {});
  check_same("attention_softmax_backward", dp.dtype, {ds.dtype});
  CHECK(wide(p.dtype) == wide(dp.dtype), "attention_softmax_backward: {} beside {}", name(p.dtype), name(dp.dtype));
  table().attention_softmax_backward(s, p, dp, ds);
}

void attention_scale_mask_backward(const AttentionShape& s, Tensor ds) {
  check_attention("attention_scale_mask_backward", s, ds.dtype, {});
  table().attention_scale_mask_backward(s, ds);
}

void attention_scale_mask_softmax_backward(const AttentionShape& s, ConstTensor p, ConstTensor dp, Tensor ds) {
  check_attention("attention_scale_mask_softmax_backward", s, p.dtype, {});
  check_same("attention_scale_mask_softmax_backward", dp.dtype, {ds.dtype});
  CHECK(wide(p.dtype) == wide(dp.dtype), "attention_scale_mask_softmax_backward: {} beside {}", name(p.dtype),
        name(dp.dtype));
  table().attention_scale_mask_softmax_backward(s, p, dp, ds);
}

void embedding_forward(const EmbeddingShape& s, const std::int32_t* ids, ConstTensor wte, ConstTensor wpe, Tensor out) {
  check_element("embedding_forward", out.dtype);
  check_element_or_wide("embedding_forward", out.dtype, {wte.dtype});
  CHECK(!wpe || wpe.dtype == wte.dtype, "embedding_forward: tables of types {} and {}; they share one", name(wte.dtype),
        name(wpe.dtype));
  check_sizes("embedding_forward", {s.tokens, s.seq, s.cols, s.vocab_rows});
  CHECK(s.tokens == 0 || s.seq > 0, "embedding_forward: {} tokens in sequences of {}", s.tokens, s.seq);
  table().embedding_forward(s, ids, wte, wpe, out);
}

void embedding_backward(const EmbeddingShape& s, const std::int32_t* ids, ConstTensor dout, Tensor dwte, Tensor dwpe) {
  check_element("embedding_backward", dout.dtype);
  check_wide("embedding_backward", dout.dtype, {present(dwte, wide(dout.dtype)), present(dwpe, wide(dout.dtype))});
  check_sizes("embedding_backward", {s.tokens, s.seq, s.cols, s.vocab_rows});
  CHECK(s.tokens == 0 || s.seq > 0, "embedding_backward: {} tokens in sequences of {}", s.tokens, s.seq);
  table().embedding_backward(s, ids, dout, dwte, dwpe);
}

void cross_entropy_stats(const CrossEntropyShape& s, ConstTensor logits, const std::int32_t* targets, Tensor stats) {
  check_element("cross_entropy_stats", logits.dtype);
  check_wide("cross_entropy_stats", logits.dtype, {stats.dtype});
  check_sizes("cross_entropy_stats", {s.rows, s.valid, s.cols - s.valid});
  table().cross_entropy_stats(s, logits, targets, stats);
}

void cross_entropy_combine(std::int64_t rows, std::int64_t parts, ConstTensor stats, double scale, double* loss,
                           bool accumulate, Tensor row_stats) {
  check_same("cross_entropy_combine", stats.dtype, {wide(stats.dtype), row_stats.dtype});
  check_sizes("cross_entropy_combine", {rows, parts});
  table().cross_entropy_combine(rows, parts, stats, scale, loss, accumulate, row_stats);
}

void cross_entropy_backward(const CrossEntropyShape& s, ConstTensor logits, const std::int32_t* targets,
                            ConstTensor row_stats, double scale, Tensor gradient) {
  check_element("cross_entropy_backward", logits.dtype);
  check_same("cross_entropy_backward", logits.dtype, {gradient.dtype});
  check_wide("cross_entropy_backward", logits.dtype, {row_stats.dtype});
  check_sizes("cross_entropy_backward", {s.rows, s.valid, s.cols - s.valid});
  table().cross_entropy_backward(s, logits, targets, row_stats, scale, gradient);
}

void squared_norm(ConstTensor x, std::int64_t n, double* sum, bool accumulate) {
  check_element("squared_norm", x.dtype);
  check_sizes("squared_norm", {n});
  table().squared_norm(x, n, sum, accumulate);
}

void clip_coefficient(std::span<const double> sums, double clip, double* norm, double* coefficient) {
  double total = 0.0;
  for (const double sum : sums) {
    total += sum;
  }
  *norm = std::sqrt(total);
  const double ratio = clip / (*norm + 1e-6);
  *coefficient = ratio > 1.0 ? 1.0 : ratio;
}

void optimizer_step(const OptimizerStep& step, std::int64_t n, ConstTensor gradient, const double* coefficient,
                    Tensor parameter, Tensor m, Tensor v, Tensor copy) {
  const bool has_m = step.kind != OptimizerKind::sgd;
  const bool has_v = step.kind == OptimizerKind::adam || step.kind == OptimizerKind::adamw;
  const Dtype p = parameter.dtype;
  CHECK(p == Dtype::fp64 || p == Dtype::fp32, "optimizer_step: parameter of type {}; fp64 and fp32 exist", name(p));
  CHECK((!has_m || m.dtype == p) && (!has_v || v.dtype == p), "optimizer_step: moments have the parameter's type {}",
        name(p));
  CHECK(gradient.dtype == p || (p == Dtype::fp32 && gradient.dtype == Dtype::bf16),
        "optimizer_step: gradient of type {} for a parameter of type {}", name(gradient.dtype), name(p));
  CHECK(!copy || (p == Dtype::fp32 && copy.dtype == Dtype::bf16), "optimizer_step: copy of type {}; bf16 beside fp32",
        name(copy.dtype));
  CHECK(step.step >= 1, "optimizer_step: step {}; the first is 1", step.step);
  check_sizes("optimizer_step", {n});
  table().optimizer_step(step, n, gradient, coefficient, parameter, m, v, copy);
}

void init_normal(const InitShape& s, double standard_deviation, Tensor x) {
  check_element("init_normal", x.dtype);
  check_sizes("init_normal", {s.rows, s.cols, s.row_offset, s.col_offset, s.global_cols});
  table().init_normal(s, standard_deviation, x);
}

void init_uniform(const InitShape& s, double low, double high, Tensor x) {
  check_element("init_uniform", x.dtype);
  check_sizes("init_uniform", {s.rows, s.cols, s.row_offset, s.col_offset, s.global_cols});
  table().init_uniform(s, low, high, x);
}

}  // namespace foretrain::kernels
