// Tools that the parts of a transformer layer are written with: projections, norms and residuals, each with its
// backward. The backward of every op is written by hand; the executor knows no autograd. Used by build_*.cpp only.
#pragma once

#include <optional>
#include <string>

#include "plan/build_context.h"

namespace foretrain::plan {

// Buffers of one layer's activations.
struct LayerBuffers {
  BufferId norm1, stats1, qkv, qk_raw, core, context, x_mid, norm2, stats2, up, act;
  BufferId sum1, sum2;  // what norms behind the halves read
  BufferId cross_norm, cross_stats, cross_q, cross_kv, cross_core, cross_context, cross_x;  // of a decoder's layer
  BufferId q_latent, q_stats, q_latent_norm, kv_latent, kv_stats, kv_latent_norm, k_rope;   // of latent attention
};

// The gradients of x', x_mid and x: one buffer from top to bottom, or three where weight gradients read them later.
struct ResidualGradients {
  Operand out, mid, in;
};

// What of a layer its backward computes again.
struct Recomputed {
  bool all = false, core = false, norms = false, activation = false, mlp = false, mla_up = false;
};

struct LayerEmitter {
  RoleContext& c;
  BlockBuilder& b;
  LayerBuffers t;
  Recomputed again;
  LayerKind layer_kind;

  Operand all(BufferId buffer) const { return c.builder.whole(buffer); }
  Operand weight(const std::string& name) { return c.parameter(c.family_of(name), name); }
  Operand grad(const std::string& name) { return c.gradient(c.family_of(name), name); }

  // Whether what runs again of a layer ends before its last products, whose output nobody reads; but a norm behind.
  bool stops_early(Phase phase) const {
    return phase == Phase::recompute && again.all && c.job.strategy.recompute_early_stop && !c.model.norms_behind();
  }

  Operand input() const {
    return !layer_kind.offloads        ? all(c.residual())
           : layer_kind.first_of_chunk ? c.input_of_offloading()
                                       : passing_x(c, true);
  }

  // x': the next layer's input. Nobody reads that of a recomputation, which may have stopped before.
  Operand output(Phase phase) {
    if (phase != Phase::forward) {
      return all(c.temporary("x.again", c.type.activation, c.n.shard_rows * c.n.hidden));
    }
    const bool passes = layer_kind.offloads && !layer_kind.last_of_chunk;
    return passes ? passing_x(c, false) : c.builder.whole(c.residual(), 1);
  }

  // y[rows, out] = x[rows, in] W[out, in]^T (+ bias)
  void linear(Phase phase, Operand x, const std::string& w, bool bias, Operand y, std::int64_t out, std::int64_t in);

  // The same, the result being `product`, and y = gelu(product), by one kernel.
  void linear_gelu(Phase phase, Operand x, const std::string& w, bool bias, Operand product, Operand y,
                   std::int64_t out, std::int64_t in);

  // y[rows, out] = x[rows, in] W[out, in]^T (+ y): partial sums of a row-parallel matmul.
  void linear_partial(Phase phase, Operand x, const std::string& w, Operand y, bool accumulate, std::int64_t out,
                      std::int64_t in);

  // dx[rows, in] = dy[rows, out] W[out, in] (+ dx)
  void linear_input(Operand dy, const std::string& w, Operand dx, std::int64_t out, std::int64_t in,
                    bool accumulate = false);

  // The same, times gelu's slope at product[rows, in], by one kernel.
  void linear_input_gelu(Operand dy, const std::string& w, Operand product, Operand dx, std::int64_t out,
                         std::int64_t in);

  // dW[out, in] += dy[rows, out]^T x[rows, in]
  void linear_weight(Operand dy, Operand x, const std::string& w, std::int64_t out, std::int64_t in);

  void bias_gradient(Operand dy, const std::string& name, std::int64_t rows, std::int64_t cols);

  Norm norm(Direction d) const;

  bool norm_bias() const { return c.model.norm == workloads::Norm::layernorm; }

  void norm_forward(Phase phase, Operand x, const std::string& name, Operand y, BufferId stats);

  // dx = [base +] …
  void norm_backward(Operand dy, Operand x, BufferId stats, const std::string& name, std::optional<Operand> base,
                     Operand dx);

  // The end of a half of a layer: y = x + out (+ bias), or the norm of that sum, where norms are behind.
  void add_half(Phase phase, Operand x, Operand out, const std::string& bias, bool has_bias, BufferId sum,
                const std::string& norm, BufferId stats, Operand y);
  // The way back: from the gradient of y to that of the sum; and from the latter and that of what the half's first
  // product read to that of x.
  Operand half_gradient(BackwardPart part, Operand dy, BufferId sum, BufferId stats, const std::string& norm,
                        const std::string& block);
  void add_half_gradient(Operand d_branch, Operand d_sum, Operand x, BufferId stats, const std::string& norm,
                         Operand dx);

  void residual_add(Phase phase, Operand x, Operand y, const std::string& bias, bool has_bias, Operand out);

  // The output gradient as the matmul's backward takes it: all rows. Split, a gathered one is kept for the weights.
  Operand full_gradient(BackwardPart part, Operand shard, const std::string& name);

  ResidualGradients residual_gradients();

  // What a half's first product read, all rows: gathered while the matmul emitted next runs (overlap_tp).
  Operand input_again(const std::string& block, Operand read);

  // The column-parallel matmul that begins a half: from the gradient of its output to that of what it `read`. `x` is
  // that, all rows, where there is no input gradient to gather it behind.
  Operand through_input(BackwardPart part, const std::string& block, const std::string& w, Operand dy, std::int64_t out,
                        Operand read, Operand x, bool bias);
};

// The inner part of each half: from its norm's output `h`, all rows, to what it adds to x as partial sums of the tp
// ranks in `out` (+= where `accumulate`); and back from the gradient of that sum, all rows, to the gradient of its
// first product (attention's qkv, the MLP's up), which goes on through LayerEmitter::through_input.
void attention_branch(const LayerEmitter& e, Phase phase, Operand h, Operand out, bool accumulate);
Operand attention_branch_backward(const LayerEmitter& e, BackwardPart part, Operand dy);
void mlp_branch(const LayerEmitter& e, Phase phase, Operand h, Operand out, bool accumulate);
Operand mlp_branch_backward(const LayerEmitter& e, BackwardPart part, Operand dy);

// build_attention.cpp: where packed qkv of this rank's tokens go; on to where attention reads them; from there to the
// heads' outputs in t.context, and from their gradient to that of qkv.
BufferId attention_share(const LayerEmitter& e);
void attention_enter(const LayerEmitter& e, Phase phase);
void attention_core(const LayerEmitter& e, Phase phase);
void attention_core_backward(const LayerEmitter& e, Operand d_context, Operand d_qkv);

// build_cross_attention.cpp: cross_x = x_mid + out(attention(q(norm(x_mid)), kv(encoded))), in place of x_mid for what
// follows.
void cross_attention_forward(const LayerEmitter& e, Phase phase);
void cross_attention_backward(const LayerEmitter& e, const ResidualGradients& d);

// build_latent_attention.cpp: the attention half of a layer with latent attention.
void latent_attention_forward(const LayerEmitter& e, Phase phase);
void latent_attention_backward(const LayerEmitter& e, BackwardPart part, const ResidualGradients& d);

// What a list of modules has the backward compute again of either half, before anything of it is used.
void attention_again(const LayerEmitter& e);
void mlp_again(const LayerEmitter& e);

// build_attention.cpp: x_mid = x + out(attention(rotary(qkv(norm1(x))))).
void attention_forward(const LayerEmitter& e, Phase phase);
void attention_backward(const LayerEmitter& e, BackwardPart part, const ResidualGradients& d);

// build_state_space.cpp: x_mid = x + out(scan(in(norm1(x)))).
void state_space_forward(const LayerEmitter& e, Phase phase);
void state_space_backward(const LayerEmitter& e, BackwardPart part, const ResidualGradients& d);

// build_mlp.cpp: x' = x_mid + down(act(up(norm2(x_mid)))).
void mlp_forward(const LayerEmitter& e, Phase phase);
void mlp_backward(const LayerEmitter& e, BackwardPart part, const ResidualGradients& d);

// build_moe.cpp: x' = x_mid + experts(norm2(x_mid)).
void moe_forward(const LayerEmitter& e, Phase phase);
void moe_backward(const LayerEmitter& e, BackwardPart half, const ResidualGradients& d);
// The same in three parts, between which other blocks may stand: the first two end with tokens (or gradients) on their
// way to the experts, and back.
enum class MoePart : std::uint8_t { before, experts, after };
inline constexpr MoePart kMoeParts[] = {MoePart::before, MoePart::experts, MoePart::after};
void moe_forward(const LayerEmitter& e, Phase phase, MoePart part);
void moe_backward(const LayerEmitter& e, BackwardPart half, MoePart part, const ResidualGradients& d);
// Sums the routers' gradients, of which each tp rank has a part.
void reduce_routers(RoleContext& c, BlockBuilder& b);
// build_parallel_layer.cpp: both halves read x: x' = x + attention(norm1(x)) + mlp(norm2(x)).
void parallel_forward(const LayerEmitter& e, Phase phase);
void parallel_backward(const LayerEmitter& e, BackwardPart part);

}  // namespace foretrain::plan
