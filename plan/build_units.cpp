// Parameters and gradients that are whole only while they are used (ZeRO-2, ZeRO-3). A unit is a layer, the embedding
// or the head, as models are commonly wrapped in PyTorch's FSDP2, whose order this is:
//  - a unit's parameters are gathered into a transient copy while the units before it compute; copies are used in turn,
//    and a gather begins when compute has left the unit that had the copy;
//  - a unit's backward adds to a transient gradient, which is cleared first and reduce-scattered behind the backward of
//    the next unit. Compute goes on to the one after that when the transient gradient is free again;
//  - across replicas (HSDP) the parts are summed after the step's last microbatch.
// Gathers and reductions share a stream: they use one communicator, which takes them in order.
#include <algorithm>

#include "plan/build_update.h"

namespace foretrain::plan {

namespace {

EventId gathered(RoleContext& c, Family f) {
  return c.builder.event(c.family(f).name + ".gathered", f == kLayer ? Replicas::per_layer : Replicas::once);
}

Operand whole_unit(RoleContext& c, Family f, BufferId buffer) {
  return {buffer, 0, kNoGroup, 0, c.family(f).elements, 0};
}

}  // namespace

int emit_unit_gather(RoleContext& c, BlockBuilder& b, Family f, bool again) {
  const ParameterFamily& unit = c.family(f);
  Collective op;
  op.kind = CollectiveKind::all_gather;
  op.group = c.shard_group(f);
  op.elements = unit.elements;
  op.dtype = c.type.parameter;
  op.tag = c.builder.tag("parameters.gather." + unit.name + (again ? ".again" : ""));
  return b.emit(op, c.dp_stream(), Phase::param_gather, {own_part(c, bucket_of(c, f, 1), unit.parameter)},
                {whole_unit(c, f, c.use(f).parameter)});
}

void await_unit(RoleContext& c, BlockBuilder& b, Family f, Phase phase) {
  if (c.use(f).gathers) {
    b.join(phase, {gathered(c, f)});
  }
}

std::vector<Family> layer_unit(const RoleContext& c, bool more) {
  if (!c.has_experts()) {
    return more ? std::vector<Family>{kLayer, kCross} : std::vector<Family>{kLayer};
  }
  return more ? std::vector<Family>{kLayer, kMoe, kExperts} : std::vector<Family>{kLayer, kMlp};
}

void clear_unit(RoleContext& c, BlockBuilder& b, Family f) {
  if (c.use(f).reduces) {
    const Operand gradient = whole_unit(c, f, c.use(f).gradient);
    b.emit(Fill{gradient.elements, c.type.gradient}, kCompute, Phase::backward_weight, {}, {gradient});
  }
}

BlockId await_scattered(RoleContext& c) {
  BlockBuilder b(c.role(), "gradients.free");
  b.join(Phase::grad_reduce, {c.scattered()});
  return c.builder.add(b.take());
}

namespace {

// One family's whole gradient to its owners; returns the positions of what scatters it and of the last op.
std::pair<int, int> emit_unit_reduce(RoleContext& c, BlockBuilder& b, Family f, bool last) {
  const ParameterFamily& unit = c.family(f);
  const Bucket bucket = bucket_of(c, f, 1);
  Collective op;
  op.kind = CollectiveKind::reduce_scatter;
  op.group = bucket.shard_group;
  op.elements = bucket.elements;
  op.dtype = c.type.gradient;
  op.tag = c.builder.tag("gradients.reduce." + unit.name);
  const Operand stored = own_part(c, bucket, unit.gradient);
  const std::int64_t part = stored.elements;
  Operand received = stored;
  if (c.accumulates_reduced()) {
    const BufferId apart = c.builder.buffer(unit.name + ".gradients.part", c.type.gradient, part,
                                            BufferKind::communication, Lifetime::persistent);
    received = {apart, 0, kNoGroup, 0, part, 0};
  }
  const int scattered =
      b.emit(op, c.dp_stream(), Phase::grad_reduce, {whole_unit(c, f, c.use(f).gradient)}, {received});
  int at = scattered;
  if (c.accumulates_reduced()) {
    at = b.emit(Accumulate{part, c.type.gradient, c.type.gradient}, c.dp_stream(), Phase::grad_reduce,
                {received, stored}, {stored});
  }
  if (last && c.groups.replicas != kNoGroup) {
    at = emit_reduce_across(c, b, stored, unit.name);
  }
  return {scattered, at};
}

}  // namespace

BlockId reduce_unit(RoleContext& c, const std::vector<Family>& families, bool last) {
  BlockBuilder b(c.role(), "gradients.reduce." + c.family(families.back()).name + (last ? ".last" : ""));
  std::vector<EventId> waits = local_gradients_done(c);
  waits.push_back(c.scattered());
  b.join(Phase::grad_reduce, std::move(waits));
  std::pair<int, int> at;
  for (const Family f : families) {
    if (c.use(f).reduces) {
      at = emit_unit_reduce(c, b, f, last);
    }
  }
  b.op(at.first).records.push_back(c.scattered());
  b.op(at.second).records.push_back(c.reduced());
  if (!c.job.strategy.overlap_grad_reduce) {
    b.join(Phase::grad_reduce);
  }
  return c.builder.add(b.take());
}

GathersAhead::GathersAhead(RoleContext& c, Segment& segment, std::vector<std::int32_t> units, bool again)
    : c_(c),
      segment_(segment),
      units_(std::move(units)),
      again_(again),
      ahead_(static_cast<std::size_t>(c.job.strategy.prefetch)) {}

void GathersAhead::up_to(std::size_t count) {
  for (; gathered_ < std::min(count, units_.size()); ++gathered_) {
    const std::int32_t layer = units_[gathered_];
    const Family f = layer == kHeadUnit ? kHead : kLayer;
    const bool more = f == kLayer && c_.has_more(layer);
    auto [block, is_new] = blocks_.try_emplace({f, more});
    if (is_new) {
      const std::vector<Family> families = f == kHead ? std::vector<Family>{f} : layer_unit(c_, more);
      BlockBuilder b(c_.role(), "parameters.gather." + c_.family(families.back()).name + (again_ ? ".again" : ""));
      int at = -1;
      for (const Family part : families) {
        at = c_.use(part).gathers ? emit_unit_gather(c_, b, part, again_) : at;
      }
      b.op(at).records.push_back(gathered(c_, f));
      block->second = c_.builder.add(b.take());
    }
    segment_.calls.push_back({block->second, 1, layer == kHeadUnit ? -1 : layer, 1});
  }
}

}  // namespace foretrain::plan
