// How the rows of a layer with experts travel: from its tokens to the ranks of their experts, sorted by local expert
// there, and back. The tables that say so are of the router (build_moe.cpp).
#pragma once

#include "plan/layer_emitter.h"

namespace foretrain::plan {

struct MoeBuffers {
  BufferId scores, chosen, counts, place, order, offsets, to, from, input, weights, up, act;
};

// Ranks that route tokens of one microbatch.
int balanced_parts(const RoleContext& c);

struct MoeRows : LayerEmitter {
  MoeBuffers m;
  const ExpertExtents& e;

  MoeRows(const LayerEmitter& layer, bool in_backward);

  Operand of(BufferId buffer) const { return all(buffer); }
  Operand temporary(const std::string& name, Dtype dtype, std::int64_t elements) {
    return all(c.temporary("moe." + name, dtype, elements));
  }
  Operand kept(const std::string& name, Dtype dtype, std::int64_t elements) {
    return of(c.kept("moe." + name, dtype, elements, kMoeLayers));
  }
  // Between two parts of a layer, which other blocks may stand between; else inside a block.
  Operand crossing(const std::string& name, Dtype dtype, std::int64_t elements);
  // Of what weight gradients read.
  Operand kept_or_crossing(const std::string& name, Dtype dtype, std::int64_t elements) {
    return c.splits ? kept(name, dtype, elements) : crossing(name, dtype, elements);
  }

  bool exchanges() const { return c.groups.ep != kNoGroup; }
  // The rows of an op that depend on what all ranks route here.
  void bound(int position);
  Collective collective(Phase phase, CollectiveKind kind, GroupId group, Dtype dtype, std::int64_t elements,
                        const std::string& name);

  // Shapes of what travels: tokens with top_k copies, or choices with one.
  Permute of_tokens() const { return {{}, e.tokens, c.model.moe.top_k, c.n.hidden, c.type.activation}; }
  Permute of_weights() const { return {{}, e.choices, 1, 1, c.type.statistic}; }

  // x[copies of each choice] on the way to rows by local expert in `to`, where receive() leaves them.
  void send(Phase phase, const std::string& name, const Permute& shape, Operand x, Operand to);
  void receive(Phase phase, const std::string& name, const Permute& shape, Operand to);
  // The way back: x = the sum of each row's copies.
  void send_back(Phase phase, const std::string& name, const Permute& shape, Operand rows);
  void receive_back(Phase phase, const std::string& name, const Permute& shape, Operand rows, Operand x);

 private:
  // Rows of one expert arrive from several ranks, and those of others between them.
  bool sorts() const { return exchanges() && e.local > 1; }
  int permute(Phase phase, Direction d, const Permute& shape, Operand from, Operand place, Operand to);
  void sort(Phase phase, Direction d, const Permute& shape, Operand from, Operand to);
  void exchange(Phase phase, const std::string& name, std::int64_t row, Operand from, Operand to, bool back);
  Operand arrived(const std::string& name, const Permute& shape, Operand to);
  Operand returned(const std::string& name, const Permute& shape);
};

}  // namespace foretrain::plan
