// Loader ranks (as tf.data's service, Audibert et al. 2023, arXiv:2210.14826, has them): what a worker trains on
// crosses the network one microbatch ahead of it. All of a tp group need the same: one of them is sent it, and
// broadcasts it, so that a loader's link has it once.
#include "plan/build_loading.h"

#include <fmt/format.h>

namespace foretrain::plan {

namespace {

struct Load {
  std::string name;
  Host op;
  Dtype dtype = Dtype::i32;
  std::int64_t elements = 0;

  std::int64_t bytes() const { return size_bytes(dtype, elements); }
};

Load of_tokens(const RoleContext& c, HostTask task, std::string name) {
  const workloads::Workload& w = c.job.workload;
  const Masking masking = c.model.head == workloads::Head::masked_lm
                              ? Masking{w.targets_per_sequence(), c.model.mask_token, c.model.vocab}
                              : Masking{};
  Host op{task, c.n.batch, c.n.seq, c.groups.cp, masking};
  if (c.model.is_encoder_decoder()) {
    op.part = {w.tokens_per_sequence(), c.side == Side::decoder ? w.seq_len : 0, c.model.start_token};
  }
  return {std::move(name), op, Dtype::i32, c.n.rows};
}

// So many numbers of each sequence, or sample.
Load of_each(const RoleContext& c, HostTask task, std::string name, Dtype dtype, std::int64_t cols) {
  Host op{task, c.n.batch, 1};
  op.cols = cols;
  op.dtype = dtype;
  return {std::move(name), op, dtype, c.n.batch * cols};
}

Load load_of(const RoleContext& c, Loaded what) {
  const bool tells_classes = c.model.dense.loss == workloads::Loss::cross_entropy;
  switch (what) {
    case Loaded::tokens: return of_tokens(c, HostTask::load_inputs, c.named("tokens"));
    case Loaded::targets: return of_tokens(c, HostTask::load_targets, "targets");
    case Loaded::features:
      return of_each(c, HostTask::load_features, "features", c.type.activation, c.model.dense.inputs);
    case Loaded::labels:
      return of_each(c, HostTask::load_labels, "labels", tells_classes ? Dtype::i32 : c.type.activation,
                     tells_classes ? 1 : c.n.vocab);
    case Loaded::lengths: return of_each(c, HostTask::load_lengths, "lengths", Dtype::i32, 1);
    case Loaded::classes: return of_each(c, HostTask::load_labels, "classes", Dtype::i32, 1);
  }
  return {};
}

// Of several loads of the same sequences the first one reads them.
std::vector<Load> loads(RoleContext& c, const LoadedHere& here) {
  std::vector<Load> all;
  const auto add = [&](bool is_needed, Loaded what) {
    if (is_needed) {
      all.push_back(load_of(c, what));
    }
  };
  const bool is_dense = c.model.is_dense(), classifies = c.model.is_classifier();
  c.enter(Side::encoder);
  add(here.first, is_dense ? Loaded::features : Loaded::tokens);
  if (c.model.is_encoder_decoder()) {
    c.enter(Side::decoder);
    add(true, Loaded::tokens);
  }
  add(classifies, Loaded::lengths);
  add(here.last, is_dense ? Loaded::labels : classifies ? Loaded::classes : Loaded::targets);
  if (!all.empty() && (here.first || !(classifies ? here.has_read : c.first))) {
    const workloads::Workload& w = c.job.workload;
    Host& op = all.front().op;
    op.bytes = op.sequences * w.bytes_per_sequence().value;
    op.loaders = w.data.loaders;
    op.prefetch = w.data.prefetch;
  }
  return all;
}

BufferId buffer(RoleContext& c, const Load& load) {
  return c.builder.buffer(load.name, load.dtype, load.elements, BufferKind::input, Lifetime::slot);
}

BufferId arrived(RoleContext& c, const Load& load) {
  return c.builder.buffer(load.name + ".arrived", load.dtype, load.elements, BufferKind::communication,
                          Lifetime::persistent);
}

EventId taken(RoleContext& c, const Load& load) {
  return c.builder.event(load.name + ".taken", Replicas::once);
}

// A rank may have several stages that are sent the same kind of thing.
std::int32_t tag(RoleContext& c, const Load& load, const LoadedHere& here) {
  return c.builder.tag(c.job.strategy.stages() == 1 ? load.name : fmt::format("{} F{}", load.name, here.virtual_stage));
}

Exchange message(RoleContext& c, const Load& load, const LoadedHere& here, bool send, std::int64_t peer) {
  Message m;
  m.send = send;
  m.axis = Axis::dp;
  m.peer = static_cast<std::int32_t>(peer);
  m.elements = load.elements;
  m.dtype = load.dtype;
  m.tag = tag(c, load, here);
  return {{m}};
}

// Neighbouring workers have the same one; none has more than one worker more than another.
std::int64_t loader_of(const Strategy& s, std::int64_t worker) {
  return worker * s.loader_ranks / s.dp;
}

// From the first rank of the tp group to all. `received`: the op by which this rank has it; -1: it is another.
void broadcast(RoleContext& c, BlockBuilder& b, const Load& load, const LoadedHere& here, int received) {
  Collective op;
  op.kind = CollectiveKind::broadcast;
  op.group = c.groups.tp;
  op.elements = load.elements;
  op.dtype = load.dtype;
  op.tag = tag(c, load, here);
  op.root = 0;
  const StreamId stream = c.builder.stream("batches in tp", StreamKind::collective, Axis::tp);
  const Operand whole = c.builder.whole(arrived(c, load));
  const int at = received < 0 ? b.emit_ahead(op, stream, Phase::load, whole, taken(c, load))
                              : b.emit_behind(op, stream, Phase::load, {}, received);
  b.op(at).reads = b.op(at).writes = {whole};
}

}  // namespace

Operand loaded(RoleContext& c, Loaded what) {
  return c.builder.whole(buffer(c, load_of(c, what)));
}

void emit_loads(RoleContext& c, BlockBuilder& b, const LoadedHere& here) {
  const Strategy& s = c.job.strategy;
  const Mesh& mesh = c.builder.graph().mesh;
  for (const Load& load : loads(c, here)) {
    if (s.loader_ranks == 0) {
      b.emit_ahead(load.op, c.builder.stream("host", StreamKind::host, Axis::dp), Phase::load,
                   c.builder.whole(buffer(c, load)), c.builder.event("slot_free", Replicas::per_slot));
      continue;
    }
    int received = -1;
    if (along(mesh, c.role().ranks, Axis::tp).first == 0) {
      const std::int64_t worker = along(mesh, c.role().ranks, Axis::dp).first;
      received = b.emit_ahead(message(c, load, here, false, s.dp + loader_of(s, worker)),
                              c.builder.stream("batches", StreamKind::host, Axis::dp), Phase::load,
                              c.builder.whole(arrived(c, load)), taken(c, load));
    }
    if (c.groups.tp != kNoGroup) {
      broadcast(c, b, load, here, received);
    }
  }
}

void take_loads(RoleContext& c, BlockBuilder& b, const LoadedHere& here) {
  if (c.job.strategy.loader_ranks == 0) {
    return;
  }
  for (const Load& load : loads(c, here)) {
    const int at = b.emit(Copy{CopyKind::device_to_device, load.bytes()}, kCompute, Phase::load,
                          {c.builder.whole(arrived(c, load))}, {c.builder.whole(buffer(c, load))});
    b.op(at).records = {taken(c, load)};
  }
}

std::vector<Chain> loaded_chains(const Job& job, const Schedule& schedule,
                                 const std::vector<std::int32_t>& rank_of_stage) {
  const auto model_stages = static_cast<std::int32_t>(job.strategy.model_stages());
  std::vector<Chain> chains;
  for (std::int32_t v = 0; job.strategy.loader_ranks > 0 && v < std::ssize(rank_of_stage); ++v) {
    const bool first = v % model_stages == 0, last = (v + 1) % model_stages == 0;
    if (!first && !last && !job.workload.model.is_classifier()) {
      continue;
    }
    Chain& chain = chains.emplace_back(Chain{rank_of_stage[static_cast<std::size_t>(v)], {v, first, last, true}, {}});
    for (const Action& a : schedule[static_cast<std::size_t>(chain.stage)]) {
      if (a.stage == v && a.kind == ActionKind::forward) {
        chain.microbatches.push_back(a.microbatch);
      }
    }
  }
  return chains;
}

namespace {

// One under construction.
struct Loader {
  RoleContext& c;
  std::int32_t index;
  bool is_only;  // of the chains

  struct Sent {
    Load load;
    Operand whole;
    EventId sent;
    StreamId stream;
    int read;  // the op
  };

  Segment segment(const Chain& chain) {
    const std::string of = is_only ? "" : fmt::format(" F{}", chain.here.virtual_stage);
    Segment all;
    all.name = "load" + of;
    for (int worker = 0; worker < c.job.strategy.dp; ++worker) {
      if (loader_of(c.job.strategy, worker) == index) {
        all.calls.push_back({block(chain, worker, of), 1, -1, 1});
      }
    }
    return all;
  }

  // Each is sent behind its read alone; compute, which does nothing, waits for those that come of storage.
  BlockId block(const Chain& chain, int worker, const std::string& of) {
    BlockBuilder b(c.role(), fmt::format("load {}{}", worker, of));
    std::vector<Sent> all;
    for (int share = 0; share < c.job.strategy.cp; ++share) {
      read(b, chain, {chain.stage, worker, share, 0}, of, all);
    }
    if (chain.here.first) {
      b.join(Phase::load);
    }
    for (const Sent& x : all) {
      const std::int64_t to = x.load.op.for_rank;
      const int at = b.emit_behind(message(c, x.load, chain.here, true, to), x.stream, Phase::load, {x.whole}, x.read);
      b.op(at).records = {x.sent};
    }
    return c.builder.add(b.take());
  }

  // Once for all shares of the sequences, and in the order of the program.
  void read(BlockBuilder& b, const Chain& chain, const Coordinates& at, const std::string& of, std::vector<Sent>& all) {
    const Rank rank = c.builder.graph().mesh.rank(at);
    const StreamId reading = c.builder.stream(chain.here.first ? "host" : "host" + of, StreamKind::host, Axis::dp);
    const StreamId sending = c.builder.stream(fmt::format("batches of {}{}", rank, of), StreamKind::host, Axis::dp);
    for (Load& load : loads(c, chain.here)) {
      const std::string name = fmt::format("{} {}{}", load.name, rank, of);
      const EventId sent = c.builder.event(name + ".sent", Replicas::per_slot);
      const Operand whole =
          c.builder.whole(c.builder.buffer(name, load.dtype, load.elements, BufferKind::input, Lifetime::slot));
      load.op.for_rank = rank;
      load.op.bytes = at[static_cast<std::size_t>(Axis::cp)] == 0 ? load.op.bytes : 0;
      const int op = b.emit_ahead(load.op, reading, Phase::load, whole, sent);
      all.push_back({load, whole, sent, sending, op});
    }
  }
};

}  // namespace

void build_loader(const Job& job, PlanGraph& g, Role& role, const Groups& groups, std::int32_t index,
                  const std::vector<Chain>& chains) {
  static const std::vector<Action> no_actions;
  static const std::vector<std::int32_t> one_stage{0};
  role.name = fmt::format("loader {}", index);
  role.ranks.fixed = {{Axis::pp, 0}, {Axis::dp, g.mesh.size(Axis::dp) + index}, {Axis::cp, 0}, {Axis::tp, 0}};
  role.slots = 2;  // one is filled while the other is sent
  RoleContext c(job, g, role, groups, 0, {no_actions, one_stage, {}}, Part::server);
  c.first = c.last = true;
  role.global_layer.clear();
  role.layer_lists.clear();
  Loader loader{c, index, chains.size() == 1};
  std::vector<SegmentId> segments;
  for (const Chain& chain : chains) {
    segments.push_back(c.builder.add(loader.segment(chain)));
  }
  for (std::vector<Instance>* program : {&role.program.body, &role.program.evaluation}) {
    for (std::int32_t m = 0; m < g.microbatches; ++m) {
      for (std::size_t i = 0; i < chains.size(); ++i) {
        if (m < std::ssize(chains[i].microbatches)) {
          program->push_back({segments[i], chains[i].microbatches[static_cast<std::size_t>(m)], m % role.slots, -1});
        }
      }
    }
  }
}

}  // namespace foretrain::plan
