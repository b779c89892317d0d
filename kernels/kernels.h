// The CPU kernels: one launcher per op of the plan graph. This is the whole interface of the room.
//
// Rules of every launcher:
//  * It runs on the calling thread only, is safe to call from many threads at once, and keeps no state but this
//    thread's scratch (see scratch_bytes).
//  * Same inputs, same bits: the result does not depend on alignment, on other threads or on earlier calls. (Another
//    instruction set may round differently.)
//  * Element types: fp64 (arithmetic in fp64), fp32, bf16 and fp16 (these: arithmetic in fp32). "T" below is the op's
//  element
//    type, "W" is wide(T): fp64 for fp64, else fp32. Saved statistics and parameter gradients are W. Parameters (gain,
//    bias, tables) may be T or W.
//  * Matrices are row-major and dense unless the shape carries a leading dimension. Sizes may be 0.
//  * An output may be the same buffer as an input only where the comment says so.
//  * A wrong element type or a negative size is a caller's bug: InternalError.
// The definition of each result is kernels/reference.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/rotary_frequencies.h"
#include "kernels/compression.h"
#include "kernels/moe.h"
#include "kernels/rounding.h"
#include "kernels/tensor.h"

namespace foretrain::kernels {

// ---- matrix product -------------------------------------------------------------------------------------------------

// C[m,n] = op(A)[m,k] * op(B)[k,n]. A is stored [m,k], or [k,m] when transpose_a; B is stored [k,n], or [n,k] when
// transpose_b. Leading dimensions and strides are in elements; a leading dimension of 0 means dense.
struct MatmulShape {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  std::int64_t lda = 0, ldb = 0, ldc = 0;
  std::int64_t batch = 1;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // from one matrix of the batch to the next

  // The three products of a linear layer y[rows,out] = x[rows,in] * w[out,in]^T + bias.
  static MatmulShape linear(std::int64_t rows, std::int64_t in, std::int64_t out) {
    return {.m = rows, .n = out, .k = in, .transpose_b = true};
  }
  // dx[rows,in] = dy[rows,out] * w[out,in]:           a = dy, b = w, c = dx
  static MatmulShape linear_backward_input(std::int64_t rows, std::int64_t in, std::int64_t out) {
    return {.m = rows, .n = in, .k = out};
  }
  // dw[out,in] = dy[rows,out]^T * x[rows,in]:         a = dy, b = x, c = dw
  static MatmulShape linear_backward_weight(std::int64_t rows, std::int64_t in, std::int64_t out) {
    return {.m = out, .n = in, .k = rows, .transpose_a = true};
  }
};

// c = op(a) op(b) (+ bias[n]) (+ c when accumulate). All fp64, or any mix of the others. Products are summed in W
// and rounded to c's type once. a and b may be tf32: fp32, of which a GPU's tensor cores may round the elements first.
// Where no bf16 library takes part (bf16_matmul_backend), the bits of an element depend on its row of a, its column of
// b and k alone: rows and columns computed apart, on other ranks say, are the same.
void matmul(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor c, bool accumulate);

// With Activation::gelu behind, or its backward, in one kernel where the machine has one; shape is of one matrix, and
// c's rows are dense. x and y, x and dx are of one type. x = op(a) op(b) (+ bias), y = gelu(x), of x before or after it
// is rounded.
void matmul_gelu(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor x, Tensor y);
// dx = op(a) op(b), rounded or not, times gelu's slope at x.
void matmul_gelu_backward(const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor x, Tensor dx);

// ---- normalisation --------------------------------------------------------------------------------------------------

enum class NormKind : std::uint8_t { layernorm, rmsnorm };

struct NormShape {
  NormKind kind = NormKind::layernorm;
  std::int64_t rows = 0, cols = 0;
  double epsilon = 1e-5;  // added to the variance (layernorm) or the mean square (rmsnorm)
};

// y = (x - mean) * rstd * gain + bias (layernorm; bias may be absent), or x * rstd * gain (rmsnorm; no bias, no mean).
// x, y [rows,cols] T; gain, bias [cols]; mean, rstd [rows] W. mean is written by layernorm only.
void norm_forward(const NormShape& shape, ConstTensor x, ConstTensor gain, ConstTensor bias, Tensor y, Tensor mean,
                  Tensor rstd);
// dx = [base +] gradient of x; base may be absent, and may be dx. dx may be dy where it is not base.
void norm_backward_input(const NormShape& shape, ConstTensor x, ConstTensor gain, ConstTensor dy, ConstTensor mean,
                         ConstTensor rstd, ConstTensor base, Tensor dx);
// dgain, dbias [cols] W (+)= column sums; dbias may be absent.
void norm_backward_weight(const NormShape& shape, ConstTensor x, ConstTensor dy, ConstTensor mean, ConstTensor rstd,
                          Tensor dgain, Tensor dbias, bool accumulate);

// Of each head of q and k within packed qkv: x * gain / rms(x), in place, with one gain [head_dim] for all query heads
// and one for all key heads. `raw` [rows, (heads + kv_heads) * head_dim] receives q and k as they were, for the
// backward.
struct HeadNormShape {
  std::int64_t rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  double epsilon = 1e-6;

  constexpr std::int64_t qkv_cols() const { return (heads + 2 * kv_heads) * head_dim; }
  constexpr std::int64_t raw_cols() const { return (heads + kv_heads) * head_dim; }
};

void head_norm_forward(const HeadNormShape& shape, ConstTensor q_gain, ConstTensor k_gain, Tensor qkv, Tensor raw);
// In place, on dq and dk.
void head_norm_backward_input(const HeadNormShape& shape, ConstTensor raw, ConstTensor q_gain, ConstTensor k_gain,
                              Tensor dqkv);
// dq_gain, dk_gain [head_dim] W += sums over tokens and heads; dqkv as it was before backward_input.
void head_norm_backward_weight(const HeadNormShape& shape, ConstTensor raw, ConstTensor dqkv, Tensor dq_gain,
                               Tensor dk_gain);

// ---- element by element ---------------------------------------------------------------------------------------------

// gelu is the tanh form, gelu_erf the exact one. The gated ones read x = [rows, 2*cols], per row gate|up: y = act(gate)
// * up, with act = silu for swiglu and gelu for geglu; swiglu_clamped, as gpt-oss has it, is act(min(gate, 7)) *
// (clamp(up, -7, 7) + 1) with act(x) = x sigmoid(1.702 x). The others read x = [rows, cols]. y is [rows, cols].
enum class Activation : std::uint8_t { gelu, relu, swiglu, geglu, gelu_erf, swiglu_clamped, sigmoid, tanh };
constexpr bool is_gated(Activation a) {
  return a == Activation::swiglu || a == Activation::geglu || a == Activation::swiglu_clamped;
}

// y may be x (not gated).
void activation_forward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x, Tensor y);
// dx is shaped like x; it may be x, or dy (not gated).
void activation_backward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x, ConstTensor dy,
                         Tensor dx);

// y = a + b (+ bias[cols], may be absent); y may be a or b.
void residual_add(std::int64_t rows, std::int64_t cols, ConstTensor a, ConstTensor b, ConstTensor bias, Tensor y);

// db[cols] W (+)= column sums of dy[rows,cols].
void bias_gradient(std::int64_t rows, std::int64_t cols, ConstTensor dy, Tensor db, bool accumulate);

void fill(Tensor x, std::int64_t n, double value);
// dst = src, rounded to dst's type. Any pair of fp64, fp32, bf16, fp16; from fp64 to fp16 by way of fp32.
void cast(ConstTensor src, Tensor dst, std::int64_t n);
// dst += src. Both of one type, or src of 16 bits and dst fp32.
void add(ConstTensor src, Tensor dst, std::int64_t n);
// dst and all copies = ((s0 + s1) + s2) + …, summed in W, rounded once: the reduction of every collective, in rank
// order. All of one type; dst and the copies may be sources. At least one source.
void sum_in_order(std::span<const ConstTensor> sources, Tensor dst, std::span<const Tensor> copies, std::int64_t n);

// ---- packed qkv: rotary positions and attention ---------------------------------------------------------------------

// qkv is [batch*seq, (heads + kv_heads) * head_dim + kv_heads * v_dim]: per token all query heads, then the key heads,
// then the value heads, which may be of another width (and with them the output's). Query head h uses key/value head
// h / (heads / kv_heads). heads is a multiple of kv_heads.
struct AttentionShape {
  std::int64_t batch = 0, seq = 0, heads = 0, kv_heads = 0, head_dim = 0;
  bool causal = true;
  double scale = 0.0;          // of q·k; 0 means 1/sqrt(head_dim)
  std::int64_t value_dim = 0;  // of a value head; 0 means head_dim
  std::int64_t window = 0;     // with causal: the last so many keys up to its own are all a query sees; 0 means all
  std::int64_t document = 0;   // with causal: sequences are documents of so many tokens, and a query sees its own one's
                               // keys only; 0 means one document

  constexpr std::int64_t v_dim() const { return value_dim != 0 ? value_dim : head_dim; }
  constexpr std::int64_t tokens() const { return batch * seq; }
  constexpr std::int64_t q_cols() const { return heads * head_dim; }
  constexpr std::int64_t kv_cols() const { return kv_heads * (head_dim + v_dim()); }
  constexpr std::int64_t qkv_cols() const { return q_cols() + kv_cols(); }
  constexpr std::int64_t out_cols() const { return heads * v_dim(); }
  constexpr std::int64_t score_elements() const { return batch * heads * seq * seq; }
};

// Rotates the first d = rotary_dim columns of each head of q and k in place, halves paired (i, i + d/2) as in Hugging
// Face Llama and GPT-NeoX; the angle of pair i at position p is p times its frequency. The position of a token is
// position_offset + its index in the sequence. d even, at most head_dim.
void rotary_forward(const AttentionShape& shape, std::int64_t rotary_dim, const RotaryFrequencies& frequencies,
                    std::int64_t position_offset, Tensor qkv);
// The same rotation backwards, on dq and dk.
void rotary_backward(const AttentionShape& shape, std::int64_t rotary_dim, const RotaryFrequencies& frequencies,
                     std::int64_t position_offset, Tensor dqkv);

// Flash-like: o[tokens, heads*v_dim] = softmax(scale * q k^T, causal) v, by tiles; never holds seq x seq.
// lse [batch, heads, seq] W: log of the row's sum of exponentials.
void attention_forward(const AttentionShape& shape, ConstTensor qkv, Tensor o, Tensor lse);
// dqkv (all of it is written) from d_o, recomputing the probabilities.
void attention_backward(const AttentionShape& shape, ConstTensor qkv, ConstTensor o, ConstTensor lse, ConstTensor d_o,
                        Tensor dqkv);

// Some queries of every sequence against some of the keys, which may be another share's of a longer sequence: kv is
// [batch*key_seq, kv_heads*(head_dim + v_dim)], per token all key heads, then all value heads. Query i of the part sees
// its keys up to key i + diagonal where causal (which must be there), from query jump_at on `jump` further, of these
// the last `window` where that is not 0, else all of them, and of documents those from the last multiple of `document`
// up to its own on; AttentionShape's causal, window and document say nothing.
struct AttentionPart {
  std::int64_t first_query = 0, queries = 0, first_key = 0, keys = 0;
  bool causal = false;
  std::int64_t diagonal = 0, window = 0, document = 0;
  std::int64_t key_seq = 0;  // keys that a sequence has in kv; 0 means seq
  std::int64_t jump_at = 0, jump = 0;

  constexpr std::int64_t keys_of(const AttentionShape& s) const { return key_seq != 0 ? key_seq : s.seq; }
};

// o and lse as of attention_forward, over the part's keys alone. Rows of other queries: -inf in lse, nothing in o.
void attention_part_forward(const AttentionShape& shape, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                            Tensor o, Tensor lse);
// What the part adds to dq (query columns of dqkv, all of them written unless add_to_dq), and its dkv (all of it
// written, 0 for other keys), from o, lse and d_o of the whole attention. Key and value columns of qkv are not read,
// and of dqkv not written.
void attention_part_backward(const AttentionShape& shape, const AttentionPart& part, ConstTensor qkv, ConstTensor kv,
                             ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dqkv, Tensor dkv, bool add_to_dq);
// All queries of every sequence against all of its keys, wherever they stand: a token's queries [heads*head_dim] at q,
// its keys [kv_heads*head_dim] and behind them its values at kv, which may be another sequence's (cross attention; then
// not causal) or, as of packed qkv, lie in the same rows.
struct AttentionRows {
  std::int64_t key_seq = 0;          // keys of a sequence
  std::int64_t ld_q = 0, ld_kv = 0;  // elements from one token's to the next one's
};

// As attention_forward; `bias` [heads, seq + key_seq - 1] W, which may be absent, is added to the scaled scores by
// distance: key j seen from query i gets element j - i + seq - 1 of its head. Window and document must be 0.
void attention_rows_forward(const AttentionShape& shape, const AttentionRows& rows, ConstTensor q, ConstTensor kv,
                            ConstTensor bias, Tensor o, Tensor lse);
// dq and dkv, which lie as q and kv do, are written; d_bias += where there is a bias.
void attention_rows_backward(const AttentionShape& shape, const AttentionRows& rows, ConstTensor q, ConstTensor kv,
                             ConstTensor bias, ConstTensor o, ConstTensor lse, ConstTensor d_o, Tensor dq, Tensor dkv,
                             Tensor d_bias);

// What such a bias is made of in T5 (Raffel et al. 2020, section 2.1): a table [heads, buckets] of which distances up
// to half of its buckets have one each, further ones share the rest by their logarithm up to max_distance; with
// bidirectional half of the buckets are of keys behind the query, else those have the query's own.
struct RelativeBiasShape {
  std::int64_t heads = 0, seq = 0, key_seq = 0, buckets = 0, max_distance = 0;
  bool bidirectional = true;

  constexpr std::int64_t distances() const { return seq + key_seq - 1; }
};
// The bucket of a key that many tokens behind its query.
std::int64_t relative_bucket(const RelativeBiasShape& shape, std::int64_t distance);
// bias [heads, distances] W, from table T or W; d_table W += sums of d_bias, distances in order.
void relative_bias_forward(const RelativeBiasShape& shape, ConstTensor table, Tensor bias);
void relative_bias_backward(const RelativeBiasShape& shape, ConstTensor d_bias, Tensor d_table);

// o and lse of attention over the keys of all parts, from theirs: o_parts [parts, tokens, heads*v_dim], lse_parts
// [parts, batch, heads, seq] W. Rows whose lse is -inf are not read. o = sum of o_p exp(lse_p - lse), summed in order
// in W and rounded once (Dao et al., "FlashAttention", 2022, equation for blocks).
void attention_merge(const AttentionShape& shape, std::int64_t parts, ConstTensor o_parts, ConstTensor lse_parts,
                     Tensor o, Tensor lse);
// Attention sinks (Xiao et al. 2023, arXiv:2309.17453; gpt-oss): one more logit per head in the softmax's denominator,
// which no value belongs to. From o and lse of attention without it to those with it, in place. attention_backward
// takes these as they are. sinks [heads].
void attention_sinks_forward(const AttentionShape& shape, ConstTensor sinks, Tensor o, Tensor lse);
// d_sinks [heads] W += gradients, from o and lse with sinks; rows in order.
void attention_sinks_backward(const AttentionShape& shape, ConstTensor sinks, ConstTensor o, ConstTensor lse,
                              ConstTensor d_o, Tensor d_sinks);
// dst = src, both [rows, cols] with rows that far apart.
void copy_matrix(std::int64_t rows, std::int64_t cols, ConstTensor src, std::int64_t ld_src, Tensor dst,
                 std::int64_t ld_dst);

// Unfused: s, p, ds, dp are [batch, heads, seq, seq], of qkv's type or W.
// s = q k^T (unscaled).
void attention_scores(const AttentionShape& shape, ConstTensor qkv, Tensor s);
// In place: s *= scale; with causal, columns after the row become -inf, and those before its window or document.
void attention_scale_mask(const AttentionShape& shape, Tensor s);
// p = softmax of each row of s; p may be s.
void attention_softmax(const AttentionShape& shape, ConstTensor s, Tensor p);
// attention_scale_mask and attention_softmax in one pass; p may be s.
void attention_scale_mask_softmax(const AttentionShape& shape, ConstTensor s, Tensor p);
// o = p v.
void attention_context(const AttentionShape& shape, ConstTensor p, ConstTensor qkv, Tensor o);

// dp = d_o v^T; dv = p^T d_o into the value columns of dqkv.
void attention_context_backward(const AttentionShape& shape, ConstTensor p, ConstTensor qkv, ConstTensor d_o, Tensor dp,
                                Tensor dqkv);
// ds = p * (dp - sum_j p dp); ds may be dp.
void attention_softmax_backward(const AttentionShape& shape, ConstTensor p, ConstTensor dp, Tensor ds);
// In place: ds *= scale; what causal, window and document hide becomes 0.
void attention_scale_mask_backward(const AttentionShape& shape, Tensor ds);
// attention_softmax_backward and attention_scale_mask_backward in one pass; ds may be dp.
void attention_scale_mask_softmax_backward(const AttentionShape& shape, ConstTensor p, ConstTensor dp, Tensor ds);
// dq = ds k, dk = ds^T q into the query and key columns of dqkv.
void attention_scores_backward(const AttentionShape& shape, ConstTensor ds, ConstTensor qkv, Tensor dqkv);

// Latent attention: puts q [tokens, heads*(nope+rope)], kv [tokens, heads*(nope+v)] (per head key columns, then value
// columns) and k_rope [tokens, rope], which all heads share, together as packed qkv of heads = kv_heads, head_dim =
// nope + rope and value_dim = v; the rope columns of q and k are rotated as rotary_forward's are, with its
// position_offset.
struct LatentHeadsShape {
  std::int64_t batch = 0, seq = 0, heads = 0, nope_dim = 0, rope_dim = 0, v_dim = 0, position_offset = 0;

  constexpr std::int64_t tokens() const { return batch * seq; }
  constexpr std::int64_t head_dim() const { return nope_dim + rope_dim; }
  constexpr std::int64_t q_cols() const { return heads * head_dim(); }
  constexpr std::int64_t kv_cols() const { return heads * (nope_dim + v_dim); }
  constexpr std::int64_t qkv_cols() const { return 2 * q_cols() + heads * v_dim; }
};
void latent_heads_forward(const LatentHeadsShape& shape, const RotaryFrequencies& frequencies, ConstTensor q,
                          ConstTensor kv, ConstTensor k_rope, Tensor qkv);
// The way back; dk_rope is the sum over the heads, in order.
void latent_heads_backward(const LatentHeadsShape& shape, const RotaryFrequencies& frequencies, ConstTensor dqkv,
                           Tensor dq, Tensor dkv, Tensor dk_rope);

// ---- embedding ------------------------------------------------------------------------------------------------------

// wte is this shard's rows [vocab_start, vocab_start + vocab_rows) of the token table; wpe the whole position table.
struct EmbeddingShape {
  std::int64_t tokens = 0, seq = 0, cols = 0;
  std::int64_t vocab_start = 0, vocab_rows = 0;
  std::int64_t position_offset = 0;  // token t stands at position_offset + t % seq
};

// out[tokens,cols] = wte[id - vocab_start], zero when the id is not of this shard, + wpe[position] when given.
void embedding_forward(const EmbeddingShape& shape, const std::int32_t* ids, ConstTensor wte, ConstTensor wpe,
                       Tensor out);
// dwte, dwpe (W, either may be absent) += dout, in token order.
void embedding_backward(const EmbeddingShape& shape, const std::int32_t* ids, ConstTensor dout, Tensor dwte,
                        Tensor dwpe);

// ---- cross entropy, vocabulary-sharded ------------------------------------------------------------------------------

struct CrossEntropyShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;         // stored columns of this shard
  std::int64_t valid = 0;        // the first `valid` columns are words, the rest is padding: ignored, gradient 0
  std::int64_t vocab_start = 0;  // word of column 0
};

// A target below 0 is none: the row's loss and gradient are 0.

// stats [rows,3] W: maximum, sum of exp(x - maximum), logit of the target (-inf when another shard has it, +inf for
// none).
// A shard without valid columns gives (-inf, 0, -inf).
void cross_entropy_stats(const CrossEntropyShape& shape, ConstTensor logits, const std::int32_t* targets, Tensor stats);
// From the stats of all shards, [parts][rows][3] in shard order: *loss (+)= scale * sum over rows, and row_stats
// [rows,2] W: maximum and log of the sum, over all shards.
void cross_entropy_combine(std::int64_t rows, std::int64_t parts, ConstTensor stats, double scale, double* loss,
                           bool accumulate, Tensor row_stats);
// gradient = scale * *factor * (softmax - onehot(target)) (no factor: 1); padding columns become 0. gradient may be
// logits.
void cross_entropy_backward(const CrossEntropyShape& shape, ConstTensor logits, const std::int32_t* targets,
                            ConstTensor row_stats, double scale, Tensor gradient, const double* factor = nullptr);

// ---- losses of plain outputs ----------------------------------------------------------------------------------------

// squared_error: (y - t)^2. binary_cross_entropy: log(1 + exp(y)) - t y, y being a logit.
enum class OutputLoss : std::uint8_t { squared_error, binary_cross_entropy };
// *loss += scale * the sum over n outputs, in fp64. y, target T.
void output_loss_forward(OutputLoss kind, std::int64_t n, ConstTensor y, ConstTensor target, double scale,
                         double* loss);
// dy = scale * *factor * the slope (no factor: 1); dy may be y.
void output_loss_backward(OutputLoss kind, std::int64_t n, ConstTensor y, ConstTensor target, double scale, Tensor dy,
                          const double* factor = nullptr);

// ---- optimizer ------------------------------------------------------------------------------------------------------

// *sum (+)= sum of squares, in fp64.
void squared_norm(ConstTensor x, std::int64_t n, double* sum, bool accumulate);
// Of gradients that are *factor times as large as they should be (no factor: 1): norm = sqrt(sums[0] + sums[1] + …) /
// *factor; coefficient = min(1, clip / (norm + 1e-6)) / *factor. A NaN stays one.
void clip_coefficient(std::span<const double> sums, double clip, double* norm, double* coefficient,
                      const double* factor = nullptr);

// The factor of the loss, and what became of it: how many steps it has stood, 1 or 0 as the last step's gradients were
// finite or not, how many steps in a row they were not, and how many in all.
struct LossScaleState {
  double scale, steps, is_finite, in_a_row, skipped;
};
// From the norm of a step's gradients: where it is finite the scale grows every `interval` such steps, else it shrinks.
// No norm: before a step; a state of zeros gets the initial scale.
struct LossScaleRule {
  double initial = 65536, growth = 2, backoff = 0.5;
  std::int64_t interval = 2000;
};
void update_loss_scale(const LossScaleRule& rule, const double* norm, LossScaleState* state);

enum class OptimizerKind : std::uint8_t { sgd, momentum, adam, adamw, rmsprop, lamb };
constexpr bool has_m(OptimizerKind k) {
  return k != OptimizerKind::sgd;
}
constexpr bool has_v(OptimizerKind k) {
  return k == OptimizerKind::adam || k == OptimizerKind::adamw || k == OptimizerKind::lamb;
}

// sgd:      p -= lr (g + decay p)
// momentum: m = beta1 m + g + decay p;  p -= lr m
// adam:     as adamw, but decay p is added to g
// adamw:    p -= lr decay p;  m = beta1 m + (1-beta1) g;  v = beta2 v + (1-beta2) g^2;
//           p -= lr (m / (1-beta1^t)) / (sqrt(v / (1-beta2^t)) + epsilon)
// rmsprop:  m = beta2 m + (1-beta2) (g + decay p)^2;  p -= lr (g + decay p) / (sqrt(m) + epsilon)
// lamb:     in two launchers, below
struct OptimizerStep {
  OptimizerKind kind = OptimizerKind::adamw;
  double learning_rate = 0.0;
  double beta1 = 0.9, beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.0;  // 0 for parameters that do not decay
  std::int64_t step = 1;      // t, from 1
  Rounding rounding;          // of bf16 parameters
};

// One step on a flat range. g = gradient * *coefficient (no coefficient: 1). parameter, m, v are fp32 (or all fp64,
// with gradient); gradient W or bf16; m and v where the kind has them. Not lamb. copy, when given, receives
// the parameter rounded to its type. A bf16 parameter, with m and v fp32 and no copy, is what the step makes of it in
// fp32, rounded by chance (kernels/rounding.h).
void optimizer_step(const OptimizerStep& step, std::int64_t n, ConstTensor gradient, const double* coefficient,
                    Tensor parameter, Tensor m, Tensor v, Tensor copy);

// Each kind of the outer step of local SGD (plan/ops.h): `weights` hold the sum of all replicas' weights, and receive
// what they go on from. anchor (of sgd, nesterov) and momentum (of nesterov) [n] W; copy, which may be absent, receives
// the weights, rounded.
enum class OuterKind : std::uint8_t { average, sgd, nesterov };
struct OuterStep {
  OuterKind kind{};
  std::int64_t replicas = 1;
  double learning_rate = 1, momentum = 0;
};
void outer_step(const OuterStep& step, std::int64_t n, Tensor weights, Tensor anchor, Tensor momentum, Tensor copy);

// LAMB (You et al. 2020, arXiv:1904.00962): the update adam's moments give, u = m^ / (sqrt(v^) + epsilon) + decay p, in
// place of the gradient, which has the parameter's type; then, with sums of squares over the whole tensor,
// p -= lr sqrt(*weights / *updates) u; the ratio is 1 where either is 0, or there are none.
void lamb_update(const OptimizerStep& step, std::int64_t n, Tensor gradient, const double* coefficient,
                 ConstTensor parameter, Tensor m, Tensor v);
void lamb_step(std::int64_t n, double learning_rate, ConstTensor update, const double* weights, const double* updates,
               Tensor parameter, Tensor copy);

// ---- initial values -------------------------------------------------------------------------------------------------

// A dense [rows, cols] piece, at (row_offset, col_offset), of a tensor with global_cols columns. A value depends on
// seed, tensor and the element's global index only, so that any sharding initialises itself.
struct InitShape {
  std::int64_t rows = 0, cols = 0;
  std::int64_t row_offset = 0, col_offset = 0, global_cols = 0;
  std::uint64_t seed = 0;
  std::uint64_t tensor = 0;  // the tensor's number in the model
};

void init_normal(const InitShape& shape, double standard_deviation, Tensor x);
void init_uniform(const InitShape& shape, double low, double high, Tensor x);

// ---- the machine ----------------------------------------------------------------------------------------------------

// Which build of the kernels runs: chosen once from the processor's feature bits.
enum class InstructionSet : std::uint8_t { x86_64, avx2, avx512 };
InstructionSet instruction_set();
std::string_view name(InstructionSet s);
// For tests and measurements; not while kernels run. Returns false, and changes nothing, when the processor lacks it.
bool use_instruction_set(InstructionSet s);

// Who computes bf16 products: "oneDNN (amx)", "oneDNN (avx512_bf16)", or "fp32 (…why…)".
std::string_view bf16_matmul_backend();

// Bytes of scratch that the calling thread holds. It grows on the first call of a shape and never shrinks.
std::size_t scratch_bytes();

}  // namespace foretrain::kernels
