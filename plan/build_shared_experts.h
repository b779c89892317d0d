// The experts of a layer that every token goes to, beside the routed ones: an MLP that tp cuts as any other,
//   out = down(g act(up(h))),   g = sigmoid(w h) where they have a gate of their own (Qwen1.5-MoE), else 1,
// and its backward. Used by build_moe.cpp only.
#pragma once

#include "plan/layer_emitter.h"

namespace foretrain::plan {

// Requires: the layer has shared experts. `rows` are all rows of the norm's output. What goes out is a partial sum of
// the tp ranks.
struct SharedExperts : LayerEmitter {
  SharedExperts(const LayerEmitter& layer, bool in_backward);

  void forward(Phase phase, Operand rows, Operand out);
  // The part of forward that a list of modules has the backward compute again.
  void activate(Phase phase);
  void backward(BackwardPart part, Operand dy, Operand rows, Operand d_input);

 private:
  bool has_gate() const { return c.model.moe.shared_gate; }
  Operand temporary(const std::string& name, Dtype dtype, std::int64_t elements);
  Operand kept(const std::string& name, Dtype dtype, std::int64_t elements);
  Work activation(Direction d) const;
  Gate gate(Direction d) const;
  void weigh(Phase phase, Operand rows);
  void gate_input(Operand d_weights, Operand d_logits, Operand d_input);

  const ExpertExtents& e;
  BufferId up, act;
  BufferId weights{}, chosen{};  // of the gate
};

}  // namespace foretrain::plan
