// Gradients that are summed where they are gathered: on one rank of a replica group, on all of them, or on servers; and
// the parameters that come back from there. The parts are added in the order of the ranks, as an all-reduce does it:
// the same bits.
#include <fmt/format.h>

#include <algorithm>

#include "plan/build_update.h"

namespace foretrain::plan {

namespace {

// Whom a bucket's gradients go to, and its parameters come from. Of an all_gather there is no root.
struct Center {
  GroupId group = kNoGroup;
  std::int32_t root = -1, parts = 0;  // parts: that a root gathers
  std::string server;                 // of names; "" where there is none
  StreamId stream = -1;
};

int size_of(const RoleContext& c, GroupId group) {
  const PlanGraph& g = c.builder.graph();
  return group_size(g.mesh, g.groups[static_cast<std::size_t>(group)]);
}

Center center_of(RoleContext& c, const BucketRange& r) {
  Center center;
  if (c.job.strategy.data_parallel == DataParallel::parameter_server) {
    const std::int32_t server = c.dealt.server_of(c.role(), r);
    center.group = c.groups.with_server[static_cast<std::size_t>(server)];
    center.root = center.parts = size_of(c, center.group) - 1;
    center.server = fmt::format(" {}", server);
    // Servers do not wait for each other.
    center.stream =
        c.serves() ? c.dp_stream() : c.builder.stream("server" + center.server, StreamKind::collective, Axis::dp);
    return center;
  }
  center.group = c.data_group(r.family);
  center.parts = size_of(c, center.group);
  center.stream = c.dp_stream();
  if (c.part != Part::whole) {
    center.root = 0;
    --center.parts;
  }
  return center;
}

// The gathered parts of one bucket, which are summed before the next one's come.
Operand parts_of(RoleContext& c, std::int64_t elements) {
  std::int64_t most = 0;
  for (const BucketRange& r : all_buckets(c, false)) {
    if (c.exchanges(r.family)) {
      most = std::max(most, c.family(r.family).elements * r.layers * center_of(c, r).parts);
    }
  }
  const BufferId parts =
      c.builder.buffer("gradients.parts", c.type.gradient, most, BufferKind::communication, Lifetime::persistent);
  return {parts, 0, kNoGroup, 0, elements, 0};
}

// An event per server: what has come to one says nothing of the others.
EventId event_of(RoleContext& c, const char* name, const Center& center) {
  return c.builder.event(name + (c.part == Part::worker ? center.server : ""), Replicas::once);
}

}  // namespace

std::vector<EventId> exchange_events(RoleContext& c, const char* name) {
  std::vector<EventId> events;
  for (const BucketRange& r : all_buckets(c, false)) {
    if (c.exchanges(r.family)) {
      events.push_back(event_of(c, name, center_of(c, r)));
    }
  }
  std::sort(events.begin(), events.end());
  events.erase(std::unique(events.begin(), events.end()), events.end());
  return events;
}

BlockId exchange_bucket(RoleContext& c, const BucketRange& range) {
  if (c.part == Part::replica) {
    return receive_from_server(c, range);
  }
  const ParameterFamily& f = c.family(range.family);
  const Bucket k = bucket_of(c, range.family, range.layers);
  const Operand gradient{f.gradient, 0, kNoGroup, 0, k.elements, 0};
  const Center center = center_of(c, range);
  BlockBuilder b(c.role(), "gradients.exchange." + f.name + center.server);
  b.join(Phase::grad_reduce, c.part == Part::server ? std::vector<EventId>{} : local_gradients_done(c));
  Collective op;
  op.kind = center.root < 0 ? CollectiveKind::all_gather : CollectiveKind::gather;
  op.group = center.group;
  op.elements = k.elements * center.parts;
  op.dtype = c.type.gradient;
  op.tag = c.builder.tag("gradients.gather." + f.name + center.server);
  op.root = center.root;
  const bool sends = center.root < 0 || c.part == Part::worker, sums = c.part != Part::worker;
  const std::vector<Operand> parts = sums ? std::vector<Operand>{parts_of(c, op.elements)} : std::vector<Operand>{};
  int at = b.emit(op, center.stream, Phase::grad_reduce,
                  sends ? std::vector<Operand>{gradient} : std::vector<Operand>{}, parts);
  if (sums) {
    const bool adds = c.part == Part::central;
    std::vector<Operand> terms = parts;
    if (adds) {
      terms.push_back(gradient);
    }
    at = b.emit(SumParts{k.elements, center.parts, adds, c.type.gradient}, center.stream, Phase::grad_reduce,
                std::move(terms), {gradient});
  }
  b.op(at).records.push_back(event_of(c, kReducedEvent, center));
  if (is_replicated(c)) {
    send_to_replica(c, b, range);
  }
  return c.builder.add(b.take());
}

BlockId hand_out_bucket(RoleContext& c, const BucketRange& range) {
  const ParameterFamily& f = c.family(range.family);
  const Bucket k = bucket_of(c, range.family, range.layers);
  const Operand parameter{f.parameter, 0, kNoGroup, 0, k.elements, 0};
  const Center center = center_of(c, range);
  BlockBuilder b(c.role(), "parameters.hand_out." + f.name + center.server);
  Collective op;
  op.kind = center.server.empty() ? CollectiveKind::broadcast : CollectiveKind::distribute;
  op.group = center.group;
  op.elements = k.elements;
  op.dtype = c.type.parameter;
  op.tag = c.builder.tag("parameters.hand_out." + f.name + center.server);
  op.root = center.root;
  const bool is_star = op.kind == CollectiveKind::distribute, is_root = c.part != Part::worker;
  const std::vector<Operand> it{parameter}, nothing;
  const int at = b.emit(op, center.stream, Phase::param_gather, is_star && !is_root ? nothing : it,
                        is_star && is_root ? nothing : it);
  b.op(at).records.push_back(event_of(c, kHandedOutEvent, center));
  return c.builder.add(b.take());
}

}  // namespace foretrain::plan
