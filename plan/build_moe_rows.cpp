#include "plan/build_moe_rows.h"

namespace foretrain::plan {

namespace {

MoeBuffers moe_buffers(RoleContext& c, const Recomputed& again, bool in_backward) {
  const ExpertExtents& e = c.e;
  const Dtype a = c.type.activation, w = c.type.statistic;
  const auto saved = [&](const char* name, Dtype dtype, std::int64_t elements) {
    return c.saved(std::string("moe.") + name, dtype, elements, again.all, kMoeLayers);
  };
  const auto read_by_weights = [&](const char* name, Dtype dtype, std::int64_t elements, bool recomputed) {
    return c.read_by_weights(std::string("moe.") + name, dtype, elements, recomputed, in_backward, kMoeLayers);
  };
  const int parts = c.model.moe.aux_loss > 0 ? balanced_parts(c) : 1;
  MoeBuffers t{};
  t.scores = saved("scores", w, e.tokens * e.experts);
  t.chosen = saved("chosen", Dtype::i32, e.choices);
  t.counts = saved("counts", Dtype::i32, e.experts * parts);
  t.place = saved("place", Dtype::i32, e.choices);
  t.order = saved("order", Dtype::i32, e.arriving);
  t.offsets = read_by_weights("offsets", Dtype::i32, e.local + 1, again.all);
  t.to = saved("to", Dtype::i32, e.members);
  t.from = saved("from", Dtype::i32, e.members);
  t.input = read_by_weights("input", a, e.arriving * c.n.hidden, again.all);
  t.weights = saved("weights", w, e.arriving);
  t.up = saved("up", a, e.arriving * e.ffn_in);
  t.act = read_by_weights("act", a, e.arriving * e.ffn, again.activation);
  return t;
}

}  // namespace

int balanced_parts(const RoleContext& c) {
  return (c.e.own_tokens ? c.tp : 1) * static_cast<int>(c.job.strategy.cp);
}

MoeRows::MoeRows(const LayerEmitter& layer, bool in_backward)
    : LayerEmitter(layer), m(moe_buffers(c, again, in_backward)), e(c.e) {}

Operand MoeRows::crossing(const std::string& name, Dtype dtype, std::int64_t elements) {
  return all(c.builder.buffer("moe." + name, dtype, elements, BufferKind::workspace,
                              c.job.strategy.overlap_ep ? Lifetime::segment : Lifetime::block));
}

void MoeRows::bound(int position) {
  if (exchanges()) {
    b.op(position).runtime_extent =
        c.builder.runtime_extent({"expert_rows", e.arriving, "moe.offsets", e.mean, e.stddev, c.groups.ep});
  }
}

Collective MoeRows::collective(Phase phase, CollectiveKind kind, GroupId group, Dtype dtype, std::int64_t elements,
                               const std::string& name) {
  Collective op;
  op.kind = kind;
  op.group = group;
  op.elements = elements;
  op.dtype = dtype;
  op.tag = c.builder.tag((phase == Phase::recompute ? "recompute.moe." : "moe.") + name);
  return op;
}

int MoeRows::permute(Phase phase, Direction d, const Permute& shape, Operand from, Operand place, Operand to) {
  Permute op = shape;
  op.direction = d;
  return b.emit(op, kCompute, phase, {from, place}, {to});
}

// Rows as they arrive and by local expert.
void MoeRows::sort(Phase phase, Direction d, const Permute& shape, Operand from, Operand to) {
  bound(permute(phase, d, {{}, e.arriving, 1, shape.cols, shape.dtype}, from, of(m.order), to));
}

// Rows to the ranks of their experts, or back.
void MoeRows::exchange(Phase phase, const std::string& name, std::int64_t row, Operand from, Operand to, bool back) {
  const Dtype dtype = c.role().buffers[static_cast<std::size_t>(from.buffer)].dtype;
  Collective op = collective(phase, CollectiveKind::all_to_all, c.groups.ep, dtype, e.choices * row, name);
  op.row = row;
  bound(b.emit(op, c.ep_stream(), phase, {from, of(back ? m.from : m.to), of(back ? m.to : m.from)}, {to}));
}

Operand MoeRows::arrived(const std::string& name, const Permute& shape, Operand to) {
  return sorts() ? crossing(name + ".arrived", shape.dtype, e.arriving * shape.cols) : to;
}

Operand MoeRows::returned(const std::string& name, const Permute& shape) {
  return crossing(name + ".returned", shape.dtype, e.choices * shape.cols);
}

void MoeRows::send(Phase phase, const std::string& name, const Permute& shape, Operand x, Operand to) {
  if (!exchanges()) {
    permute(phase, Direction::forward, shape, x, of(m.place), to);
    return;
  }
  const Operand sent = crossing(name + ".sent", shape.dtype, e.choices * shape.cols);
  permute(phase, Direction::forward, shape, x, of(m.place), sent);
  exchange(phase, name + ".dispatch", shape.cols, sent, arrived(name, shape, to), false);
}

void MoeRows::receive(Phase phase, const std::string& name, const Permute& shape, Operand to) {
  if (sorts()) {
    sort(phase, Direction::forward, shape, arrived(name, shape, to), to);
  }
}

void MoeRows::send_back(Phase phase, const std::string& name, const Permute& shape, Operand rows) {
  if (!exchanges()) {
    return;
  }
  Operand leaving = rows;
  if (sorts()) {
    leaving = crossing(name + ".leaving", shape.dtype, e.arriving * shape.cols);
    sort(phase, Direction::backward_input, shape, rows, leaving);
  }
  exchange(phase, name + ".combine", shape.cols, leaving, returned(name, shape), true);
}

void MoeRows::receive_back(Phase phase, const std::string& name, const Permute& shape, Operand rows, Operand x) {
  permute(phase, Direction::backward_input, shape, exchanges() ? returned(name, shape) : rows, of(m.place), x);
}

}  // namespace foretrain::plan
