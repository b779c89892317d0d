// Servers that update by each worker's gradients as they come, and workers that go on with the parameters as they are
// then: asynchronous (Recht et al. 2011, "Hogwild!"; Dean et al. 2012), or stale synchronous, with a bound (Ho et al.
// 2013). The gradients are what they are under an all-reduce, a worker's share of the batch's mean: with sgd the
// updates of a step, on the same parameters, add up to the synchronous one. Norms are clipped by server and update.
// A server counts the updates that it has made of each worker: a run that goes on from a state in which some workers
// were ahead of others drops what comes of them again.
#include <fmt/format.h>

#include "plan/build_update.h"

namespace foretrain::plan {

namespace {

// What the server has, in the order of updates: an operand each for the head, runs of neighbouring layers, which lie
// side by side on server and workers, and the embedding.
std::vector<Operand> parts_of_server(RoleContext& c, std::int32_t server, BufferId ParameterFamily::*buffer) {
  std::vector<Operand> parts;
  std::int32_t above = -1;  // the global layer before which another one continues the run
  for (const BucketRange& r : all_buckets(c, true)) {
    if (c.dealt.server_of(c.role(), r) != server) {
      continue;
    }
    const ParameterFamily& family = c.family(r.family);
    const bool is_layer = r.family == kLayer;
    const std::int32_t layer = is_layer ? c.role().global_layer[static_cast<std::size_t>(r.first_layer)] : -1;
    if (is_layer && layer + 1 == above) {
      parts.back().offset -= family.elements;
      parts.back().elements += family.elements;
    } else {
      parts.push_back(
          {family.*buffer, 0, kNoGroup, is_layer ? r.first_layer * family.elements : 0, family.elements, 0});
    }
    above = is_layer ? layer : -1;
  }
  return parts;
}

Channel channel(RoleContext& c, ChannelStep step, std::int32_t server, const std::vector<Operand>& operands) {
  const PlanGraph& g = c.builder.graph();
  const Strategy& s = c.job.strategy;
  Channel op;
  op.step = step;
  op.group = c.groups.with_server[static_cast<std::size_t>(server)];
  op.root = group_size(g.mesh, g.groups[static_cast<std::size_t>(op.group)]) - 1;
  for (const Operand& o : operands) {
    op.elements += o.elements;
  }
  op.dtype = step == ChannelStep::put || step == ChannelStep::take ? c.type.gradient : c.type.parameter;
  op.tag = c.builder.tag(fmt::format("server {}", server));
  op.staleness = step == ChannelStep::release ? *s.staleness : -1;
  op.in_turn = step == ChannelStep::take && s.servers_choose;
  return op;
}

}  // namespace

void add_asynchronous_update(RoleContext& c, Segment& s) {
  BlockBuilder b(c.role(), "update");
  b.join(Phase::grad_reduce, local_gradients_done(c));
  for (std::int32_t server = 0; server < c.job.strategy.servers; ++server) {
    const StreamId stream = c.builder.stream(fmt::format("server {}", server), StreamKind::collective, Axis::dp);
    const std::vector<Operand> gradients = parts_of_server(c, server, &ParameterFamily::gradient);
    const std::vector<Operand> parameters = parts_of_server(c, server, &ParameterFamily::parameter);
    b.emit(channel(c, ChannelStep::put, server, gradients), stream, Phase::grad_reduce, gradients, {});
    b.emit(channel(c, ChannelStep::fetch, server, parameters), stream, Phase::param_gather, {}, parameters);
  }
  b.join(Phase::optimizer);
  s.calls.push_back({c.builder.add(b.take()), 1, -1, 1});
}

Operand turn(RoleContext& c) {
  return c.builder.whole(
      c.builder.buffer("turn", Dtype::fp64, c.job.strategy.dp + 1, BufferKind::communication, Lifetime::persistent));
}

void add_asynchronous_program(RoleContext& c) {
  const std::int64_t workers = c.job.strategy.dp;
  const bool is_replica = c.part == Part::replica;
  const auto server = static_cast<std::int32_t>((c.role().ranks.fixed.back().first - workers) % c.job.strategy.servers);
  const std::vector<Operand> gradients = parts_of_server(c, server, &ParameterFamily::gradient);
  const std::vector<Operand> parameters = parts_of_server(c, server, &ParameterFamily::parameter);
  c.role().turns = c.builder.buffer("turns", Dtype::fp64, workers, BufferKind::workspace, Lifetime::persistent);
  const Operand turns = c.builder.whole(c.role().turns);
  Segment s;
  s.name = "apply";
  if (!is_replica) {
    std::vector<Operand> taken = gradients;
    taken.push_back(turn(c));
    BlockBuilder take(c.role(), "take");
    take.emit(channel(c, ChannelStep::take, server, gradients), c.dp_stream(), Phase::grad_reduce, {turns}, taken);
    take.join(Phase::grad_reduce);
    s.calls.push_back({c.builder.add(take.take()), 1, -1, 1});
  }
  std::vector<EventId> before_update, before_end;
  add_turn_copy(c, s, gradients, before_update, before_end);
  add_update(c, s, all_buckets(c, true), before_update);
  BlockBuilder release(c.role(), "release");
  Operand made = turn(c);
  made.elements = workers;
  release.emit(Copy{CopyKind::device_to_device, size_bytes(Dtype::fp64, workers)}, kCompute, Phase::optimizer, {made},
               {turns});
  if (!is_replica) {
    release.emit(channel(c, ChannelStep::release, server, parameters), c.dp_stream(), Phase::param_gather, parameters,
                 {});
  }
  release.join(Phase::param_gather, before_end);
  s.calls.push_back({c.builder.add(release.take()), 1, -1, 1});
  const SegmentId apply = c.builder.add(std::move(s));
  for (std::int32_t i = 0; i < c.job.strategy.dp; ++i) {
    c.role().program.body.push_back({apply, i, -1, -1});
  }
}

}  // namespace foretrain::plan
