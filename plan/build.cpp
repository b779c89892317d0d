// Assembles the graph: mesh and groups, one role per pipeline stage, its segments and its program.
#include "plan/build.h"

#include <algorithm>

#include "base/error.h"
#include "plan/build_context.h"
#include "plan/memory.h"
#include "plan/schedule.h"

namespace foretrain::plan {

namespace {

Groups add_groups(PlanGraph& g, const Job& job) {
  const Strategy& s = job.strategy;
  const auto add = [&g](const std::string& name, std::vector<AxisSpan> spans) {
    g.groups.push_back({name, std::move(spans), {}});
    return static_cast<GroupId>(g.groups.size() - 1);
  };
  Groups groups;
  if (s.tp > 1) {
    groups.tp = add("tp", {{Axis::tp, 0, {}}});
  }
  if (s.dp > 1) {
    groups.dp = add("dp", {{Axis::dp, 0, {}}});
  }
  if (job.workload.model.kv_heads < s.tp) {
    groups.kv = add("kv", {{Axis::tp, static_cast<int>(s.tp / job.workload.model.kv_heads), {}}});
  }
  if (s.pp > 1 && job.workload.model.tied_embeddings) {
    groups.embedding = add("embedding", {{Axis::pp, 0, {0, static_cast<int>(s.pp) - 1}}});
  }
  if (s.pp * s.tp > 1) {
    groups.model = add("model", {{Axis::pp, 0, {}}, {Axis::tp, 0, {}}});
  }
  return groups;
}

// Communication with the neighbours along the pipeline. Virtual stage s sends activations to s + 1 and gradients back.
struct PipelineEnds {
  RoleContext& c;
  int chunk;
  int virtual_stage() const { return chunk * static_cast<int>(c.job.strategy.pp) + c.stage; }
  bool is_first() const { return virtual_stage() == 0; }
  bool is_last() const { return virtual_stage() == static_cast<int>(c.job.strategy.stages()) - 1; }

  // Does any chunk of this role send activations on?
  bool sends_forward() const { return c.job.strategy.pp > 1 && (!c.last || c.job.strategy.virtual_stages > 1); }

  EventId slot_free() { return c.builder.event("slot_free", Replicas::per_slot); }
  EventId sent() { return c.builder.event("sent", Replicas::per_slot); }
  EventId ring_free() { return c.builder.event("ring_free", Replicas::per_ring); }

  Exchange message(bool send, int to_stage, const std::string& what, int boundary) {
    const int pp = static_cast<int>(c.job.strategy.pp);
    Message m;
    m.send = send;
    m.axis = Axis::pp;
    m.peer = (to_stage + pp) % pp;
    m.elements = c.n.shard_rows * c.n.hidden;
    m.dtype = c.type.activation;
    m.tag = c.builder.tag(what + " " + std::to_string(boundary) + "|" + std::to_string(boundary + 1));
    return {{m}};
  }

  StreamId peer_stream(const char* name) { return c.builder.stream(name, StreamKind::point_to_point, Axis::pp); }

  Host load(HostTask task) const { return {task, c.n.batch, c.n.seq}; }

  BlockId begin_forward() {
    BlockBuilder b(c.role(), "begin_forward");
    const StreamId host = c.builder.stream("host", StreamKind::host, Axis::dp);
    if (is_first()) {
      const BufferId ids = c.builder.buffer("tokens", Dtype::i32, c.n.rows, BufferKind::input, Lifetime::slot);
      b.emit_ahead(load(HostTask::load_inputs), host, Phase::load, c.builder.whole(ids), slot_free());
    }
    if (is_last()) {
      const BufferId ids = c.builder.buffer("targets", Dtype::i32, c.n.rows, BufferKind::input, Lifetime::slot);
      b.emit_ahead(load(HostTask::load_targets), host, Phase::load, c.builder.whole(ids), slot_free());
    }
    if (!is_first()) {
      b.emit_ahead(message(false, c.stage - 1, "activation", virtual_stage() - 1), peer_stream("activations_in"),
                   Phase::forward, c.builder.whole(c.residual()), slot_free());
    }
    // The slot's last output may still be on its way out.
    std::vector<EventId> waits;
    if (sends_forward()) {
      waits.push_back(sent());
    }
    b.join(Phase::forward, waits);
    return c.builder.add(b.take());
  }

  BlockId end_forward() {
    BlockBuilder b(c.role(), "end_forward");
    const Operand x = c.builder.whole(c.residual(), c.chunk_layers[static_cast<std::size_t>(chunk)]);
    const int at = b.emit(message(true, c.stage + 1, "activation", virtual_stage()), peer_stream("activations_out"),
                          Phase::forward, {x}, {});
    b.op(at).records = {sent()};
    return c.builder.add(b.take());
  }

  BlockId begin_backward() {
    BlockBuilder b(c.role(), "begin_backward");
    if (is_last()) {
      b.join(Phase::backward_input, {ring_free()});
    } else {
      b.emit_ahead(message(false, c.stage + 1, "gradient", virtual_stage()), peer_stream("gradients_in"),
                   Phase::backward_input, c.builder.whole(c.residual_gradient()), ring_free());
      b.join(Phase::backward_input);
    }
    return c.builder.add(b.take());
  }

  BlockId end_backward() {
    BlockBuilder b(c.role(), "end_backward");
    if (is_first()) {
      b.join(Phase::backward_input, {}, {slot_free(), ring_free()});
    } else {
      b.join(Phase::backward_input, {}, {slot_free()});
      const int at = b.emit(message(true, c.stage - 1, "gradient", virtual_stage() - 1), peer_stream("gradients_out"),
                            Phase::backward_input, {c.builder.whole(c.residual_gradient())}, {});
      b.op(at).records = {ring_free()};
    }
    return c.builder.add(b.take());
  }
};

// Layer blocks are the same for all chunks of a role.
struct LayerBlocks {
  BlockId forward, backward, backward_last;
};

SegmentId forward_segment(RoleContext& c, int chunk, const LayerBlocks& layers) {
  PipelineEnds ends{c, chunk};
  const auto i = static_cast<std::size_t>(chunk);
  Segment s{"F" + std::to_string(chunk), chunk, c.chunk_first[i], {}};
  s.calls.push_back({ends.begin_forward(), 1, -1, 1});
  if (ends.is_first()) {
    s.calls.push_back({embedding_forward(c), 1, -1, 1});
  }
  s.calls.push_back({layers.forward, c.chunk_layers[i], c.chunk_first[i], 1});
  if (ends.is_last()) {
    s.calls.push_back({head_forward(c), 1, -1, 1});
  } else {
    s.calls.push_back({ends.end_forward(), 1, -1, 1});
  }
  return c.builder.add(std::move(s));
}

// `last`: of the step's microbatches on this chunk, after which the chunk's gradients are complete.
SegmentId backward_segment(RoleContext& c, int chunk, const LayerBlocks& layers, bool last) {
  PipelineEnds ends{c, chunk};
  const auto i = static_cast<std::size_t>(chunk);
  const bool reduce = last && c.job.strategy.overlap_grad_reduce && c.groups.dp != kNoGroup;
  Segment s{"B" + std::to_string(chunk) + (last ? ".last" : ""), chunk, c.chunk_first[i], {}};
  s.calls.push_back({ends.begin_backward(), 1, -1, 1});
  if (ends.is_last()) {
    s.calls.push_back({head_backward(c, last), 1, -1, 1});
    if (reduce && (c.groups.embedding == kNoGroup || c.tied_here)) {
      s.calls.push_back({reduce_bucket(c, {kHead, 0, 1}), 1, -1, 1});
    }
  }
  const BlockId backward = last ? layers.backward_last : layers.backward;
  if (reduce) {
    for (const BucketRange& r : chunk_buckets(c, chunk)) {
      s.calls.push_back({backward, r.layers, r.first_layer + r.layers - 1, -1});
      s.calls.push_back({reduce_bucket(c, r), 1, r.first_layer, 1});
    }
  } else {
    s.calls.push_back({backward, c.chunk_layers[i], c.chunk_first[i] + c.chunk_layers[i] - 1, -1});
  }
  if (ends.is_first()) {
    s.calls.push_back({embedding_backward(c, last), 1, -1, 1});
  }
  s.calls.push_back({ends.end_backward(), 1, -1, 1});
  return c.builder.add(std::move(s));
}

// Are several microbatches between the head's forward and its backward at once?
bool head_needs_slots(const std::vector<Action>& row, int last_stage) {
  int open = 0;
  for (const Action& a : row) {
    if (a.stage == last_stage) {
      open += a.kind == ActionKind::forward ? 1 : -1;
      if (open > 1) {
        return true;
      }
    }
  }
  return false;
}

// The forward segment again, with its slot free at the end: no backward will follow.
SegmentId evaluation_segment(RoleContext& c, SegmentId forward) {
  BlockBuilder end(c.role(), "end_evaluation");
  end.join(Phase::forward, {}, {c.builder.event("slot_free", Replicas::per_slot)});
  Segment s = c.role().segments[static_cast<std::size_t>(forward)];
  s.name[0] = 'E';
  s.calls.push_back({c.builder.add(end.take()), 1, -1, 1});
  return c.builder.add(std::move(s));
}

// The forwards of the schedule's row, one microbatch after the other through the slots.
void add_evaluation(RoleContext& c, const std::vector<SegmentId>& forward, const std::vector<Action>& row) {
  std::vector<SegmentId> evaluation;
  for (const SegmentId f : forward) {
    evaluation.push_back(evaluation_segment(c, f));
  }
  std::vector<Instance>& program = c.role().program.evaluation;
  program.push_back({evaluation_begin_segment(c), -1, -1, -1});
  std::int32_t slot = 0;
  for (const Action& a : row) {
    if (a.kind == ActionKind::forward) {
      program.push_back({evaluation[static_cast<std::size_t>(a.stage / c.job.strategy.pp)], a.microbatch, slot, -1});
      slot = (slot + 1) % c.role().slots;
    }
  }
  program.push_back({evaluation_end_segment(c), -1, -1, -1});
}

void build_role(const Job& job, PlanGraph& g, Role& role, const Groups& groups, int stage,
                const std::vector<Action>& row, const std::vector<std::int32_t>& slots, int slot_count) {
  role.name = "stage " + std::to_string(stage);
  role.ranks.fixed = {{Axis::pp, stage}};
  role.slots = slot_count;
  role.rings = job.strategy.pp > 1 ? 2 : 1;
  RoleContext c(job, g, role, groups, stage);
  c.head_in_slots = head_needs_slots(row, static_cast<int>(job.strategy.stages()) - 1);
  add_parameters(c);
  g.tensors = c.tensors;
  if (c.last) {
    role.loss = c.builder.buffer("loss", Dtype::fp64, 1, BufferKind::workspace, Lifetime::persistent);
  }
  role.grad_norm = c.builder.buffer("gradient_norm", Dtype::fp64, 2, BufferKind::workspace, Lifetime::persistent);

  const LayerBlocks layers{layer_forward(c), layer_backward(c, false), layer_backward(c, true)};
  role.program.body.push_back({begin_segment(c), -1, -1, -1});
  const std::size_t chunks = c.chunk_layers.size();
  std::vector<SegmentId> forward(chunks), backward(chunks), backward_last(chunks);
  std::vector<std::size_t> last_action(chunks);
  for (std::size_t i = 0; i < chunks; ++i) {
    forward[i] = forward_segment(c, static_cast<int>(i), layers);
    backward[i] = backward_segment(c, static_cast<int>(i), layers, false);
    backward_last[i] = backward_segment(c, static_cast<int>(i), layers, true);
  }
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (row[i].kind != ActionKind::forward) {
      last_action[static_cast<std::size_t>(row[i].stage / job.strategy.pp)] = i;
    }
  }
  std::int32_t ring = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const auto chunk = static_cast<std::size_t>(row[i].stage / job.strategy.pp);
    if (row[i].kind == ActionKind::forward) {
      role.program.body.push_back({forward[chunk], row[i].microbatch, slots[i], -1});
    } else {
      const SegmentId segment = last_action[chunk] == i ? backward_last[chunk] : backward[chunk];
      role.program.body.push_back({segment, row[i].microbatch, slots[i], ring});
      ring = (ring + 1) % role.rings;
    }
  }
  role.program.body.push_back({update_segment(c), -1, -1, -1});
  add_evaluation(c, forward, row);
  place(role);
}

}  // namespace

PlanGraph build(const Job& job) {
  const Strategy& s = job.strategy;
  PlanGraph g;
  g.name = job.workload.model.name;
  g.mesh.order = parse_rank_order(s.rank_order);
  g.mesh.extent = {static_cast<int>(s.pp), static_cast<int>(s.dp), static_cast<int>(s.cp), static_cast<int>(s.tp)};
  g.sequences_per_step = job.workload.global_batch;
  g.seq_len = job.workload.seq_len;
  g.microbatches = static_cast<std::int32_t>(job.microbatches());
  const Groups groups = add_groups(g, job);
  const Schedule schedule = make_schedule(s, g.microbatches);
  const SlotAssignment slots = assign_slots(schedule);
  g.roles.resize(static_cast<std::size_t>(s.pp));
  for (std::size_t p = 0; p < g.roles.size(); ++p) {
    for (const Action& a : schedule[p]) {
      if (a.kind == ActionKind::backward_input || a.kind == ActionKind::backward_weight) {
        throw InputError("schedule: split backward actions (I, W) are not built yet; allowed: F, B");
      }
    }
    build_role(job, g, g.roles[p], groups, static_cast<int>(p), schedule[p], slots.slots[p], slots.count[p]);
  }
  return g;
}

Job one_rank_job(const Job& job) {
  Job one = job;
  one.strategy = Strategy{};
  one.strategy.micro_batch = job.strategy.micro_batch;
  one.strategy.recompute = Recompute::none;
  one.strategy.padded_vocab = padded_vocab(job);
  return one;
}

}  // namespace foretrain::plan
