#include "kernels/arguments.h"

#include "base/error.h"
#include "kernels/launch.h"

namespace foretrain::kernels {

void check_element(const char* op, Dtype d) {
  CHECK(d == Dtype::fp64 || d == Dtype::fp32 || d == Dtype::bf16 || d == Dtype::fp16,
        "{}: element type {}; fp64, fp32, bf16 and fp16 exist", op, name(d));
}

void check_element_or_wide(const char* op, Dtype element, std::initializer_list<Dtype> types) {
  for (const Dtype d : types) {
    CHECK(d == element || d == wide(element), "{}: operand of type {}; with {} elements it is {} or {}", op, name(d),
          name(element), name(element), name(wide(element)));
  }
}

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

namespace arguments {

namespace {

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

void check_latent_heads(const char* op, const LatentHeadsShape& s, Dtype qkv, std::initializer_list<Dtype> others) {
  check_sizes(op, {s.batch, s.seq, s.heads, s.nope_dim, s.rope_dim, s.v_dim});
  CHECK(s.rope_dim % 2 == 0, "{}: {} rotated columns; an even number", op, s.rope_dim);
  check_same(op, qkv, others);
}

// All fp64, or any mix of the others.
void check_product(const char* op, Dtype first, std::initializer_list<Dtype> others) {
  check_element(op, first);
  for (const Dtype d : others) {
    check_element(op, d);
    CHECK(wide(d) == wide(first), "{}: {} beside {}; all are fp64, or none", op, name(d), name(first));
  }
}

void check_epilogue(const char* op, const MatmulShape& s, Dtype x, Dtype c) {
  check_same(op, c, {x});
  CHECK(s.batch == 1 && (s.ldc == 0 || s.ldc == s.n), "{}: {} matrices with rows {} apart; one, of dense rows", op,
        s.batch, s.ldc);
}

// Places are counted in 32 bits.
void check_code(const char* op, const Code& code, Dtype element) {
  check_element(op, element);
  check_wide(op, element, {code.dtype});
  CHECK(code.elements >= 0 && code.kept >= 0 && code.kept <= code.elements && code.elements <= UINT32_MAX,
        "{}: {} kept of {} values", op, code.kept, code.elements);
}

}  // namespace

void matmul(const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c, bool) {
  check_sizes("matmul", {s.m, s.n, s.k, s.lda, s.ldb, s.ldc, s.batch});
  check_product("matmul", c.dtype, {stored_type(a.dtype), stored_type(b.dtype), present(bias, c.dtype)});
}

void matmul_gelu(const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor x, Tensor y) {
  arguments::matmul(s, a, b, bias, x, false);
  check_epilogue("matmul_gelu", s, x.dtype, y.dtype);
}

void matmul_gelu_backward(const MatmulShape& s, ConstTensor a, ConstTensor b, ConstTensor x, Tensor dx) {
  arguments::matmul(s, a, b, {}, dx, false);
  check_epilogue("matmul_gelu_backward", s, x.dtype, dx.dtype);
}

void norm_forward(const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor bias, Tensor y, Tensor mean,
                  Tensor rstd) {
  check_same("norm_forward", x.dtype, {y.dtype});
  check_element_or_wide("norm_forward", x.dtype, {gain.dtype});
  CHECK(!bias || (bias.dtype == gain.dtype && s.kind == NormKind::layernorm),
        "norm_forward: bias of type {}; it has gain's type {}, and rmsnorm has none", name(bias.dtype),
        name(gain.dtype));
  check_norm("norm_forward", s, mean, rstd, x.dtype);
}

void norm_backward_input(const NormShape& s, ConstTensor x, ConstTensor gain, ConstTensor dy, ConstTensor mean,
                         ConstTensor rstd, ConstTensor base, Tensor dx) {
  check_same("norm_backward_input", x.dtype, {dy.dtype, dx.dtype, present(base, x.dtype)});
  check_element_or_wide("norm_backward_input", x.dtype, {gain.dtype});
  check_norm("norm_backward_input", s, mean, rstd, x.dtype);
  CHECK(!base || dx.data != dy.data, "norm_backward_input: dx is dy, and cannot be added to at the same time");
}

void norm_backward_weight(const NormShape& s, ConstTensor x, ConstTensor dy, ConstTensor mean, ConstTensor rstd,
                          Tensor dgain, Tensor dbias, bool) {
  check_same("norm_backward_weight", x.dtype, {dy.dtype});
  check_norm("norm_backward_weight", s, mean, rstd, x.dtype);
  check_wide("norm_backward_weight", x.dtype, {dgain.dtype, present(dbias, dgain.dtype)});
}

void head_norm_forward(const HeadNormShape& s, ConstTensor q_gain, ConstTensor k_gain, Tensor qkv, Tensor raw) {
  check_same("head_norm_forward", qkv.dtype, {raw.dtype});
  check_element_or_wide("head_norm_forward", qkv.dtype, {q_gain.dtype, k_gain.dtype});
  check_sizes("head_norm_forward", {s.rows, s.heads, s.kv_heads, s.head_dim});
}

void head_norm_backward_input(const HeadNormShape& s, ConstTensor raw, ConstTensor q_gain, ConstTensor k_gain,
                              Tensor dqkv) {
  check_same("head_norm_backward_input", raw.dtype, {dqkv.dtype});
  check_element_or_wide("head_norm_backward_input", raw.dtype, {q_gain.dtype, k_gain.dtype});
  check_sizes("head_norm_backward_input", {s.rows, s.heads, s.kv_heads, s.head_dim});
}

void head_norm_backward_weight(const HeadNormShape& s, ConstTensor raw, ConstTensor dqkv, Tensor dq_gain,
                               Tensor dk_gain) {
  check_same("head_norm_backward_weight", raw.dtype, {dqkv.dtype});
  check_wide("head_norm_backward_weight", raw.dtype, {dq_gain.dtype, dk_gain.dtype});
  check_sizes("head_norm_backward_weight", {s.rows, s.heads, s.kv_heads, s.head_dim});
}

void activation_forward(Activation, std::int64_t rows, std::int64_t cols, ConstTensor x, Tensor y) {
  check_same("activation_forward", x.dtype, {y.dtype});
  check_sizes("activation_forward", {rows, cols});
}

void activation_backward(Activation, std::int64_t rows, std::int64_t cols, ConstTensor x, ConstTensor dy, Tensor dx) {
  check_same("activation_backward", x.dtype, {dy.dtype, dx.dtype});
  check_sizes("activation_backward", {rows, cols});
}

void residual_add(std::int64_t rows, std::int64_t cols, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor y) {
  check_same("residual_add", a.dtype, {b.dtype, y.dtype});
  check_element_or_wide("residual_add", a.dtype, {present(bias, a.dtype)});
  check_sizes("residual_add", {rows, cols});
}

void bias_gradient(std::int64_t rows, std::int64_t cols, ConstTensor dy, Tensor db, bool) {
  check_element("bias_gradient", dy.dtype);
  check_wide("bias_gradient", dy.dtype, {db.dtype});
  check_sizes("bias_gradient", {rows, cols});
}

void fill(Tensor x, std::int64_t n, double) {
  check_element("fill", x.dtype);
  check_sizes("fill", {n});
}

void cast(ConstTensor src, Tensor dst, std::int64_t n) {
  check_element("cast", src.dtype);
  check_element("cast", dst.dtype);
  check_sizes("cast", {n});
}

void add(ConstTensor src, Tensor dst, std::int64_t n) {
  check_element("add", src.dtype);
  check_element_or_wide("add", src.dtype, {dst.dtype});
  check_sizes("add", {n});
}

void sum_in_order(std::span<const ConstTensor> sources, Tensor dst, std::span<const Tensor> copies, std::int64_t n) {
  CHECK(!sources.empty(), "sum_in_order: no sources; at least one is needed");
  check_element("sum_in_order", dst.dtype);
  const auto check_alike = [&](Dtype d) {
    CHECK(d == dst.dtype, "sum_in_order: operands of types {} and {}; they share one", name(dst.dtype), name(d));
  };
  for (const ConstTensor& source : sources) {
    check_alike(source.dtype);
  }
  for (const Tensor& copy : copies) {
    check_alike(copy.dtype);
  }
  check_sizes("sum_in_order", {n});
}

void encode(const Code& code, ConstTensor x, Tensor residual, void*) {
  check_code("encode", code, x.dtype);
  check_wide("encode", x.dtype, {residual.dtype});
}

void decode(const Code& code, std::int64_t parts, const void*, Tensor x) {
  check_code("decode", code, x.dtype);
  check_sizes("decode", {parts});
}

void rotary_forward(const AttentionShape& s, std::int64_t rotary_dim, const RotaryFrequencies&, std::int64_t,
                    Tensor qkv) {
  check_rotary("rotary_forward", s, rotary_dim, qkv.dtype);
}

void rotary_backward(const AttentionShape& s, std::int64_t rotary_dim, const RotaryFrequencies&, std::int64_t,
                     Tensor dqkv) {
  check_rotary("rotary_backward", s, rotary_dim, dqkv.dtype);
}

void attention_forward(const AttentionShape& s, ConstTensor qkv, Tensor o, Tensor lse) {
  check_attention("attention_forward", s, qkv.dtype, {});
  check_same("attention_forward", qkv.dtype, {o.dtype});
  check_wide("attention_forward", qkv.dtype, {lse.dtype});
}

void attention_backward(const AttentionShape& s, ConstTensor qkv, ConstTensor o, ConstTensor lse, ConstTensor d_o,
                        Tensor dqkv) {
  check_attention("attention_backward", s, qkv.dtype, {});
  check_same("attention_backward", qkv.dtype, {o.dtype, d_o.dtype, dqkv.dtype});
  check_wide("attention_backward", qkv.dtype, {lse.dtype});
}

void attention_scale_mask(const AttentionShape& s, Tensor scores) {
  check_attention("attention_scale_mask", s, scores.dtype, {});
}

void attention_softmax(const AttentionShape& s, ConstTensor scores, Tensor p) {
  check_attention("attention_softmax", s, scores.dtype, {});
  CHECK(wide(p.dtype) == wide(scores.dtype), "attention_softmax: {} from {}", name(p.dtype), name(scores.dtype));
}

void attention_scale_mask_softmax(const AttentionShape& s, ConstTensor scores, Tensor p) {
  check_attention("attention_scale_mask_softmax", s, scores.dtype, {});
  CHECK(wide(p.dtype) == wide(scores.dtype), "attention_scale_mask_softmax: {} from {}", name(p.dtype),
        name(scores.dtype));
}

void attention_softmax_backward(const AttentionShape& s, ConstTensor p, ConstTensor dp, Tensor ds) {
  check_attention("attention_softmax_backward", s, p.dtype, {});
  check_same("attention_softmax_backward", dp.dtype, {ds.dtype});
  CHECK(wide(p.dtype) == wide(dp.dtype), "attention_softmax_backward: {} beside {}", name(p.dtype), name(dp.dtype));
}

void attention_scale_mask_backward(const AttentionShape& s, Tensor ds) {
  check_attention("attention_scale_mask_backward", s, ds.dtype, {});
}

void attention_scale_mask_softmax_backward(const AttentionShape& s, ConstTensor p, ConstTensor dp, Tensor ds) {
  check_attention("attention_scale_mask_softmax_backward", s, p.dtype, {});
  check_same("attention_scale_mask_softmax_backward", dp.dtype, {ds.dtype});
  CHECK(wide(p.dtype) == wide(dp.dtype), "attention_scale_mask_softmax_backward: {} beside {}", name(p.dtype),
        name(dp.dtype));
}

void copy_matrix(std::int64_t rows, std::int64_t cols, ConstTensor src, std::int64_t, Tensor dst, std::int64_t) {
  CHECK(src.dtype == dst.dtype, "copy_matrix: {} to {}; they share one type", name(src.dtype), name(dst.dtype));
  check_sizes("copy_matrix", {rows, cols});
}

void latent_heads_forward(const LatentHeadsShape& s, const RotaryFrequencies&, ConstTensor q, ConstTensor kv,
                          ConstTensor k_rope, Tensor qkv) {
  check_latent_heads("latent_heads_forward", s, qkv.dtype, {q.dtype, kv.dtype, k_rope.dtype});
}

void latent_heads_backward(const LatentHeadsShape& s, const RotaryFrequencies&, ConstTensor dqkv, Tensor dq, Tensor dkv,
                           Tensor dk_rope) {
  check_latent_heads("latent_heads_backward", s, dqkv.dtype, {dq.dtype, dkv.dtype, dk_rope.dtype});
}

void embedding_forward(const EmbeddingShape& s, const std::int32_t*, ConstTensor wte, ConstTensor wpe, Tensor out) {
  check_element("embedding_forward", out.dtype);
  check_element_or_wide("embedding_forward", out.dtype, {wte.dtype});
  CHECK(!wpe || wpe.dtype == wte.dtype, "embedding_forward: tables of types {} and {}; they share one", name(wte.dtype),
        name(wpe.dtype));
  check_sizes("embedding_forward", {s.tokens, s.seq, s.cols, s.vocab_rows});
  CHECK(s.tokens == 0 || s.seq > 0, "embedding_forward: {} tokens in sequences of {}", s.tokens, s.seq);
}

void embedding_backward(const EmbeddingShape& s, const std::int32_t*, ConstTensor dout, Tensor dwte, Tensor dwpe) {
  check_element("embedding_backward", dout.dtype);
  check_wide("embedding_backward", dout.dtype, {present(dwte, wide(dout.dtype)), present(dwpe, wide(dout.dtype))});
  check_sizes("embedding_backward", {s.tokens, s.seq, s.cols, s.vocab_rows});
  CHECK(s.tokens == 0 || s.seq > 0, "embedding_backward: {} tokens in sequences of {}", s.tokens, s.seq);
}

void cross_entropy_stats(const CrossEntropyShape& s, ConstTensor logits, const std::int32_t*, Tensor stats) {
  check_element("cross_entropy_stats", logits.dtype);
  check_wide("cross_entropy_stats", logits.dtype, {stats.dtype});
  check_sizes("cross_entropy_stats", {s.rows, s.valid, s.cols - s.valid});
}

void cross_entropy_combine(std::int64_t rows, std::int64_t parts, ConstTensor stats, double, double*, bool,
                           Tensor row_stats) {
  check_same("cross_entropy_combine", stats.dtype, {wide(stats.dtype), row_stats.dtype});
  check_sizes("cross_entropy_combine", {rows, parts});
}

void cross_entropy_backward(const CrossEntropyShape& s, ConstTensor logits, const std::int32_t*, ConstTensor row_stats,
                            double, Tensor gradient, const double*) {
  check_element("cross_entropy_backward", logits.dtype);
  check_same("cross_entropy_backward", logits.dtype, {gradient.dtype});
  check_wide("cross_entropy_backward", logits.dtype, {row_stats.dtype});
  check_sizes("cross_entropy_backward", {s.rows, s.valid, s.cols - s.valid});
}

void output_loss_forward(OutputLoss, std::int64_t n, ConstTensor y, ConstTensor target, double, double*) {
  check_element("output_loss_forward", y.dtype);
  check_same("output_loss_forward", y.dtype, {target.dtype});
  check_sizes("output_loss_forward", {n});
}

void output_loss_backward(OutputLoss, std::int64_t n, ConstTensor y, ConstTensor target, double, Tensor dy,
                          const double*) {
  check_element("output_loss_backward", y.dtype);
  check_same("output_loss_backward", y.dtype, {target.dtype, dy.dtype});
  check_sizes("output_loss_backward", {n});
}

void squared_norm(ConstTensor x, std::int64_t n, double*, bool) {
  check_element("squared_norm", x.dtype);
  check_sizes("squared_norm", {n});
}

void outer_step(const OuterStep& s, std::int64_t n, Tensor weights, Tensor anchor, Tensor momentum, Tensor copy) {
  check_element("outer_step", weights.dtype);
  check_wide("outer_step", weights.dtype,
             {present(anchor, wide(weights.dtype)), present(momentum, wide(weights.dtype))});
  check_sizes("outer_step", {n});
  CHECK(s.replicas >= 1, "outer_step: the mean of {}", s.replicas);
  CHECK(n == 0 || (static_cast<bool>(anchor) == (s.kind != OuterKind::average) &&
                   static_cast<bool>(momentum) == (s.kind == OuterKind::nesterov)),
        "outer_step: an average has no anchor, and nesterov alone has a momentum");
  CHECK(!copy || copy.dtype == Dtype::bf16 || copy.dtype == Dtype::fp16,
        "outer_step: a copy of type {}; it is bf16 or fp16", name(copy.dtype));
}

void optimizer_step(const OptimizerStep& step, std::int64_t n, ConstTensor gradient, const double*, Tensor parameter,
                    Tensor m, Tensor v, Tensor copy) {
  const Dtype p = parameter.dtype;
  const Dtype w = wide(p);
  CHECK(p == Dtype::fp64 || p == Dtype::fp32 || p == Dtype::bf16,
        "optimizer_step: parameter of type {}; fp64, fp32 and bf16 exist", name(p));
  CHECK(step.kind != OptimizerKind::lamb, "optimizer_step: lamb is lamb_update and lamb_step");
  CHECK((!has_m(step.kind) || m.dtype == w) && (!has_v(step.kind) || v.dtype == w),
        "optimizer_step: moments of a parameter of type {} are {}", name(p), name(w));
  CHECK(gradient.dtype == w || (w == Dtype::fp32 && gradient.dtype == Dtype::bf16),
        "optimizer_step: gradient of type {} for a parameter of type {}", name(gradient.dtype), name(p));
  CHECK(!copy || (p == Dtype::fp32 && (copy.dtype == Dtype::bf16 || copy.dtype == Dtype::fp16)),
        "optimizer_step: copy of type {}; bf16 or fp16 beside fp32", name(copy.dtype));
  CHECK(step.step >= 1, "optimizer_step: step {}; the first is 1", step.step);
  check_sizes("optimizer_step", {n});
}

void lamb_update(const OptimizerStep& step, std::int64_t n, Tensor gradient, const double*, ConstTensor parameter,
                 Tensor m, Tensor v) {
  const Dtype p = parameter.dtype;
  CHECK(p == Dtype::fp64 || p == Dtype::fp32, "lamb_update: parameter of type {}; fp64 and fp32 exist", name(p));
  check_same("lamb_update", p, {gradient.dtype, m.dtype, v.dtype});
  CHECK(step.step >= 1, "lamb_update: step {}; the first is 1", step.step);
  check_sizes("lamb_update", {n});
}

void lamb_step(std::int64_t n, double, ConstTensor update, const double*, const double*, Tensor parameter,
               Tensor copy) {
  const Dtype p = parameter.dtype;
  CHECK(p == Dtype::fp64 || p == Dtype::fp32, "lamb_step: parameter of type {}; fp64 and fp32 exist", name(p));
  check_same("lamb_step", p, {update.dtype});
  CHECK(!copy || (p == Dtype::fp32 && (copy.dtype == Dtype::bf16 || copy.dtype == Dtype::fp16)),
        "lamb_step: copy of type {}; bf16 or fp16 beside fp32", name(copy.dtype));
  check_sizes("lamb_step", {n});
}

void init_normal(const InitShape& s, double, Tensor x) {
  check_element("init_normal", x.dtype);
  check_sizes("init_normal", {s.rows, s.cols, s.row_offset, s.col_offset, s.global_cols});
}

void init_uniform(const InitShape& s, double, double, Tensor x) {
  check_element("init_uniform", x.dtype);
  check_sizes("init_uniform", {s.rows, s.cols, s.row_offset, s.col_offset, s.global_cols});
}

}  // namespace arguments

}  // namespace foretrain::kernels
