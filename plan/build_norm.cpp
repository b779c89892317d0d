// The norm of all gradients, from sums of squares of each tensor, and what it scales them by.
#include "plan/build_update.h"

namespace foretrain::plan {

namespace {

BufferId norms(RoleContext& c) {
  return c.builder.buffer("norms", Dtype::fp64, c.tensors, BufferKind::workspace, Lifetime::persistent);
}

// Sums of squares of the tensors that ranks along dp hold different parts of, where all else is whole on each of them.
bool has_partial_norms(const RoleContext& c) {
  return !c.shards_state() && c.groups.expert_dp != kNoGroup;
}

BufferId expert_norms(RoleContext& c) {
  return c.builder.buffer("norms.experts", Dtype::fp64, c.tensors, BufferKind::workspace, Lifetime::persistent);
}

BlockId norm_block(RoleContext& c, const BucketRange& r) {
  BlockBuilder b(c.role(), "norm." + c.family(r.family).name);
  SquaredNorm op;
  op.bucket = bucket_of(c, r.family, r.layers);
  op.piece_shards = r.family == kExperts ? op.bucket.shards : static_cast<std::int32_t>(c.job.strategy.replicas());
  op.dtype = c.type.gradient;
  const bool partial = r.family == kExperts && has_partial_norms(c);
  const Operand sums = c.builder.whole(partial ? expert_norms(c) : norms(c));
  b.emit(op, kCompute, Phase::optimizer, {own_part(c, op.bucket, c.family(r.family).gradient)}, {sums});
  return c.builder.add(b.take());
}

// Sums the norms, then clips.
BlockId clip_block(RoleContext& c) {
  BlockBuilder b(c.role(), "clip");
  const Operand sums = c.builder.whole(norms(c));
  if (c.shards_state()) {
    reduce_of_tensors(c, b, c.groups.shard, c.dp_stream(), sums, "norm.reduce.dp");
  } else if (has_partial_norms(c)) {
    const Operand partial = c.builder.whole(expert_norms(c));
    reduce_of_tensors(c, b, c.groups.expert_dp, c.dp_stream(), partial, "norm.reduce.experts");
    b.emit(Accumulate{partial.elements, Dtype::fp64}, kCompute, Phase::optimizer, {partial, sums}, {sums});
  }
  if (c.serves() && c.groups.servers != kNoGroup) {
    reduce_of_tensors(c, b, c.groups.servers, c.dp_stream(), sums,
                      c.part == Part::server ? "norm.reduce.servers" : "norm.reduce.replicas");
  }
  if (c.job.strategy.post_validation) {
    if (c.groups.tp != kNoGroup) {
      reduce_of_tensors(c, b, c.groups.tp, c.tp_stream(), sums, "norm.reduce.tp");
    }
    emit_norms_of_stages_before(c, b, sums);
  } else if (c.groups.model != kNoGroup) {
    reduce_of_tensors(c, b, c.groups.model, c.world_stream(), sums, "norm.reduce.model");
  }
  const Operand norm = c.builder.whole(c.role().grad_norm);
  std::vector<Operand> reads{sums};
  if (c.scales_loss()) {
    reads.push_back(c.loss_scale_state());
  }
  b.emit(ClipCoefficient{c.tensors, c.job.workload.optimizer.clip, c.scales_loss()}, kCompute, Phase::optimizer,
         std::move(reads), {norm});
  if (c.scales_loss()) {
    const Operand state = c.loss_scale_state();
    b.emit(LossScale{LossScaleStep::update, c.job.workload.loss_scaling}, kCompute, Phase::optimizer, {norm, state},
           {state});
  }
  return c.builder.add(b.take());
}

}  // namespace

void reduce_of_tensors(RoleContext& c, BlockBuilder& b, GroupId group, StreamId stream, Operand all,
                       const std::string& name) {
  Collective op;
  op.kind = CollectiveKind::all_reduce;
  op.group = group;
  op.elements = all.elements;
  op.dtype = Dtype::fp64;
  op.tag = c.builder.tag(name);
  b.emit(op, stream, Phase::optimizer, {all}, {all});
}

void add_norms(RoleContext& c, Segment& s, const std::vector<BucketRange>& buckets,
               const std::vector<EventId>& reduced) {
  BlockBuilder start(c.role(), "norm.begin");
  start.join(Phase::optimizer, reduced);
  const Operand sums = c.builder.whole(norms(c));
  start.emit(Fill{sums.elements, Dtype::fp64}, kCompute, Phase::optimizer, {}, {sums});
  if (has_partial_norms(c)) {
    start.emit(Fill{sums.elements, Dtype::fp64}, kCompute, Phase::optimizer, {}, {c.builder.whole(expert_norms(c))});
  }
  s.calls.push_back({c.builder.add(start.take()), 1, -1, 1});
  for (const BucketRange& r : buckets) {
    s.calls.push_back(call_at(r, norm_block(c, r)));
  }
  s.calls.push_back({clip_block(c), 1, -1, 1});
}

}  // namespace foretrain::plan
