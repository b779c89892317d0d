// A Mamba-2 mixer in attention's place: x_mid = x + out(scan(in(norm1(x)))), and its backward. What stands between the
// projections is one op, forecast and not run. Of the weight gradients a split backward puts off the projections'.
#include "plan/layer_emitter.h"

namespace foretrain::plan {

namespace {

struct StateSpaceEmitter : LayerEmitter {
  StateSpace scan(Direction direction) const {
    const workloads::Ssm& s = c.model.ssm;
    return {direction, c.n.batch,       c.n.seq, s.heads / c.tp, s.head_dim,
            s.state,   s.groups / c.tp, s.conv,  s.chunk,        c.type.activation};
  }

  void forward(Phase phase) {
    const Operand x = input();
    norm_forward(phase, x, "norm1", all(t.norm1), t.stats1);
    const Operand h = gather_rows(c, b, phase, all(t.norm1), "mixer.input");
    linear(phase, h, "ssm.in", false, all(t.qkv), c.n.ssm_in, c.n.hidden);
    b.emit(scan(Direction::forward), kCompute, phase, {all(t.qkv), weight("ssm.vectors")}, {all(t.context)});
    const Operand partial = all(c.temporary("attention.partial", c.type.activation, c.n.rows * c.n.hidden));
    linear_partial(phase, all(t.context), "ssm.out", partial, false, c.n.hidden, c.n.ssm_inner);
    const Operand out = reduce_rows(c, b, phase, partial, "mixer.output");
    residual_add(phase, x, out, "", false, all(t.x_mid));
  }

  void backward(BackwardPart part, const ResidualGradients& d) {
    const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
    if (inputs) {
      attention_again(*this);
    }
    const Operand dy = full_gradient(part, d.mid, "mixer.output_gradient");
    const Operand x = inputs ? Operand{} : input_again("mixer", all(t.norm1));
    const Operand d_inner = all(c.temporary("mixer.d_inner", c.type.activation, c.n.rows * c.n.ssm_inner));
    const Operand d_in = all(c.kept("mixer.d_in", c.type.activation, c.n.rows * c.n.ssm_in));
    if (inputs) {
      linear_input(dy, "ssm.out", d_inner, c.n.hidden, c.n.ssm_inner);
    }
    if (weights) {
      linear_weight(dy, all(t.context), "ssm.out", c.n.hidden, c.n.ssm_inner);
    }
    if (inputs) {
      const Operand sum = grad("ssm.vectors");
      b.emit(scan(Direction::backward_input), kCompute, Phase::backward_input,
             {d_inner, all(t.qkv), weight("ssm.vectors"), sum}, {d_in, sum});
    }
    const Operand d_sum = through_input(part, "mixer", "ssm.in", d_in, c.n.ssm_in, all(t.norm1), x, false);
    if (inputs) {
      norm_backward(d_sum, input(), t.stats1, "norm1", d.mid, d.in);
    }
  }
};

}  // namespace

void state_space_forward(const LayerEmitter& e, Phase phase) {
  StateSpaceEmitter{e}.forward(phase);
}

void state_space_backward(const LayerEmitter& e, BackwardPart part, const ResidualGradients& d) {
  StateSpaceEmitter{e}.backward(part, d);
}

}  // namespace foretrain::plan
