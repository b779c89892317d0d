// Assembles the graph: mesh and groups, one role per pipeline stage, its segments and its program.
#include "plan/build.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "plan/build_loading.h"
#include "plan/build_update.h"
#include "plan/memory.h"
#include "plan/schedule.h"
#include "plan/stage_share.h"
#include "plan/stage_twin.h"

namespace foretrain::plan {

namespace {

// Of the ranks of a pipeline stage: those of its pair too, where both have copies of the same layers.
Groups add_groups(PlanGraph& g, const Job& job, const std::vector<std::int32_t>& rank_of_stage, int stage) {
  const Strategy& s = job.strategy;
  const auto add = [&g](const std::string& name, std::vector<AxisSpan> spans) {
    const auto known = std::find_if(g.groups.begin(), g.groups.end(), [&](const Group& x) { return x.name == name; });
    if (known != g.groups.end()) {
      return static_cast<GroupId>(known - g.groups.begin());
    }
    g.groups.push_back({name, std::move(spans), {}});
    return static_cast<GroupId>(g.groups.size() - 1);
  };
  Groups groups;
  const int mirror = static_cast<int>(s.pp) - 1 - stage;
  if (s.ways() > 1) {
    groups.pair = {{Axis::pp, 0, {std::min(stage, mirror), std::max(stage, mirror)}}};
    groups.of_pair = fmt::format(" {}|{}", std::min(stage, mirror), std::max(stage, mirror));
  }
  if (s.tp > 1) {
    groups.tp = add("tp", {{Axis::tp, 0, {}}});
  }
  // Behind the workers stand the servers.
  std::vector<int> workers(s.servers > 0 ? static_cast<std::size_t>(s.dp) : 0);
  std::iota(workers.begin(), workers.end(), 0);
  for (int server = 0; server < s.servers; ++server) {
    std::vector<int> with = workers;
    with.push_back(static_cast<int>(s.dp) + server);
    groups.with_server.push_back(add(fmt::format("workers and server {}", server), {{Axis::dp, 0, with}}));
  }
  if (s.servers > 1) {
    std::vector<int> servers(static_cast<std::size_t>(s.servers));
    std::iota(servers.begin(), servers.end(), static_cast<int>(s.dp));
    groups.servers = add("servers", {{Axis::dp, 0, servers}});
  }
  for (int server = 0; server < s.servers && s.server_replicas > 0; ++server) {
    const int rank = static_cast<int>(s.dp) + server;
    groups.with_replica.push_back(add(fmt::format("server {} and its replica", server),
                                      {{Axis::dp, 0, {rank, rank + static_cast<int>(s.servers)}}}));
  }
  if (s.replicas() > 1) {
    const auto spanning = [&](std::vector<AxisSpan> along_dp) {
      if (s.cp > 1) {
        along_dp.push_back({Axis::cp, 0, {}});
      }
      along_dp.insert(along_dp.begin(), groups.pair.begin(), groups.pair.end());
      return along_dp;
    };
    groups.data = add("dp" + groups.of_pair,
                      spanning(s.dp > 1 ? std::vector<AxisSpan>{{Axis::dp, 0, {}}} : std::vector<AxisSpan>{}));
    groups.dp = groups.data;
    if (s.drifting() > 1) {
      const auto n = static_cast<int>(s.local_group);
      groups.averaged = add("averaged", {{Axis::dp, 0, {}, n}});
      groups.dp = n * s.cp == 1 ? kNoGroup : add("local", spanning({{Axis::dp, n, {}}}));
    }
    groups.shard = s.shards() == 1 ? kNoGroup : groups.dp;
    if (s.shards() > 1 && s.shards() < s.replicas()) {
      const auto n = static_cast<int>(s.shard);
      groups.shard = add("shard", spanning({{Axis::dp, n, {}}}));
      groups.replicas = add("replicas", {{Axis::dp, 0, {}, n}});
    }
  }
  if (s.cp > 1) {
    groups.cp = add("cp", {{Axis::cp, 0, {}}});
  }
  if (job.workload.model.kv_heads < s.tp) {
    groups.kv = add("kv", {{Axis::tp, static_cast<int>(s.tp / job.workload.model.kv_heads), {}}});
  }
  const auto [low, high] = std::minmax(rank_of_stage.front(), rank_of_stage.back());
  if (low != high && job.workload.model.tied_embeddings) {
    groups.embedding = add("embedding", {{Axis::pp, 0, {low, high}}});
  }
  // Half of the ranks have a whole model, where there are two copies.
  const int ranks_of_model = static_cast<int>(s.pp / s.ways());
  if (ranks_of_model * s.tp > 1) {
    groups.model = add("model", {{Axis::pp, s.ways() == 1 ? 0 : ranks_of_model, {}}, {Axis::tp, 0, {}}});
  }
  add_expert_groups(g, job, groups);
  return groups;
}

// As Groups::servers.
GroupId replicas_of_servers(PlanGraph& g, const Strategy& s) {
  if (s.servers == 1) {
    return kNoGroup;
  }
  std::vector<int> replicas(static_cast<std::size_t>(s.servers));
  std::iota(replicas.begin(), replicas.end(), static_cast<int>(s.dp + s.servers));
  g.groups.push_back({"replicas of servers", {{Axis::dp, 0, replicas}}, {}});
  return static_cast<GroupId>(g.groups.size() - 1);
}

// Are several microbatches between the head's forward and its backward at once?
bool head_needs_slots(const std::vector<Action>& row, std::int64_t model_stages) {
  int open = 0;
  for (const Action& a : row) {
    if ((a.stage + 1) % model_stages == 0) {
      open += a.kind == ActionKind::forward ? 1 : a.kind == ActionKind::backward_weight ? 0 : -1;
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
  for (BlockCall& call : s.calls) {
    const auto at = c.without_backward.find(call.block);
    call.block = at == c.without_backward.end() ? call.block : at->second;
  }
  std::erase_if(s.calls, [](const BlockCall& call) { return call.block < 0; });
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
      program.push_back({evaluation[c.chunk_of(a.stage)], a.microbatch, slot, -1, c.splits ? slot : -1});
      slot = (slot + 1) % c.role().slots;
    }
  }
  program.push_back({evaluation_end_segment(c), -1, -1, -1});
}

BackwardPart part_of(ActionKind kind) {
  return kind == ActionKind::backward_input    ? BackwardPart::input
         : kind == ActionKind::backward_weight ? BackwardPart::weight
                                               : BackwardPart::whole;
}

// The parts that the row has, in the order whole, input, weight.
std::vector<BackwardPart> parts_in(const std::vector<Action>& row) {
  std::set<BackwardPart> parts;
  for (const Action& a : row) {
    if (a.kind != ActionKind::forward) {
      parts.insert(part_of(a.kind));
    }
  }
  return {parts.begin(), parts.end()};
}

// Segments in pairs, made where the first one is needed.
class Pairs {
 public:
  Pairs(RoleContext& c, const LayerBlocks& layers) : c_(c), layers_(layers) {}
  SegmentId operator()(SegmentId forward, SegmentId backward) {
    const auto [pair, is_new] = known_.try_emplace({forward, backward});
    if (is_new) {
      pair->second = paired_segment(c_, forward, backward, layers_);
    }
    return pair->second;
  }

 private:
  RoleContext& c_;
  const LayerBlocks& layers_;
  std::map<std::pair<SegmentId, SegmentId>, SegmentId> known_;
};

struct ChunkSegments {
  SegmentId forward = -1;        // gathers sharded parameters
  SegmentId forward_again = -1;  // of a later microbatch of the step, where they stay gathered
  std::map<std::pair<BackwardPart, bool>, SegmentId> backward;  // by part and "the step's last on this chunk"
};

std::vector<ChunkSegments> chunk_segments(RoleContext& c, const LayerBlocks& layers,
                                          const std::vector<BackwardPart>& parts) {
  c.role().program.body.push_back({begin_segment(c), -1, -1, -1});
  std::vector<ChunkSegments> chunks(c.chunk_layers.size());
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const int chunk = static_cast<int>(i);
    chunks[i].forward = forward_segment(c, chunk, layers, true);
    const bool stays = c.gathers_any() && !c.job.strategy.reshard && c.job.microbatches() > 1;
    chunks[i].forward_again = stays ? forward_segment(c, chunk, layers, false) : chunks[i].forward;
    for (const BackwardPart part : parts) {
      chunks[i].backward[{part, false}] = backward_segment(c, chunk, layers, part, false);
      if (part != BackwardPart::input) {
        chunks[i].backward[{part, true}] = backward_segment(c, chunk, layers, part, true);
      }
    }
  }
  return chunks;
}

// The last action of each chunk.
std::vector<std::size_t> last_actions(const RoleContext& c, const std::vector<Action>& row) {
  std::vector<std::size_t> last(c.chunk_layers.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    last[c.chunk_of(row[i].stage)] = i;
  }
  return last;
}

// The action before which the step before is validated: the last stage has the whole norm at once, the others when
// their first forwards are done. None without post-validation.
std::size_t validated_before(const RoleContext& c, const std::vector<Action>& row) {
  if (!c.job.strategy.post_validation) {
    return row.size();
  }
  const auto first_backward =
      std::find_if(row.begin(), row.end(), [](const Action& a) { return a.kind != ActionKind::forward; });
  return c.stage + 1 == c.job.strategy.pp ? 0 : static_cast<std::size_t>(first_backward - row.begin());
}

void build_role(const Job& job, PlanGraph& g, Role& role, const Groups& groups, int stage, const StageShare& share,
                const PipelineRow& row, const CopyAssignment& copies) {
  const std::vector<Action>& actions = row.actions;
  place_ranks(job.strategy, stage, share, role);
  role.slots = copies.slots;
  RoleContext c(job, g, role, groups, stage, row, share.part);
  role.holds = c.splits ? copies.holds : 0;
  role.rings = c.splits ? copies.rings : job.strategy.pp > 1 ? kRings : 1;
  c.head_in_slots = head_needs_slots(actions, job.strategy.model_stages());
  if (c.splits && job.strategy.zero >= 2) {
    throw InputError(
        fmt::format("strategy: zero {} cannot go with a schedule that has backwards in two halves; expected "
                    "0 or 1, or whole backwards",
                    job.strategy.zero));
  }
  if (c.splits && job.strategy.offload_activations) {
    throw InputError(
        "strategy: offload \"activations\" cannot go with a schedule that has backwards in two halves; expected whole "
        "backwards");
  }
  if (job.strategy.loss_chunks > 1 && job.strategy.zero >= 2 && c.head_in_slots) {
    throw InputError(
        fmt::format("strategy: loss_chunks {} has the output layer's gradients from a forward on: with zero {} they "
                    "would be those of several microbatches in this schedule; expected one in which the last stage's "
                    "backward follows its forward, zero 0 or 1, or loss_chunks 1",
                    job.strategy.loss_chunks, job.strategy.zero));
  }
  if (c.splits && c.model.is_encoder_decoder()) {
    throw InputError(
        "strategy: schedule: backwards in two halves are not built with an encoder_decoder; expected whole backwards");
  }
  add_parameters(c);
  g.tensors = c.tensors;
  if (job.strategy.servers > 0) {
    c.dealt = deal(job.strategy, role);
  }
  if (c.last) {
    role.loss = c.builder.buffer("loss", Dtype::fp64, 1, BufferKind::workspace, Lifetime::persistent);
  }
  if (c.updates()) {
    role.grad_norm = c.builder.buffer("gradient_norm", Dtype::fp64, 2, BufferKind::workspace, Lifetime::persistent);
  }

  if (c.scales_loss()) {
    role.loss_scale = c.builder.buffer("loss_scale", Dtype::fp64, 5, BufferKind::workspace, Lifetime::persistent);
  }

  const std::vector<BackwardPart> parts = parts_in(actions);
  const LayerBlocks layers(c, parts);
  const std::vector<ChunkSegments> chunks = chunk_segments(c, layers, parts);
  Pairs in_pairs(c, layers);
  const std::vector<std::size_t> last = last_actions(c, actions);
  std::int32_t next_ring = 0;
  const std::size_t validates_before = validated_before(c, actions);
  std::vector<bool> began(chunks.size(), false);
  for (std::size_t i = 0; i < actions.size(); ++i) {
    const Action& a = actions[i];
    if (i == validates_before) {
      role.program.body.push_back({validation_segment(c), -1, -1, -1});
    }
    const std::size_t chunk = c.chunk_of(a.stage);
    const std::int32_t hold = c.splits ? copies.hold[i] : -1;
    if (a.kind == ActionKind::forward) {
      const SegmentId forward = began[chunk] ? chunks[chunk].forward_again : chunks[chunk].forward;
      began[chunk] = true;
      role.program.body.push_back({forward, a.microbatch, copies.slot[i], -1, hold, {}});
      continue;
    }
    const SegmentId segment = chunks[chunk].backward.at({part_of(a.kind), last[chunk] == i});
    const std::int32_t ring = c.splits ? copies.ring[i] : next_ring;
    if (i > 0 && row.paired[i - 1]) {
      Instance& pair = role.program.body.back();
      pair.segment = in_pairs(pair.segment, segment);
      pair.beside = InstanceSide{a.microbatch, copies.slot[i], ring, hold};
    } else {
      role.program.body.push_back({segment, a.microbatch, copies.slot[i], ring, hold, {}});
    }
    next_ring = (next_ring + 1) % role.rings;
    if (last[chunk] == i && c.reduces_apart()) {
      role.program.body.push_back({reduce_segment(c, static_cast<int>(chunk)), -1, -1, -1});
    }
  }
  role.program.body.push_back({update_segment(c), -1, -1, -1});
  if (groups.averaged != kNoGroup) {
    Instance average{average_segment(c)};
    average.every = static_cast<std::int32_t>(job.strategy.average_every);
    role.program.body.push_back(average);
    if (job.strategy.outer.kind != OuterKind::average) {
      role.program.prologue.push_back({anchor_segment(c)});
    }
  }
  std::vector<SegmentId> forward;
  for (const ChunkSegments& chunk : chunks) {
    forward.push_back(chunk.forward);
  }
  add_evaluation(c, forward, actions);
}

DataSet data_set(const Job& job) {
  const workloads::Workload& w = job.workload;
  const workloads::DataSpec& data = w.data;
  DataSet set;
  const bool is_block = data.distribution == workloads::Distribution::block;
  const std::int64_t all = data.samples > 0 ? data.samples : data.sequences;
  set.sequences = is_block ? all / job.strategy.dp * job.strategy.dp : all;
  const std::int64_t whole = set.sequences / w.global_batch * w.global_batch;
  const bool drops = data.last_batch == workloads::LastBatch::drop;
  set.per_epoch = drops ? whole : set.sequences;
  set.bytes_per_sequence = w.bytes_per_sequence().value;
  set.kept = data.cache.value / set.bytes_per_sequence;
  set.stays = is_block || (!data.reshuffle && (drops || set.sequences == whole));
  set.sequences = set.stays && !is_block ? whole : set.sequences;  // those left over are the same in every epoch
  return set;
}

struct Unplaced {
  PlanGraph graph;
  std::vector<std::optional<std::size_t>> like;  // by role: the one that it is a copy of (plan/stage_twin.h)
};

Unplaced build_roles(const Job& job) {
  const Strategy& s = job.strategy;
  Unplaced built;
  PlanGraph& g = built.graph;
  g.name = job.workload.model.name;
  g.mesh.order = parse_rank_order(s.rank_order);
  g.mesh.extent = {static_cast<int>(s.pp), static_cast<int>(s.dp), static_cast<int>(s.cp), static_cast<int>(s.tp)};
  g.mesh.beside = static_cast<int>(s.beside());
  g.servers = static_cast<std::int32_t>(s.serving());
  g.loader_ranks = static_cast<std::int32_t>(s.loader_ranks);
  g.asynchronous = s.staleness.has_value();
  g.elastic = s.elastic;
  g.data = data_set(job);
  g.sequences_per_step = job.workload.global_batch;
  g.seq_len = job.workload.tokens_per_sequence();
  g.told_len = job.workload.model.is_classifier() ? 1 : job.workload.target_len;
  g.microbatches = static_cast<std::int32_t>(job.microbatches());
  g.microbatches_of.assign(s.microbatches_of.begin(), s.microbatches_of.end());
  const std::vector<StageShare> shares = shares_of(s, g.microbatches);
  std::vector<Schedule> schedules;
  for (const StageShare& share : shares) {
    schedules.push_back(schedule_of(s, share.microbatches, g.microbatches));
  }
  const std::vector<std::int32_t> rank_of_stage = placement(schedules[0], static_cast<int>(s.stages()));
  const auto paired = [&](const Schedule& schedule, std::size_t p) {
    return s.overlap_ep ? pairs(schedule, static_cast<int>(s.stages()))[p]
                        : std::vector<bool>(schedule[p].size(), false);
  };
  const std::vector<Chain> chains = loaded_chains(job, schedules[0], rank_of_stage);
  const std::vector<StageShare> parts = chains.empty() ? shares : receivers(s, shares[0]);
  g.roles.resize(static_cast<std::size_t>(s.pp) * parts.size() + static_cast<std::size_t>(s.beside()));
  built.like.resize(g.roles.size());
  auto role = g.roles.begin();
  Groups groups;
  StageTwins twins(job, rank_of_stage, parts.size() == 1);
  for (std::size_t p = 0; p < static_cast<std::size_t>(s.pp); ++p) {
    const CopyAssignment copies = assign_copies(schedules[0][p]);
    const auto at = static_cast<std::size_t>(role - g.roles.begin());
    if ((built.like[at] = twins.copy(g, *role, static_cast<int>(p), schedules[0][p], copies))) {
      place_ranks(s, static_cast<int>(p), parts[0], *role++);
      continue;
    }
    groups = add_groups(g, job, rank_of_stage, static_cast<int>(p));
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Schedule& schedule = schedules[schedules.size() == 1 ? 0 : i];
      build_role(job, g, *role++, groups, static_cast<int>(p), parts[i],
                 {schedule[p], rank_of_stage, paired(schedule, p)},
                 &schedule == &schedules[0] ? copies : assign_copies(schedule[p]));
    }
    twins.add(static_cast<int>(p), p, schedules[0][p]);
  }
  const auto serve = [&](Part part) {
    for (std::int32_t server = 0; server < s.servers; ++server) {
      build_server(job, g, *role++, groups, part, server, deal(s, g.roles.front()), schedules[0][0].back().microbatch);
    }
  };
  serve(Part::server);
  if (s.server_replicas > 0) {
    groups.servers = replicas_of_servers(g, s);
    serve(Part::replica);
  }
  for (std::int32_t loader = 0; loader < s.loader_ranks; ++loader) {
    build_loader(job, g, *role++, groups, loader, chains);
  }
  return built;
}

}  // namespace

PlanGraph build(const Job& job) {
  Unplaced built = build_roles(job);
  std::vector<Role>& roles = built.graph.roles;
  for (std::size_t r = 0; r < roles.size(); ++r) {
    if (built.like[r]) {
      place_like(roles[r], roles[*built.like[r]]);
    } else {
      place(roles[r]);
    }
  }
  return std::move(built.graph);
}

PlanGraph build_unplaced(const Job& job) {
  return build_roles(job).graph;
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
