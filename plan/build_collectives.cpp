// Tensor-parallel communication. Without sequence parallelism activations are replicated: partial sums are all-reduced
// and nothing is gathered. With it, rows are sharded: partial sums are reduce-scattered and rows gathered again where a
// column-parallel matmul needs all of them (Korthikanti et al. 2022, section 4.2.2). Rows are sharded as flat token
// rows.
#include "plan/layer_emitter.h"

namespace foretrain::plan {

namespace {

std::string_view prefix(Phase p) {
  return p == Phase::recompute ? "recompute." : "";
}

Collective collective(RoleContext& c, CollectiveKind kind, std::int64_t elements, Phase phase,
                      const std::string& name) {
  Collective op;
  op.kind = kind;
  op.group = c.groups.tp;
  op.elements = elements;
  op.dtype = c.type.activation;
  op.tag = c.builder.tag(std::string(prefix(phase)) + c.named(name));
  return op;
}

}  // namespace

Operand gather_rows(RoleContext& c, BlockBuilder& b, Phase phase, Operand shard, const std::string& name) {
  if (!c.sequence_parallel) {
    return shard;
  }
  const Operand full = c.builder.whole(c.temporary(name + ".full", c.type.activation, shard.elements * c.tp));
  gather_rows_into(c, b, phase, shard, full, name);
  return full;
}

void gather_rows_into(RoleContext& c, BlockBuilder& b, Phase phase, Operand shard, Operand full,
                      const std::string& name) {
  b.emit(collective(c, CollectiveKind::all_gather, full.elements, phase, name + ".gather"), c.tp_stream(), phase,
         {shard}, {full});
}

Operand reduce_rows(RoleContext& c, BlockBuilder& b, Phase phase, Operand partial, const std::string& name) {
  const Operand sum = c.sequence_parallel
                          ? c.builder.whole(c.temporary(name + ".shard", c.type.activation, partial.elements / c.tp))
                          : partial;
  reduce_rows_into(c, b, phase, partial, sum, name);
  return sum;
}

void reduce_rows_into(RoleContext& c, BlockBuilder& b, Phase phase, Operand partial, Operand sum,
                      const std::string& name) {
  if (c.groups.tp != kNoGroup) {
    const CollectiveKind kind = c.sequence_parallel ? CollectiveKind::reduce_scatter : CollectiveKind::all_reduce;
    b.emit(collective(c, kind, partial.elements, phase, name + ".reduce"), c.tp_stream(), phase, {partial}, {sum});
  }
}

void wait_unless_overlapped(RoleContext& c, BlockBuilder& b, Phase phase) {
  if (!c.job.strategy.overlap_tp && c.groups.tp != kNoGroup) {
    b.join_open(phase);
  }
}

void reduce_replicated(RoleContext& c, BlockBuilder& b, Family f, const std::string& first_replicated) {
  const ParameterFamily& family = c.family(f);
  const auto reduce = [&](GroupId group, std::int64_t offset, std::int64_t elements, const std::string& what) {
    const Operand range{c.use(f).gradient, 0, kNoGroup, offset, elements, 0};
    Collective op;
    op.kind = CollectiveKind::all_reduce;
    op.group = group;
    op.elements = elements;
    op.dtype = c.type.gradient;
    op.tag = c.builder.tag(family.name + "." + what);
    b.op(b.emit(op, c.tp_stream(), Phase::grad_reduce, {range}, {range})).records = {c.replicated_reduced()};
  };
  if (c.sequence_parallel && c.has_parameter(f, first_replicated)) {
    const bool heads = f == kLayer && c.model.qk_norm;
    const Operand first = c.gradient(f, heads ? "attention.q_norm.gain" : first_replicated);
    reduce(c.groups.tp, first.offset, family.elements - first.offset, "replicated.reduce");
  }
  if (f == kLayer && !c.sequence_parallel && c.groups.tp != kNoGroup && c.model.qk_norm) {
    const Operand first = c.gradient(f, "attention.q_norm.gain");
    reduce(c.groups.tp, first.offset, c.gradient(f, first_replicated).offset - first.offset, "head_norm.reduce");
  }
  if (f == kLayer && c.groups.kv != kNoGroup) {
    const Operand weight = c.gradient(f, "attention.qkv.weight");
    reduce(c.groups.kv, weight.offset + c.n.q * c.n.hidden, 2 * c.n.kv * c.n.hidden, "kv_weight.reduce");
    if (c.model.attention_bias) {
      const Operand bias = c.gradient(f, "attention.qkv.bias");
      reduce(c.groups.kv, bias.offset + c.n.q, 2 * c.n.kv, "kv_bias.reduce");
    }
  }
}

void reduce_routers(RoleContext& c, BlockBuilder& b) {
  if (c.groups.tp == kNoGroup) {
    return;
  }
  std::vector<std::string> names{"moe.router.weight"};
  if (c.model.moe.bias) {
    names.emplace_back("moe.router.bias");
  }
  if (c.model.moe.shared_gate) {
    names.emplace_back("moe.shared_gate.weight");
  }
  for (const std::string& name : names) {
    const Operand dw = c.gradient(kMoe, name);
    Collective op;
    op.kind = CollectiveKind::all_reduce;
    op.group = c.groups.tp;
    op.elements = dw.elements;
    op.dtype = c.type.gradient;
    op.tag = c.builder.tag(name + ".reduce");
    b.op(b.emit(op, c.tp_stream(), Phase::grad_reduce, {dw}, {dw})).records = {c.replicated_reduced()};
  }
}

}  // namespace foretrain::plan
