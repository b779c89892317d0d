// The MLP half of a layer: x' = x_mid + down(act(up(norm2(x_mid)))), and its backward; with norms behind
// x' = norm2(x_mid + down(act(up(x_mid)))).
#include "plan/layer_emitter.h"

namespace foretrain::plan {

namespace {

struct MlpEmitter : LayerEmitter {
  void branch(Phase phase, Operand h, Operand out, bool accumulate) {
    if (fuses_activation()) {
      linear_gelu(phase, h, "mlp.up", c.model.mlp_bias, all(t.up), all(t.act), c.n.ffn, c.n.hidden);
    } else {
      linear(phase, h, "mlp.up", c.model.mlp_bias, all(t.up), c.n.ffn_in, c.n.hidden);
      activate(phase);
    }
    if (!stops_early(phase)) {
      linear_partial(phase, all(t.act), "mlp.down", out, accumulate, c.n.hidden, c.n.ffn);
    }
  }

  Operand branch_backward(BackwardPart part, Operand dy) {
    const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
    const Dtype a = c.type.activation;
    const auto gradient = [&] { return all(c.kept("mlp.d_up", a, c.n.rows * c.n.ffn_in)); };
    const Operand d_act = fuses_activation() ? gradient() : all(c.temporary("mlp.d_act", a, c.n.rows * c.n.ffn));
    if (inputs && fuses_activation()) {
      linear_input_gelu(dy, "mlp.down", all(t.up), d_act, c.n.hidden, c.n.ffn);
    } else if (inputs) {
      linear_input(dy, "mlp.down", d_act, c.n.hidden, c.n.ffn);
    }
    if (weights) {
      linear_weight(dy, all(t.act), "mlp.down", c.n.hidden, c.n.ffn);
    }
    const Operand d_up = gradient();
    if (inputs && !fuses_activation()) {
      b.emit(Activation{Direction::backward_input, c.model.activation, c.n.rows, c.n.ffn, a}, kCompute,
             Phase::backward_input, {d_act, all(t.up)}, {d_up});
    }
    return d_up;
  }

  bool fuses_activation() const {
    return c.job.strategy.fused_activation && c.model.activation == workloads::Activation::gelu;
  }

  void activate(Phase phase) {
    b.emit(Activation{Direction::forward, c.model.activation, c.n.rows, c.n.ffn, c.type.activation}, kCompute, phase,
           {all(t.up)}, {all(t.act)});
  }

  // Of the list's modules; what a layer that shares its norm has of norms, attention_again computes.
  void compute_again() {
    const Operand x = c.model.parallel_residual ? input() : all(t.x_mid);
    if (again.norms && !c.model.shared_norm) {
      norm_forward(Phase::recompute, x, "norm2", all(t.norm2), t.stats2);
    }
    if (again.mlp) {
      behind_norm(Phase::recompute);
    } else if (again.activation) {
      activate(Phase::recompute);
    }
  }

  BufferId branch_input() const { return c.model.norms_behind() ? t.x_mid : c.model.shared_norm ? t.norm1 : t.norm2; }

  Operand behind_norm(Phase phase) {
    const Operand h2 = gather_rows(c, b, phase, all(branch_input()), "mlp.input");
    const Operand partial2 = all(c.temporary("mlp.partial", c.type.activation, c.n.rows * c.n.hidden));
    branch(phase, h2, partial2, false);
    return stops_early(phase) ? Operand{} : reduce_rows(c, b, phase, partial2, "mlp.output");
  }

  void forward(Phase phase) {
    if (!c.model.norms_behind()) {
      norm_forward(phase, all(t.x_mid), "norm2", all(t.norm2), t.stats2);
    }
    const Operand out2 = behind_norm(phase);
    if (!stops_early(phase)) {
      add_half(phase, all(t.x_mid), out2, "mlp.down.bias", c.model.mlp_bias, t.sum2, "norm2", t.stats2, output(phase));
    }
  }

  void backward(BackwardPart part, const ResidualGradients& d) {
    const bool inputs = part != BackwardPart::weight;
    if (inputs) {
      mlp_again(*this);
    }
    const Operand d_out = half_gradient(part, d.out, t.sum2, t.stats2, "norm2", "mlp");
    if (inputs && c.model.mlp_bias) {
      bias_gradient(d_out, "mlp.down.bias", c.n.shard_rows, c.n.hidden);
    }
    const Operand dy = full_gradient(part, d_out, "mlp.output_gradient");
    const Operand x = inputs ? Operand{} : input_again("mlp", all(branch_input()));
    const Operand d_up = branch_backward(part, dy);
    const Operand d_branch =
        through_input(part, "mlp", "mlp.up", d_up, c.n.ffn_in, all(branch_input()), x, c.model.mlp_bias);
    if (inputs) {
      add_half_gradient(d_branch, d_out, all(t.x_mid), t.stats2, "norm2", d.mid);
    }
  }
};

}  // namespace

void mlp_branch(const LayerEmitter& e, Phase phase, Operand h, Operand out, bool accumulate) {
  MlpEmitter{e}.branch(phase, h, out, accumulate);
}

Operand mlp_branch_backward(const LayerEmitter& e, BackwardPart part, Operand dy) {
  return MlpEmitter{e}.branch_backward(part, dy);
}

void mlp_again(const LayerEmitter& e) {
  if (!e.again.all) {
    MlpEmitter{e}.compute_again();
  }
}

void mlp_forward(const LayerEmitter& e, Phase phase) {
  MlpEmitter{e}.forward(phase);
}

void mlp_backward(const LayerEmitter& e, BackwardPart part, const ResidualGradients& d) {
  MlpEmitter{e}.backward(part, d);
}

}  // namespace foretrain::plan
