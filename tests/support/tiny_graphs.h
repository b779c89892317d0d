// Hand-made graphs that fit on a screen, seeded random ones, and a machine that gives every op a duration by rule: what
// tests of plan/, sim/ and reports/ share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "plan/cursor.h"
#include "plan/graph.h"
#include "plan/memory.h"
#include "plan/timeline.h"

namespace foretrain::testing {

inline plan::Operand whole(plan::BufferId buffer, std::int64_t elements) {
  return {buffer, 0, plan::kNoGroup, 0, elements, 0};
}

inline plan::Op op(plan::Work work, plan::StreamId stream, std::vector<plan::Operand> reads,
                   std::vector<plan::Operand> writes, std::vector<std::uint16_t> after = {}) {
  plan::Op o;
  o.work = std::move(work);
  o.stream = stream;
  o.reads = std::move(reads);
  o.writes = std::move(writes);
  o.after = std::move(after);
  return o;
}

inline plan::Collective all_reduce(std::int64_t elements, plan::GroupId group, std::int32_t tag) {
  plan::Collective c;
  c.kind = plan::CollectiveKind::all_reduce;
  c.group = group;
  c.elements = elements;
  c.tag = tag;
  return c;
}

inline plan::Exchange message(bool send, int peer, std::int64_t elements, std::int32_t tag) {
  return {{{send, plan::Axis::pp, peer, elements, Dtype::fp32, tag}}};
}

// Two ranks of one role that share everything along tp. One block, "layer": C = A B on the compute stream, all_reduce
// of C on stream "tp", then y = relu(C) on the compute stream. The body is one microbatch.
//   0 compute matmul 4x4x4   reads a, b  writes c
//   1 tp      all_reduce 16  reads c     writes c    after 0
//   2 compute activation     reads c     writes y    after 1
inline plan::PlanGraph tensor_parallel_graph() {
  using namespace plan;
  PlanGraph g;
  g.name = "tensor parallel";
  g.mesh.extent = {1, 1, 1, 2};
  g.groups = {{"tp", {{Axis::tp, 0, {}}}, {}}};
  g.tags = {"sum"};
  g.microbatches = 1;
  g.sequences_per_step = 1;
  g.seq_len = 4;
  Role role;
  role.name = "all";
  role.streams = {{"compute", StreamKind::compute, Axis::tp}, {"tp", StreamKind::collective, Axis::tp}};
  role.buffers = {{"a", Dtype::fp32, 16, BufferKind::parameter, Lifetime::persistent, 0},
                  {"b", Dtype::fp32, 16, BufferKind::parameter, Lifetime::persistent, 0},
                  {"c", Dtype::fp32, 16, BufferKind::activation, Lifetime::block, 0},
                  {"y", Dtype::fp32, 16, BufferKind::activation, Lifetime::persistent, 0}};
  Matmul matmul;
  matmul.m = matmul.n = matmul.k = 4;
  plan::Activation relu;
  relu.kind = workloads::Activation::relu;
  relu.rows = relu.cols = 4;
  role.blocks = {{"layer",
                  {op(matmul, kCompute, {whole(0, 16), whole(1, 16)}, {whole(2, 16)}),
                   op(all_reduce(16, 0, 0), 1, {whole(2, 16)}, {whole(2, 16)}, {0}),
                   op(relu, kCompute, {whole(2, 16)}, {whole(3, 16)}, {1})}}};
  role.segments = {{"F0", 0, 0, {{0, 1, -1, 1}}}};
  role.program.body = {{0, 0, -1, -1}};
  place(role);
  g.roles = {role};
  return g;
}

// Two stages of one rank each. Stage 0 fills x and sends it; stage 1 receives it into a ring of two and adds it to a
// sum. Two microbatches. Events keep the ring from being overwritten and x from being filled while it is sent.
//   stage 0: 0 compute fill x [waits sent]            1 act_out send x after 0 [records sent]
//   stage 1: 0 act_in  recv x [waits read, per ring]  1 compute sum += x after 0 [records read]
inline plan::PlanGraph pipeline_graph() {
  using namespace plan;
  PlanGraph g;
  g.name = "pipeline";
  g.mesh.extent = {2, 1, 1, 1};
  g.tags = {"act"};
  g.microbatches = 2;
  g.sequences_per_step = 2;
  g.seq_len = 4;
  Role first;
  first.name = "stage 0";
  first.ranks.fixed = {{Axis::pp, 0}};
  first.streams = {{"compute", StreamKind::compute, Axis::tp}, {"act_out", StreamKind::point_to_point, Axis::pp}};
  first.buffers = {{"x", Dtype::fp32, 8, BufferKind::activation, Lifetime::persistent, 0}};
  first.events = {{"sent", Replicas::once}};
  first.blocks = {
      {"produce",
       {op(Fill{8, Dtype::fp32}, kCompute, {}, {whole(0, 8)}), op(message(true, 1, 8, 0), 1, {whole(0, 8)}, {}, {0})}}};
  first.blocks[0].ops[0].waits = {0};
  first.blocks[0].ops[1].records = {0};
  first.segments = {{"F0", 0, 0, {{0, 1, -1, 1}}}};
  first.program.body = {{0, 0, -1, -1}, {0, 1, -1, -1}};
  place(first);
  Role second = first;
  second.name = "stage 1";
  second.ranks.fixed = {{Axis::pp, 1}};
  second.streams[1].name = "act_in";
  second.buffers = {{"x", Dtype::fp32, 8, BufferKind::communication, Lifetime::ring, 0},
                    {"sum", Dtype::fp32, 8, BufferKind::activation, Lifetime::persistent, 0}};
  second.events = {{"read", Replicas::per_ring}};
  second.rings = 2;
  second.blocks = {
      {"consume",
       {op(message(false, 0, 8, 0), 1, {}, {whole(0, 8)}),
        op(Accumulate{8, Dtype::fp32, Dtype::fp32}, kCompute, {whole(0, 8), whole(1, 8)}, {whole(1, 8)}, {0})}}};
  second.blocks[0].ops[0].waits = {0};
  second.blocks[0].ops[1].records = {0};
  second.program.body = {{0, 0, -1, 0}, {0, 1, -1, 1}};
  place(second);
  g.roles = {first, second};
  return g;
}

// The same numbers from the same seed on every machine (std distributions are not).
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed * 2654435769u + 1) {}
  int below(int n) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int>((state_ >> 33) % static_cast<std::uint64_t>(n));
  }

 private:
  std::uint64_t state_;
};

// One rank, one block of `ops` accumulations on random persistent buffers and streams, random `after` edges and events:
// dependencies may well be missing.
inline plan::PlanGraph random_graph(std::uint64_t seed, int ops) {
  using namespace plan;
  Dice dice(seed);
  PlanGraph g;
  g.name = "random";
  Role role;
  role.name = "all";
  role.streams = {{"compute", StreamKind::compute, Axis::tp},
                  {"dp", StreamKind::collective, Axis::dp},
                  {"copy", StreamKind::copy, Axis::tp}};
  role.buffers = {{"x", Dtype::fp32, 64, BufferKind::activation, Lifetime::persistent, 0}};
  role.events = {{"e", Replicas::once}};
  Block block{"random", {}};
  const auto some = [&] {
    const std::int64_t offset = 8 * dice.below(6);
    return Operand{0, 0, kNoGroup, offset, 8 * (1 + dice.below(2)), 0};
  };
  bool recorded = false;
  for (int i = 0; i < ops; ++i) {
    const Operand target = some();
    Op o = op(Accumulate{target.elements, Dtype::fp32, Dtype::fp32}, static_cast<StreamId>(dice.below(3)),
              {some(), target}, {target});
    for (int j = 0; j < i; ++j) {
      if (dice.below(3) == 0) {
        o.after.push_back(static_cast<std::uint16_t>(j));
      }
    }
    if (dice.below(4) == 0) {
      o.records = {0};
      recorded = true;
    } else if (dice.below(3) == 0) {
      o.waits = {0};
    }
    block.ops.push_back(o);
  }
  if (!recorded && ops > 0) {
    block.ops.back().records = {0};
  }
  role.blocks = {block};
  role.segments = {{"S", -1, 0, {{0, 1, -1, 1}}}};
  role.program.body = {{0, -1, -1, -1}};
  place(role);
  g.roles = {role};
  return g;
}

// A timeline of a graph without communication: every op starts as soon as its stream and its dependencies let it.
// `duration` of the n-th op.
inline plan::Timeline run_alone(const plan::PlanGraph& g, int steps, const std::function<std::int64_t(int)>& duration) {
  using namespace plan;
  Timeline t;
  t.machine = "by rule";
  int n = 0;
  for (std::size_t r = 0; r < g.roles.size(); ++r) {
    const Role& role = g.roles[r];
    std::vector<Time> stream_end(role.streams.size());
    std::vector<Time> event_end(static_cast<std::size_t>(event_copies(role)));
    std::vector<Time> block_end;
    t.step_ends.resize(static_cast<std::size_t>(steps));
    for (int step = 0; step < steps; ++step) {
      for (ProgramCursor c(role, static_cast<int>(r), role.program.body, first_body_instance(role.program)); c;
           c.next()) {
        const Op& o = c.op();
        if (c.starts_block()) {
          block_end.clear();
        }
        Time start = stream_end[static_cast<std::size_t>(o.stream)];
        for (const std::uint16_t a : o.after) {
          start = std::max(start, block_end[a]);
        }
        for (const EventId e : o.waits) {
          start = std::max(start, event_end[static_cast<std::size_t>(event_copy(role, e, c.binding()))]);
        }
        const Time end = start + Time{duration(n++)};
        for (const EventId e : o.records) {
          event_end[static_cast<std::size_t>(event_copy(role, e, c.binding()))] = end;
        }
        block_end.push_back(end);
        stream_end[static_cast<std::size_t>(o.stream)] = end;
        Time& step_end = t.step_ends[static_cast<std::size_t>(step)];
        step_end = std::max(step_end, end);
        t.spans.push_back({c.id(), step, o.stream, static_cast<std::int32_t>(count(g.mesh, role.ranks)),
                           first_rank(g.mesh, role.ranks), start, end});
      }
    }
  }
  return t;
}

}  // namespace foretrain::testing
