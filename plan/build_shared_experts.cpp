#include "plan/build_shared_experts.h"

namespace foretrain::plan {

SharedExperts::SharedExperts(const LayerEmitter& layer, bool in_backward) : LayerEmitter(layer), e(c.e) {
  const auto saved = [&](const char* name, Dtype dtype, std::int64_t elements) {
    return c.saved(std::string("moe.shared_") + name, dtype, elements, again.all, kMoeLayers);
  };
  const Dtype a = c.type.activation;
  up = saved("up", a, c.n.rows * e.shared_in);
  act = c.read_by_weights("moe.shared_act", a, c.n.rows * e.shared, again.activation, in_backward, kMoeLayers);
  if (has_gate()) {
    weights = saved("weights", c.type.statistic, c.n.rows);
    chosen = saved("chosen", Dtype::i32, c.n.rows);
  }
}

Operand SharedExperts::temporary(const std::string& name, Dtype dtype, std::int64_t elements) {
  return all(c.temporary("moe.shared." + name, dtype, elements));
}
Operand SharedExperts::kept(const std::string& name, Dtype dtype, std::int64_t elements) {
  return all(c.kept("moe.shared." + name, dtype, elements, kMoeLayers));
}

void SharedExperts::forward(Phase phase, Operand rows, Operand out) {
  linear(phase, rows, "moe.shared.up", false, all(up), e.shared_in, c.n.hidden);
  if (has_gate()) {
    weigh(phase, rows);
  }
  activate(phase);
  linear(phase, all(act), "moe.shared.down", false, out, c.n.hidden, e.shared);
}

void SharedExperts::activate(Phase phase) {
  std::vector<Operand> reads{all(up)};
  if (has_gate()) {
    reads.push_back(all(weights));
  }
  b.emit(activation(Direction::forward), kCompute, phase, std::move(reads), {all(act)});
}

// The gate weighs what goes into the last matmul, as weights do with the routed experts'.
Work SharedExperts::activation(Direction d) const {
  if (has_gate()) {
    return ExpertActivation{d, c.model.activation, 0, c.n.rows, e.shared, c.type.activation};
  }
  return Activation{d, c.model.activation, c.n.rows, e.shared, c.type.activation};
}

// A sigmoid of one logit per token: a gate that chooses one of one.
Gate SharedExperts::gate(Direction d) const {
  Gate g;
  g.direction = d;
  g.tokens = c.n.rows;
  g.experts = g.top_k = 1;
  g.router = workloads::Router::sigmoid;
  g.normalize = false;
  g.dtype = c.type.statistic;
  return g;
}

void SharedExperts::weigh(Phase phase, Operand rows) {
  const Operand logits = temporary("gate_logits", c.type.statistic, c.n.rows);
  const Matmul to_logits{c.n.rows, 1, c.n.hidden, false, true, false, false, c.type.activation, c.type.statistic};
  b.emit(to_logits, kCompute, phase, {rows, weight("moe.shared_gate.weight")}, {logits});
  const Operand scores = temporary("gate_scores", c.type.statistic, c.n.rows);
  b.emit(gate(Direction::forward), kCompute, phase, {logits}, {scores, all(weights), all(chosen)});
}

void SharedExperts::backward(BackwardPart part, Operand dy, Operand rows, Operand d_input) {
  const bool of_inputs = part != BackwardPart::weight, of_weights = part != BackwardPart::input;
  const Dtype a = c.type.activation;
  const Operand d_up = kept("d_up", a, c.n.rows * e.shared_in);
  const Operand d_logits = has_gate() ? kept("d_gate_logits", c.type.statistic, c.n.rows) : Operand{};
  if (of_inputs) {
    const Operand d_act = temporary("d_act", a, c.n.rows * e.shared);
    linear_input(dy, "moe.shared.down", d_act, c.n.hidden, e.shared);
    std::vector<Operand> reads{d_act, all(up)}, writes{d_up};
    const Operand d_weights = temporary("d_weights", c.type.statistic, c.n.rows);
    if (has_gate()) {
      reads.push_back(all(weights));
      writes.push_back(d_weights);
    }
    b.emit(activation(Direction::backward_input), kCompute, Phase::backward_input, std::move(reads), std::move(writes));
    linear_input(d_up, "moe.shared.up", d_input, e.shared_in, c.n.hidden);
    if (has_gate()) {
      gate_input(d_weights, d_logits, d_input);
    }
  }
  if (of_weights) {
    linear_weight(dy, all(act), "moe.shared.down", c.n.hidden, e.shared);
    linear_weight(d_up, rows, "moe.shared.up", e.shared_in, c.n.hidden);
    if (has_gate()) {
      const Matmul to_weight{1, c.n.hidden, c.n.rows, true, false, false, true, c.type.statistic, c.type.gradient};
      emit_weight_gradient(c, b, to_weight, d_logits, rows, grad("moe.shared_gate.weight"));
    }
  }
}

// A rank of tp has its part of the weights' gradients: sums over tp are left to those of the inputs and the weight.
void SharedExperts::gate_input(Operand d_weights, Operand d_logits, Operand d_input) {
  const Phase phase = Phase::backward_input;
  b.emit(gate(Direction::backward_input), kCompute, phase, {all(weights), all(chosen), d_weights}, {d_logits});
  const Matmul to_input{c.n.rows, c.n.hidden, 1, false, false, false, true, c.type.statistic, c.type.activation};
  b.emit(to_input, kCompute, phase, {d_logits, weight("moe.shared_gate.weight"), d_input}, {d_input});
}

}  // namespace foretrain::plan
