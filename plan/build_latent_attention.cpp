// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1; V3 and Kimi-K2 have the same):
//
//   c_q = rmsnorm(Wdq h)            q = Wuq c_q                       per head nope | rope columns
//   (c, k_rope) = Wdkv h            (k_nope, v) = Wukv rmsnorm(c)     k_rope is one for all heads
//   k = (k_nope, k_rope), both rotated in their rope columns; x_mid = x + out(attention(q, k, v))
//
// Without q_rank q comes straight from h. Wdq and Wdkv are on every tp rank, as in Megatron-core: under sequence
// parallelism each takes its own rows, and what is gathered are the small latents. Wuq and Wukv are sharded by heads.
// Of the weight gradients a split backward puts off the output projection's only.
#include "plan/layer_emitter.h"

namespace foretrain::plan {

namespace {

struct LatentEmitter : LayerEmitter {
  const workloads::Mla& mla() const { return c.model.mla; }
  std::int64_t kv_cols() const { return c.n.heads * (mla().nope_dim + mla().v_dim); }
  std::int64_t down_cols() const { return mla().kv_rank + mla().rope_dim; }
  Operand scratch(const std::string& name, std::int64_t elements) const {
    return all(c.temporary("attention." + name, c.type.activation, elements));
  }

  // y[rows, out] = x W^T
  void product(Phase phase, std::int64_t rows, Operand x, const std::string& w, Operand y, std::int64_t out,
               std::int64_t in) {
    const Matmul mm{rows, out, in, false, true, false, false, c.type.matmul, c.type.activation};
    b.emit(mm, kCompute, phase, {x, weight(w + ".weight")}, {y});
  }

  // dx[rows, in] = dy W (+ dx), dW += dy^T x
  void product_input(std::int64_t rows, Operand dy, const std::string& w, Operand dx, std::int64_t out, std::int64_t in,
                     bool accumulate) {
    const Matmul mm{rows, in, out, false, false, false, accumulate, c.type.matmul, c.type.activation};
    std::vector<Operand> reads{dy, weight(w + ".weight")};
    if (accumulate) {
      reads.push_back(dx);
    }
    b.emit(mm, kCompute, Phase::backward_input, std::move(reads), {dx});
  }
  void product_weight(std::int64_t rows, Operand dy, Operand x, const std::string& w, std::int64_t out,
                      std::int64_t in) {
    const Matmul mm{out, in, rows, true, false, false, true, c.type.matmul, c.type.gradient};
    emit_weight_gradient(c, b, mm, dy, x, grad(w + ".weight"));
  }

  Norm latent_norm(Direction d, std::int64_t cols) const {
    return {d, workloads::Norm::rmsnorm, c.n.shard_rows, cols, c.model.norm_eps, c.type.activation};
  }
  void normalise(Phase phase, std::int64_t cols, BufferId x, const std::string& name, BufferId y, BufferId stats) {
    b.emit(latent_norm(Direction::forward, cols), kCompute, phase, {all(x), weight(name + ".gain")},
           {all(y), all(stats)});
  }
  // In place: d becomes the gradient of the norm's input. Norms add to a base: here to nothing.
  void normalise_backward(std::int64_t cols, Operand d, BufferId x, const std::string& name, BufferId stats,
                          Operand dx) {
    b.emit(Fill{dx.elements, c.type.activation}, kCompute, Phase::backward_input, {}, {dx});
    b.emit(latent_norm(Direction::backward_input, cols), kCompute, Phase::backward_input,
           {d, all(x), weight(name + ".gain"), all(stats), dx}, {dx});
    const Operand sum = grad(name + ".gain");
    b.emit(latent_norm(Direction::backward_weight, cols), kCompute, Phase::backward_weight,
           {d, all(x), all(stats), sum}, {sum});
  }

  LatentHeads heads(Direction direction) const {
    return {direction,      c.n.batch,   c.n.seq,        c.n.heads,         mla().nope_dim,
            mla().rope_dim, mla().v_dim, c.model.rotary, c.type.activation, c.groups.cp};
  }
  SplitColumns split(Direction direction) const {
    return {direction, c.n.shard_rows, mla().kv_rank, mla().rope_dim, c.type.activation};
  }

  // From norm1 to the packed q, k and v that attention reads.
  void up(Phase phase) {
    const Operand q = scratch("q", c.n.rows * c.n.q);
    if (mla().q_rank > 0) {
      const Operand latent = gather_rows(c, b, phase, all(t.q_latent_norm), "attention.q_latent");
      product(phase, c.n.rows, latent, "attention.q_up", q, c.n.q, mla().q_rank);
    } else {
      const Operand h = gather_rows(c, b, phase, all(t.norm1), "attention.input");
      product(phase, c.n.rows, h, "attention.q", q, c.n.q, c.n.hidden);
    }
    const Operand latent = gather_rows(c, b, phase, all(t.kv_latent_norm), "attention.kv_latent");
    const Operand k_rope = gather_rows(c, b, phase, all(t.k_rope), "attention.k_rope");
    const Operand kv = scratch("kv_heads", c.n.rows * kv_cols());
    product(phase, c.n.rows, latent, "attention.kv_up", kv, kv_cols(), mla().kv_rank);
    b.emit(heads(Direction::forward), kCompute, phase, {q, kv, k_rope}, {all(attention_share(*this))});
    attention_enter(*this, phase);
  }

  void down(Phase phase) {
    const std::int64_t rows = c.n.shard_rows;
    if (mla().q_rank > 0) {
      product(phase, rows, all(t.norm1), "attention.q_down", all(t.q_latent), mla().q_rank, c.n.hidden);
      normalise(phase, mla().q_rank, t.q_latent, "attention.q_norm", t.q_latent_norm, t.q_stats);
    }
    const Operand both = scratch("kv_down", rows * down_cols());
    product(phase, rows, all(t.norm1), "attention.kv_down", both, down_cols(), c.n.hidden);
    b.emit(split(Direction::forward), kCompute, phase, {both}, {all(t.kv_latent), all(t.k_rope)});
    normalise(phase, mla().kv_rank, t.kv_latent, "attention.kv_norm", t.kv_latent_norm, t.kv_stats);
  }

  void forward(Phase phase) {
    const Operand x = input();
    norm_forward(phase, x, "norm1", all(t.norm1), t.stats1);
    down(phase);
    up(phase);
    attention_core(*this, phase);
    const Operand partial = all(c.temporary("attention.partial", c.type.activation, c.n.rows * c.n.hidden));
    linear_partial(phase, all(t.context), "attention.out", partial, false, c.n.hidden, c.n.context);
    const Operand out = reduce_rows(c, b, phase, partial, "attention.output");
    residual_add(phase, x, out, "", false, all(t.x_mid));
  }

  void backward(BackwardPart part, const ResidualGradients& d) {
    const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
    if (inputs) {
      attention_again(*this);
      if (again.mla_up && !again.all) {
        up(Phase::recompute);
      }
    }
    const Operand dy = full_gradient(part, d.mid, "attention.output_gradient");
    const Operand d_context = scratch("d_context", c.n.rows * c.n.context);
    if (inputs) {
      linear_input(dy, "attention.out", d_context, c.n.hidden, c.n.context);
    }
    if (weights) {
      linear_weight(dy, all(t.context), "attention.out", c.n.hidden, c.n.context);
    }
    if (inputs) {
      const Operand d_qkv = scratch("d_qkv", c.n.rows * c.n.qkv);
      attention_core_backward(*this, d_context, d_qkv);
      projections_backward(d, d_qkv);
    }
  }

  void projections_backward(const ResidualGradients& d, Operand d_qkv) {
    const Operand dq = scratch("d_q", c.n.rows * c.n.q), dkv = scratch("d_kv_heads", c.n.rows * kv_cols());
    const Operand dk_rope = scratch("d_k_rope", c.n.rows * mla().rope_dim);
    b.emit(heads(Direction::backward_input), kCompute, Phase::backward_input, {d_qkv}, {dq, dkv, dk_rope});
    const Operand d_norm1 = query_backward(dq);
    key_value_backward(dkv, dk_rope, d_norm1);
    norm_backward(d_norm1, input(), t.stats1, "norm1", d.mid, d.in);
  }

  // A column-parallel product behind a latent, all rows: to the latent's gradient, this rank's rows.
  Operand through_latent(const std::string& name, const std::string& w, Operand dy, BufferId latent, std::int64_t out,
                         std::int64_t in) {
    const Operand x = gather_rows(c, b, Phase::backward_weight, all(latent), "attention." + name + ".again");
    wait_unless_overlapped(c, b, Phase::backward_weight);
    const Operand partial = scratch("d_" + name, c.n.rows * in);
    product_input(c.n.rows, dy, w, partial, out, in, false);
    const Operand sum = reduce_rows(c, b, Phase::backward_input, partial, "attention." + name + ".gradient");
    wait_unless_overlapped(c, b, Phase::backward_input);
    product_weight(c.n.rows, dy, x, w, out, in);  // while the gradient is summed over the tp group
    return sum;
  }

  // Returns what it leaves of norm1's gradient.
  Operand query_backward(Operand dq) {
    if (mla().q_rank == 0) {
      return through_latent("input", "attention.q", dq, t.norm1, c.n.q, c.n.hidden);
    }
    const std::int64_t rows = c.n.shard_rows, rank = mla().q_rank;
    const Operand d_norm = through_latent("q_latent", "attention.q_up", dq, t.q_latent_norm, c.n.q, rank);
    const Operand d_latent = scratch("d_q_down", rows * rank);
    normalise_backward(rank, d_norm, t.q_latent, "attention.q_norm", t.q_stats, d_latent);
    const Operand d_norm1 = scratch("d_norm1", rows * c.n.hidden);
    product_input(rows, d_latent, "attention.q_down", d_norm1, rank, c.n.hidden, false);
    product_weight(rows, d_latent, all(t.norm1), "attention.q_down", rank, c.n.hidden);
    return d_norm1;
  }

  void key_value_backward(Operand dkv, Operand dk_rope, Operand d_norm1) {
    const std::int64_t rows = c.n.shard_rows, rank = mla().kv_rank;
    const Operand dk_sum = reduce_rows(c, b, Phase::backward_input, dk_rope, "attention.k_rope.gradient");
    const Operand d_norm = through_latent("kv_latent", "attention.kv_up", dkv, t.kv_latent_norm, kv_cols(), rank);
    const Operand d_latent = scratch("d_kv_norm", rows * rank);
    normalise_backward(rank, d_norm, t.kv_latent, "attention.kv_norm", t.kv_stats, d_latent);
    const Operand d_down = scratch("d_kv_down", rows * down_cols());
    b.emit(split(Direction::backward_input), kCompute, Phase::backward_input, {d_latent, dk_sum}, {d_down});
    product_input(rows, d_down, "attention.kv_down", d_norm1, down_cols(), c.n.hidden, true);
    product_weight(rows, d_down, all(t.norm1), "attention.kv_down", down_cols(), c.n.hidden);
  }
};

}  // namespace

void latent_attention_forward(const LayerEmitter& e, Phase phase) {
  LatentEmitter{e}.forward(phase);
}

void latent_attention_backward(const LayerEmitter& e, BackwardPart part, const ResidualGradients& d) {
  LatentEmitter{e}.backward(part, d);
}

}  // namespace foretrain::plan
