// The MLP half of a layer: x' = x_mid + down(act(up(norm2(x_mid)))), and its backward.
#include "plan/layer_emitter.h"

namespace foretrain::plan {

namespace {

struct MlpEmitter : LayerEmitter {
  void forward(Phase phase) {
    const Dtype a = c.type.activation;
    norm_forward(phase, all(t.x_mid), "norm2", t.norm2, t.stats2);
    const Operand h2 = gather_rows(c, b, phase, all(t.norm2), "mlp.input");
    linear(phase, h2, "mlp.up", c.model.mlp_bias, all(t.up), c.n.ffn_in, c.n.hidden);
    b.emit(Activation{Direction::forward, c.model.activation, c.n.rows, c.n.ffn, a}, kCompute, phase, {all(t.up)},
           {all(t.act)});
    const Operand partial2 = all(c.temporary("mlp.partial", a, c.n.rows * c.n.hidden));
    linear(phase, all(t.act), "mlp.down", false, partial2, c.n.hidden, c.n.ffn);
    const Operand out2 = reduce_rows(c, b, phase, partial2, "mlp.output");
    // Nobody reads the output of a recomputation; frameworks run the whole layer nevertheless.
    const Operand x = phase == Phase::forward ? c.builder.whole(c.residual(), 1)
                                              : all(c.temporary("mlp.output_again", a, c.n.shard_rows * c.n.hidden));
    residual_add(phase, all(t.x_mid), out2, "mlp.down.bias", c.model.mlp_bias, x);
  }

  void backward(BackwardPart part, const ResidualGradients& d) {
    const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
    const Dtype a = c.type.activation;
    if (inputs && c.model.mlp_bias) {
      bias_gradient(d.out, "mlp.down.bias", c.n.shard_rows, c.n.hidden);
    }
    const Operand dy = full_gradient(part, d.out, "mlp.output_gradient");
    const Operand d_act = all(c.temporary("mlp.d_act", a, c.n.rows * c.n.ffn));
    const Operand x = inputs ? Operand{} : input_again("mlp", t.norm2);
    if (inputs) {
      linear_input(dy, "mlp.down", d_act, c.n.hidden, c.n.ffn);
    }
    if (weights) {
      linear_weight(dy, all(t.act), "mlp.down", c.n.hidden, c.n.ffn);
    }
    const Operand d_up = all(c.kept("mlp.d_up", a, c.n.rows * c.n.ffn_in));
    if (inputs) {
      b.emit(Activation{Direction::backward_input, c.model.activation, c.n.rows, c.n.ffn, a}, kCompute,
             Phase::backward_input, {d_act, all(t.up)}, {d_up});
    }
    const Operand d_sum = through_input(part, "mlp", "mlp.up", d_up, c.n.ffn_in, t.norm2, x, c.model.mlp_bias);
    if (inputs) {
      norm_backward(d_sum, all(t.x_mid), t.stats2, "norm2", d.out, d.mid);
    }
  }
};

}  // namespace

void mlp_forward(const LayerEmitter& e, Phase phase) {
  MlpEmitter{e}.forward(phase);
}

void mlp_backward(const LayerEmitter& e, BackwardPart part, const ResidualGradients& d) {
  MlpEmitter{e}.backward(part, d);
}

}  // namespace foretrain::plan
