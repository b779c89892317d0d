// A layer whose halves both read x, as in GPT-NeoX and GPT-J: x' = x + attention(norm1(x)) + mlp(norm2(x)), with one
// norm for both where the model shares it. The halves' partial sums are added before they are summed over the tp group,
// so that a layer has one reduction per direction (GPT-NeoX's gpt_j_residual), but one per norm of its input gradients.
#include "plan/layer_emitter.h"

namespace foretrain::plan {

namespace {

struct ParallelEmitter : LayerEmitter {
  bool shared() const { return c.model.shared_norm; }

  void forward(Phase phase) {
    const Operand x = input();
    norm_forward(phase, x, "norm1", all(t.norm1), t.stats1);
    const Operand h1 = gather_rows(c, b, phase, all(t.norm1), "attention.input");
    Operand h2 = h1;
    if (!shared()) {
      norm_forward(phase, x, "norm2", all(t.norm2), t.stats2);
      h2 = gather_rows(c, b, phase, all(t.norm2), "mlp.input");
    }
    const Operand partial = all(c.temporary("layer.partial", c.type.activation, c.n.rows * c.n.hidden));
    attention_branch(*this, phase, h1, partial, false);
    mlp_branch(*this, phase, h2, partial, true);
    if (stops_early(phase)) {
      return;
    }
    const Operand out = reduce_rows(c, b, phase, partial, "layer.output");
    add(phase, x, out, output(phase));
  }

  // The output biases of both halves, where there are any: the first with the sum, the second in a pass of its own.
  void add(Phase phase, Operand x, Operand out, Operand y) {
    const bool both = c.model.output_bias && c.model.mlp_bias;
    residual_add(phase, x, out, c.model.output_bias ? "attention.out.bias" : "mlp.down.bias",
                 c.model.output_bias || c.model.mlp_bias, y);
    if (both) {
      b.emit(PositionAdd{Direction::forward, c.n.shard_rows, c.n.hidden, 1, kNoGroup, c.type.activation}, kCompute,
             phase, {y, weight("mlp.down.bias")}, {y});
    }
  }

  void backward(BackwardPart part) {
    const bool inputs = part != BackwardPart::weight;
    const Operand d_out =
        c.keeps_residual_gradients() ? c.builder.whole(c.residual_gradient(), 1) : all(c.residual_gradient());
    if (inputs) {
      attention_again(*this);
      mlp_again(*this);
    }
    if (inputs && c.model.output_bias) {
      bias_gradient(d_out, "attention.out.bias", c.n.shard_rows, c.n.hidden);
    }
    if (inputs && c.model.mlp_bias) {
      bias_gradient(d_out, "mlp.down.bias", c.n.shard_rows, c.n.hidden);
    }
    const Operand dy = full_gradient(part, d_out, "layer.output_gradient");
    if (shared()) {
      backward_of_one_norm(part, dy, d_out);
    } else {
      backward_of_two_norms(part, dy, d_out);
    }
  }

  void backward_of_two_norms(BackwardPart part, Operand dy, Operand d_out) {
    const bool inputs = part != BackwardPart::weight;
    const Operand x2 = inputs ? Operand{} : input_again("mlp", all(t.norm2));
    const Operand x1 = inputs ? Operand{} : input_again("attention", all(t.norm1));
    const Operand d_up = mlp_branch_backward(*this, part, dy);
    const Operand d_sum2 = through_input(part, "mlp", "mlp.up", d_up, c.n.ffn_in, all(t.norm2), x2, c.model.mlp_bias);
    const Operand d_qkv = attention_branch_backward(*this, part, dy);
    const Operand d_sum1 =
        through_input(part, "attention", "attention.qkv", d_qkv, c.n.qkv, all(t.norm1), x1, c.model.attention_bias);
    if (inputs) {
      const Operand x = input(), dx = all(c.residual_gradient());
      norm_backward(d_sum2, x, t.stats2, "norm2", d_out, dx);
      norm_backward(d_sum1, x, t.stats1, "norm1", dx, dx);
    }
  }

  void backward_of_one_norm(BackwardPart part, Operand dy, Operand d_out) {
    const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
    Operand x = inputs ? Operand{} : input_again("layer", all(t.norm1));
    const Operand d_up = mlp_branch_backward(*this, part, dy);
    const Operand d_qkv = attention_branch_backward(*this, part, dy);
    Operand dx = all(c.temporary("layer.d_input", c.type.activation, c.n.rows * c.n.hidden));
    if (part == BackwardPart::whole) {
      x = input_again("layer", all(t.norm1));
    }
    if (inputs) {
      linear_input(d_up, "mlp.up", dx, c.n.ffn_in, c.n.hidden);
      linear_input(d_qkv, "attention.qkv", dx, c.n.qkv, c.n.hidden, true);
      dx = reduce_rows(c, b, Phase::backward_input, dx, "layer.input_gradient");
      wait_unless_overlapped(c, b, Phase::backward_input);
    }
    if (weights) {
      linear_weight(d_up, x, "mlp.up", c.n.ffn_in, c.n.hidden);
      linear_weight(d_qkv, x, "attention.qkv", c.n.qkv, c.n.hidden);
    }
    if (inputs) {
      if (c.model.mlp_bias) {
        bias_gradient(d_up, "mlp.up.bias", c.n.rows, c.n.ffn_in);
      }
      if (c.model.attention_bias) {
        bias_gradient(d_qkv, "attention.qkv.bias", c.n.rows, c.n.qkv);
      }
      norm_backward(dx, input(), t.stats1, "norm1", d_out, all(c.residual_gradient()));
    }
  }
};

}  // namespace

void parallel_forward(const LayerEmitter& e, Phase phase) {
  ParallelEmitter{e}.forward(phase);
}

void parallel_backward(const LayerEmitter& e, BackwardPart part) {
  ParallelEmitter{e}.backward(part);
}

}  // namespace foretrain::plan
