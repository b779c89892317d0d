// What happens once per step: zeroing, gradient reduction, optimizer, parameter gathering.
#include "plan/build_update.h"

#include <fmt/format.h>

#include <algorithm>

namespace foretrain::plan {

namespace {

Bucket bucket(const RoleContext& c, const BucketRange& r) {
  return bucket_of(c, r.family, r.layers);
}

Operand whole_bucket(const Bucket& b, BufferId buffer) {
  return {buffer, 0, kNoGroup, 0, b.elements, 0};
}

BlockId tied_block(RoleContext& c) {
  BlockBuilder b(c.role(), "tied_embedding.reduce");
  const Operand grad = c.first ? c.gradient(kEmbedding, "embedding.table") : c.gradient(kHead, "embedding.table");
  Collective op;
  op.kind = CollectiveKind::all_reduce;
  op.group = c.groups.embedding;
  op.elements = grad.elements;
  op.dtype = c.type.gradient;
  op.tag = c.builder.tag("tied_embedding.reduce");
  b.emit(op, c.world_stream(), Phase::grad_reduce, {grad}, {grad});
  b.join(Phase::grad_reduce);
  return c.builder.add(b.take());
}

EventId updated(RoleContext& c) {
  return c.builder.event("updated", Replicas::once);
}

// On the device; or on its host, as ZeRO-Offload does (arXiv:2101.06840): gradients to the host, the update there, the
// parameters back, each on a stream of its own, so that buckets follow each other.
void emit_step(RoleContext& c, BlockBuilder& b, const BucketRange& r) {
  OptimizerStep op{bucket(c, r), c.job.workload.optimizer, c.job.workload.precision};
  const Bucket k = op.bucket;
  const ParameterFamily& f = c.family(r.family);
  const bool offloads = c.job.strategy.offload_optimizer;
  const Operand device_gradient = own_part(c, k, f.gradient), device_parameter = own_part(c, k, f.parameter);
  const Operand gradient = offloads ? own_part(c, k, c.use(r.family).host_gradient) : device_gradient;
  const Operand parameter = offloads ? own_part(c, k, c.use(r.family).host_parameter) : device_parameter;
  std::vector<Operand> reads{gradient, is_lamb(c) ? lamb_norms(c) : c.builder.whole(c.role().grad_norm)};
  std::vector<Operand> writes{parameter};
  for (const BufferId state : {f.master, f.m, f.v}) {
    if (state >= 0) {
      reads.push_back(own_part(c, k, state));
      writes.push_back(own_part(c, k, state));
    }
  }
  reads.push_back(parameter);
  if (!offloads) {
    guard_update(c, b.op(b.emit(std::move(op), kCompute, Phase::optimizer, std::move(reads), std::move(writes))));
    return;
  }
  const StreamId to_host = c.builder.stream("to_host", StreamKind::copy, Axis::dp);
  const StreamId host = c.builder.stream("host_update", StreamKind::host, Axis::dp);
  const StreamId to_device = c.builder.stream("to_device", StreamKind::copy, Axis::dp);
  b.emit(Copy{CopyKind::device_to_host, size_bytes(c.type.gradient, gradient.elements)}, to_host, Phase::optimizer,
         {device_gradient}, {gradient});
  guard_update(c, b.op(b.emit(std::move(op), host, Phase::optimizer, std::move(reads), std::move(writes))));
  const int back = b.emit(Copy{CopyKind::host_to_device, size_bytes(c.type.parameter, parameter.elements)}, to_device,
                          Phase::optimizer, {parameter}, {device_parameter});
  b.op(back).records.push_back(updated(c));
}

// Updated parameters are gathered at once where they are stored whole.
bool gathers_updated(const RoleContext& c, const BucketRange& r) {
  return c.shard_group(r.family) != kNoGroup && !c.use(r.family).gathers;
}

void emit_gather(RoleContext& c, BlockBuilder& b, const BucketRange& r) {
  const Bucket k = bucket(c, r);
  const ParameterFamily& f = c.family(r.family);
  Collective op;
  op.kind = CollectiveKind::all_gather;
  op.group = k.shard_group;
  op.elements = k.elements;
  op.dtype = c.type.parameter;
  op.tag = c.builder.tag("parameters.gather." + f.name);
  const int at =
      b.emit(op, c.dp_stream(), Phase::param_gather, {own_part(c, k, f.parameter)}, {whole_bucket(k, f.parameter)});
  b.op(at).records.push_back(c.builder.event("gathered", Replicas::once));
}

// Each owner's part of the bucket, one after the other.
BlockId broadcast_block(RoleContext& c, const BucketRange& r) {
  const ParameterFamily& f = c.family(r.family);
  const Bucket k = bucket(c, r);
  BlockBuilder b(c.role(), "broadcast." + f.name);
  for (std::int32_t owner = 0; owner < k.shards; ++owner) {
    Collective op;
    op.kind = CollectiveKind::broadcast;
    op.group = k.shard_group;
    op.elements = k.elements / k.shards;
    op.dtype = c.type.parameter;
    op.tag = c.builder.tag(fmt::format("parameters.broadcast.{}.{}", f.name, owner));
    op.root = owner;
    const Operand part{f.parameter, 0, kNoGroup, owner * op.elements, op.elements, 0};
    const int at = b.emit(op, c.dp_stream(), Phase::param_gather, {part}, {part});
    b.op(at).records.push_back(c.builder.event("gathered", Replicas::once));
  }
  return c.builder.add(b.take());
}

BlockId gather_block(RoleContext& c, const BucketRange& r) {
  BlockBuilder b(c.role(), "gather." + c.family(r.family).name);
  emit_gather(c, b, r);
  return c.builder.add(b.take());
}

// Every replica's loss is its share of the batch's mean.
void emit_loss_reduce(RoleContext& c, BlockBuilder& b) {
  if (c.role().loss < 0 || c.groups.data == kNoGroup) {
    return;
  }
  const Operand loss = c.builder.whole(c.role().loss);
  Collective op;
  op.kind = CollectiveKind::all_reduce;
  op.group = c.groups.data;
  op.elements = 1;
  op.dtype = Dtype::fp64;
  op.tag = c.builder.tag("loss.reduce");
  b.emit(op, c.dp_stream(), Phase::grad_reduce, {loss}, {loss});
  b.join(Phase::grad_reduce);
}

void emit_loss_fill(RoleContext& c, BlockBuilder& b) {
  if (c.role().loss >= 0) {
    b.emit(Fill{1, Dtype::fp64}, kCompute, Phase::optimizer, {}, {c.builder.whole(c.role().loss)});
  }
}

}  // namespace

void guard_update(RoleContext& c, Op& op) {
  if (c.scales_loss()) {
    constexpr std::int64_t kIsFinite = 2;
    op.guard = Guard{{c.role().loss_scale, 0, kNoGroup, kIsFinite, 1, 0}};
  } else if (c.serves() && c.job.strategy.staleness) {
    op.guard = Guard{turn(c)};
    op.guard->scalar.offset = c.job.strategy.dp;
    op.guard->scalar.elements = 1;
  }
}

std::vector<EventId> local_gradients_done(RoleContext& c) {
  return c.reduces_replicated() ? std::vector<EventId>{c.replicated_reduced()} : std::vector<EventId>{};
}

int emit_reduce_across(RoleContext& c, BlockBuilder& b, Operand part, const std::string& name) {
  Collective op;
  op.kind = CollectiveKind::all_reduce;
  op.group = c.groups.replicas;
  op.elements = part.elements;
  op.dtype = c.type.gradient;
  op.tag = c.builder.tag("gradients.reduce_across." + name);
  return b.emit(op, c.replicas_stream(), Phase::grad_reduce, {part}, {part});
}

bool reduces_gradients(const RoleContext& c) {
  return c.exchanges(kLayer) || c.groups.expert_data != kNoGroup;
}

BlockId reduce_bucket(RoleContext& c, const BucketRange& range) {
  if (c.job.strategy.gathers_gradients()) {
    return exchange_bucket(c, range);
  }
  const Bucket k = bucket(c, range);
  const ParameterFamily& f = c.family(range.family);
  BlockBuilder b(c.role(), "gradients.reduce." + f.name);
  b.join(Phase::grad_reduce, local_gradients_done(c));
  if (c.job.strategy.compression.kind != CompressionKind::none) {
    b.op(emit_compressed_reduce(c, b, range)).records.push_back(c.reduced());
    return c.builder.add(b.take());
  }
  Collective op;
  const bool scatters = k.shard_group != kNoGroup && !has_owners(c);
  op.kind = scatters ? CollectiveKind::reduce_scatter : CollectiveKind::all_reduce;
  op.group = scatters ? k.shard_group : c.data_group(range.family);
  op.elements = k.elements;
  op.dtype = c.type.gradient;
  op.tag = c.builder.tag("gradients.reduce." + f.name);
  const Operand part = scatters ? own_part(c, k, f.gradient) : whole_bucket(k, f.gradient);
  int at = b.emit(op, c.dp_stream(), Phase::grad_reduce, {whole_bucket(k, f.gradient)}, {part});
  if (scatters && c.groups.replicas != kNoGroup) {
    at = emit_reduce_across(c, b, part, f.name);
  }
  b.op(at).records.push_back(c.reduced());
  return c.builder.add(b.take());
}

SegmentId begin_segment(RoleContext& c) {
  BlockBuilder b(c.role(), "begin_step");
  Segment s;
  s.name = "begin";
  for (std::size_t i = 0; i < c.role().parameter_families.size(); ++i) {
    const auto which = static_cast<Family>(i);
    const ParameterFamily& f = c.family(which);
    const bool is_overwritten = c.use(which).reduces && !c.accumulates_reduced();
    if (f.gradient >= 0 && !is_overwritten) {
      const std::int64_t elements =
          c.role().buffers[static_cast<std::size_t>(f.gradient)].elements * std::max(1, f.layers);
      b.emit(Fill{elements, c.type.gradient}, kCompute, Phase::optimizer, {},
             {{f.gradient, 0, kNoGroup, 0, elements, 0}});
    }
  }
  if (c.tied_here && !c.use(kEmbedding).reduces) {
    const BufferId head = c.builder.buffer("head.weight.gradient", c.type.gradient, c.n.vocab * c.n.hidden,
                                           BufferKind::gradient, Lifetime::persistent);
    b.emit(Fill{c.n.vocab * c.n.hidden, c.type.gradient}, kCompute, Phase::optimizer, {}, {c.builder.whole(head)});
  }
  emit_loss_fill(c, b);
  if (c.scales_loss()) {
    const Operand state = c.loss_scale_state();
    b.emit(LossScale{LossScaleStep::begin, c.job.workload.loss_scaling}, kCompute, Phase::optimizer, {state}, {state});
  }
  s.calls.push_back({c.builder.add(b.take()), 1, -1, 1});
  return c.builder.add(std::move(s));
}

void add_update(RoleContext& c, Segment& s, const std::vector<BucketRange>& buckets,
                const std::vector<EventId>& reduced) {
  add_norms(c, s, buckets, reduced);
  if (is_lamb(c)) {
    s.calls.push_back({lamb_begin_block(c), 1, -1, 1});
    for (const BucketRange& r : buckets) {
      s.calls.push_back(call_at(r, lamb_update_block(c, r)));
    }
    s.calls.push_back({lamb_norms_block(c), 1, -1, 1});
  }

  const bool behind = c.job.strategy.overlap_param_gather;
  for (const BucketRange& r : buckets) {
    BlockBuilder b(c.role(), "optimizer." + c.family(r.family).name);
    emit_step(c, b, r);
    if (gathers_updated(c, r) && behind) {
      emit_gather(c, b, r);
    }
    s.calls.push_back(call_at(r, c.builder.add(b.take())));
  }
  if (c.job.strategy.offload_optimizer && !behind) {
    BlockBuilder back(c.role(), "updated");
    back.join(Phase::optimizer, {updated(c)});
    s.calls.push_back({c.builder.add(back.take()), 1, -1, 1});
  }
}

SegmentId update_segment(RoleContext& c) {
  Segment s;
  s.name = "update";
  const bool serves = c.serves();
  const bool overlapped = reduces_gradients(c) && c.job.strategy.overlap_grad_reduce;
  const bool tied_across = !serves && c.groups.embedding != kNoGroup && (c.first || c.last);
  if (tied_across) {
    s.calls.push_back({tied_block(c), 1, -1, 1});
  }
  if (c.splits && c.first) {
    BlockBuilder b(c.role(), "embedding.finish");
    finish_embedding(c, b);
    b.join_open(Phase::grad_reduce);
    if (Block block = b.take(); !block.ops.empty()) {
      s.calls.push_back({c.builder.add(std::move(block)), 1, -1, 1});
    }
  }
  if (c.job.strategy.staleness) {
    add_asynchronous_update(c, s);
    return c.builder.add(std::move(s));
  }
  const std::vector<BucketRange> reduced_buckets = all_buckets(c, false), buckets = all_buckets(c, true);
  std::vector<EventId> reduced = serves ? std::vector<EventId>{} : local_gradients_done(c);
  for (const BucketRange& r : reduced_buckets) {
    // Units were reduced behind every backward; layers, and an untied head, behind the last one.
    const bool done = overlapped && r.family != kEmbedding && !(r.family == kHead && tied_across);
    if (!done && c.exchanges(r.family) && !c.use(r.family).reduces) {
      s.calls.push_back(call_at(r, reduce_bucket(c, r)));
    }
  }
  const std::vector<EventId> exchanged = exchange_events(c, kReducedEvent);
  reduced.insert(reduced.end(), exchanged.begin(), exchanged.end());
  std::vector<EventId> gathered;
  add_acknowledgement(c, s, reduced, gathered);
  if (c.job.strategy.post_validation) {
    const std::vector<EventId> passed_on = norms_passed_on(c);
    reduced.insert(reduced.end(), passed_on.begin(), passed_on.end());
  }
  if (c.updates()) {
    add_update(c, s, buckets, reduced);
  } else {
    BlockBuilder sent(c.role(), "gradients.sent");
    sent.join(Phase::grad_reduce, reduced);
    s.calls.push_back({c.builder.add(sent.take()), 1, -1, 1});
  }
  const bool behind = c.job.strategy.overlap_param_gather;
  for (const BucketRange& r : buckets) {
    if (gathers_updated(c, r) && !behind) {
      s.calls.push_back(call_at(r, has_owners(c) ? broadcast_block(c, r) : gather_block(c, r)));
    } else if (c.part != Part::whole && c.part != Part::replica) {
      s.calls.push_back(call_at(r, hand_out_bucket(c, r)));
    }
  }
  BlockBuilder end(c.role(), "end_step");
  if (c.part != Part::whole && c.part != Part::replica) {
    gathered = exchange_events(c, kHandedOutEvent);
  }
  if (std::any_of(buckets.begin(), buckets.end(), [&](const BucketRange& r) { return gathers_updated(c, r); })) {
    gathered.push_back(c.builder.event("gathered", Replicas::once));
  }
  if (c.job.strategy.offload_optimizer && behind) {
    gathered.push_back(updated(c));
  }
  end.join(Phase::optimizer, gathered);
  emit_loss_reduce(c, end);
  s.calls.push_back({c.builder.add(end.take()), 1, -1, 1});
  return c.builder.add(std::move(s));
}

SegmentId evaluation_begin_segment(RoleContext& c) {
  BlockBuilder b(c.role(), "begin_evaluation");
  b.join(Phase::forward);
  emit_loss_fill(c, b);
  return c.builder.add(Segment{"evaluation.begin", -1, 0, {{c.builder.add(b.take()), 1, -1, 1}}});
}

SegmentId evaluation_end_segment(RoleContext& c) {
  BlockBuilder b(c.role(), "end_evaluation_step");
  b.join(Phase::forward);
  emit_loss_reduce(c, b);
  return c.builder.add(Segment{"evaluation.end", -1, 0, {{c.builder.add(b.take()), 1, -1, 1}}});
}

}  // namespace foretrain::plan
