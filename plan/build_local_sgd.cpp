// Local SGD: replicas take steps of their own, and every so many of them their weights (master weights, where there are
// some) are summed over the replicas, bucket behind bucket, and divided; or an outer optimizer goes on from where the
// last average ended. The inner optimizer's state stays where it is, as DiLoCo has it.
#include "plan/build_update.h"

namespace foretrain::plan {

namespace {

BufferId weights_of(const ParameterFamily& f) {
  return f.master >= 0 ? f.master : f.parameter;
}

// Of the outer optimizer; computed in as weights are.
BufferId outer_state(RoleContext& c, const ParameterFamily& f, const char* what) {
  const Dtype weights = c.role().buffers[static_cast<std::size_t>(weights_of(f))].dtype;
  return c.builder.buffer(f.name + "." + what, weights == Dtype::fp64 ? Dtype::fp64 : Dtype::fp32, f.elements,
                          BufferKind::optimizer_state, Lifetime::persistent, f.layers, f.layer_list);
}

Operand range_of(const ParameterFamily& f, BufferId buffer, std::int32_t layers) {
  return {buffer, 0, kNoGroup, 0, f.elements * layers, 0};
}

EventId averaged(RoleContext& c) {
  return c.builder.event("averaged", Replicas::once);
}

BlockId sum_block(RoleContext& c, const BucketRange& r) {
  const ParameterFamily& f = c.family(r.family);
  BlockBuilder b(c.role(), "average.sum." + f.name);
  const Operand weights = range_of(f, weights_of(f), r.layers);
  Collective op;
  op.kind = CollectiveKind::all_reduce;
  op.group = c.groups.averaged;
  op.elements = weights.elements;
  op.dtype = c.role().buffers[static_cast<std::size_t>(weights.buffer)].dtype;
  op.tag = c.builder.tag("average." + f.name);
  b.op(b.emit(op, c.replicas_stream(), Phase::param_gather, {weights}, {weights})).records = {averaged(c)};
  return c.builder.add(b.take());
}

BlockId step_block(RoleContext& c, const BucketRange& r) {
  const ParameterFamily& f = c.family(r.family);
  BlockBuilder b(c.role(), "average.step." + f.name);
  OuterStep op;
  op.outer = c.job.strategy.outer;
  op.elements = f.elements * r.layers;
  op.replicas = static_cast<std::int32_t>(c.job.strategy.drifting());
  op.weights = c.role().buffers[static_cast<std::size_t>(weights_of(f))].dtype;
  op.anchor = op.weights == Dtype::fp64 ? Dtype::fp64 : Dtype::fp32;
  op.parameter = c.type.parameter;
  op.has_master = f.master >= 0;
  std::vector<Operand> state{range_of(f, weights_of(f), r.layers)};
  if (op.outer.kind != OuterKind::average) {
    state.push_back(range_of(f, outer_state(c, f, "anchor"), r.layers));
  }
  if (op.outer.kind == OuterKind::nesterov) {
    state.push_back(range_of(f, outer_state(c, f, "outer_momentum"), r.layers));
  }
  std::vector<Operand> writes = state;
  if (op.has_master) {
    writes.push_back(range_of(f, f.parameter, r.layers));
  }
  b.emit(op, kCompute, Phase::optimizer, std::move(state), std::move(writes));
  return c.builder.add(b.take());
}

}  // namespace

SegmentId average_segment(RoleContext& c) {
  Segment s;
  s.name = "average";
  const std::vector<BucketRange> buckets = all_buckets(c, true);
  for (const BucketRange& r : buckets) {
    s.calls.push_back(call_at(r, sum_block(c, r)));
  }
  BlockBuilder summed(c.role(), "average.summed");
  summed.join(Phase::optimizer, {averaged(c)});
  s.calls.push_back({c.builder.add(summed.take()), 1, -1, 1});
  for (const BucketRange& r : buckets) {
    s.calls.push_back(call_at(r, step_block(c, r)));
  }
  return c.builder.add(std::move(s));
}

SegmentId anchor_segment(RoleContext& c) {
  BlockBuilder b(c.role(), "anchor");
  for (std::size_t i = 0; i < c.role().parameter_families.size(); ++i) {
    const ParameterFamily f = c.family(static_cast<Family>(i));
    if (f.parameter < 0) {
      continue;
    }
    const Operand weights = range_of(f, weights_of(f), std::max(1, f.layers));
    const Operand anchor = range_of(f, outer_state(c, f, "anchor"), std::max(1, f.layers));
    const auto type = [&](const Operand& o) { return c.role().buffers[static_cast<std::size_t>(o.buffer)].dtype; };
    b.emit(Cast{weights.elements, type(weights), type(anchor)}, kCompute, Phase::optimizer, {weights}, {anchor});
  }
  return c.builder.add(Segment{"anchor", -1, 0, {{c.builder.add(b.take()), 1, -1, 1}}});
}

}  // namespace foretrain::plan
