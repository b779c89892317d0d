// A replica of each server (primary and backup: Alsberg and Day 1976), so that losing a server loses no update that a
// worker has seen. A server sends the sums that it updates by, and updates once its replica has them; as servers also
// wait for each other, for the norm of all, none updates before every replica has its sums. Replicas know no one else:
// they take their norm of all among themselves, so that, whoever is lost, all of them end with the same update, the
// last that any server may have made. Asynchronous servers make such an update in each of their turns; whose gradients
// they took goes with them.
#include <fmt/format.h>

#include "plan/build_update.h"

namespace foretrain::plan {

namespace {

Operand sums_of(RoleContext& c, const BucketRange& range) {
  return {c.family(range.family).gradient, 0, kNoGroup, 0, bucket_of(c, range.family, range.layers).elements, 0};
}

StreamId stream(RoleContext& c) {
  return c.builder.stream("replica", StreamKind::point_to_point, Axis::dp);
}

// Between a server and its replica.
Exchange message(RoleContext& c, bool send, std::int64_t elements, Dtype dtype, const std::string& what) {
  const Strategy& s = c.job.strategy;
  const std::int32_t own = c.role().ranks.fixed.back().first;
  const auto servers = static_cast<std::int32_t>(s.servers);
  const bool is_replica = c.part == Part::replica;
  Message m;
  m.send = send;
  m.axis = Axis::dp;
  m.peer = is_replica ? own - servers : own + servers;
  m.elements = elements;
  m.dtype = dtype;
  m.tag = c.builder.tag(fmt::format("{} {}", what, std::min(own, m.peer) - static_cast<std::int32_t>(s.dp)));
  return {{m}};
}

Exchange sums_message(RoleContext& c, bool send, const BucketRange& range) {
  return message(c, send, sums_of(c, range).elements, c.type.gradient, "gradients.copy." + c.family(range.family).name);
}

}  // namespace

bool is_replicated(const RoleContext& c) {
  return c.serves() && c.job.strategy.server_replicas > 0;
}

void send_to_replica(RoleContext& c, BlockBuilder& b, const BucketRange& range) {
  b.emit(sums_message(c, true, range), stream(c), Phase::grad_reduce, {sums_of(c, range)}, {});
}

void add_turn_copy(RoleContext& c, Segment& s, const std::vector<Operand>& gradients,
                   std::vector<EventId>& before_update, std::vector<EventId>& before_end) {
  if (!is_replicated(c)) {
    return;
  }
  const bool sends = c.part == Part::server;
  std::vector<Operand> parts = gradients, nothing;
  Exchange op;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const auto with = message(c, sends, gradients[i].elements, c.type.gradient, fmt::format("gradients.copy.{}", i));
    op.messages.push_back(with.messages.front());
  }
  parts.push_back(turn(c));
  op.messages.push_back(message(c, sends, parts.back().elements, Dtype::fp64, "turn.copy").messages.front());
  BlockBuilder b(c.role(), "turn.copy");
  b.emit(std::move(op), stream(c), Phase::grad_reduce, sends ? parts : nothing, sends ? nothing : parts);
  if (!sends) {
    b.join(Phase::grad_reduce);
  }
  s.calls.push_back({c.builder.add(b.take()), 1, -1, 1});
  add_acknowledgement(c, s, before_update, before_end);
}

BlockId receive_from_server(RoleContext& c, const BucketRange& range) {
  BlockBuilder b(c.role(), "gradients.copy." + c.family(range.family).name);
  const int at = b.emit(sums_message(c, false, range), stream(c), Phase::grad_reduce, {}, {sums_of(c, range)});
  b.op(at).records.push_back(c.builder.event(kReducedEvent, Replicas::once));
  return c.builder.add(b.take());
}

void add_acknowledgement(RoleContext& c, Segment& s, std::vector<EventId>& before_update,
                         std::vector<EventId>& before_end) {
  if (!is_replicated(c)) {
    return;
  }
  const Operand word = c.builder.whole(
      c.builder.buffer("acknowledgement", Dtype::fp64, 1, BufferKind::communication, Lifetime::persistent));
  const std::vector<Operand> it{word}, nothing;
  BlockBuilder b(c.role(), "acknowledge");
  const bool sends = c.part == Part::replica;
  if (sends) {
    b.emit(Fill{1, Dtype::fp64}, kCompute, Phase::grad_reduce, {}, it);
  }
  const int at = b.emit(message(c, sends, 1, Dtype::fp64, "acknowledgement"), stream(c), Phase::grad_reduce,
                        sends ? it : nothing, sends ? nothing : it);
  const EventId acknowledged = c.builder.event("acknowledged", Replicas::once);
  b.op(at).records.push_back(acknowledged);
  (sends ? before_end : before_update).push_back(acknowledged);
  s.calls.push_back({c.builder.add(b.take()), 1, -1, 1});
}

}  // namespace foretrain::plan
