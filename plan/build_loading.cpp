// Loader ranks (as tf.data's service, Audibert et al. 2023, arXiv:2210.14826, has them): what a worker trains on
// crosses the network one microbatch ahead of it.
#include "plan/build_loading.h"

#include <fmt/format.h>

#include "plan/build_dense.h"
#include "plan/memory.h"

namespace foretrain::plan {

namespace {

struct Load {
  std::string name;
  Host op;
  Dtype dtype = Dtype::i32;
  std::int64_t elements = 0;

  std::int64_t bytes() const { return size_bytes(dtype, elements); }
};

Host load_tokens(const RoleContext& c, HostTask task) {
  const workloads::Workload& w = c.job.workload;
  const Masking masking = c.model.head == workloads::Head::masked_lm
                              ? Masking{w.targets_per_sequence(), c.model.mask_token, c.model.vocab}
                              : Masking{};
  Host op{task, c.n.batch, c.n.seq, c.groups.cp, masking};
  if (c.model.is_encoder_decoder()) {
    op.part = {w.tokens_per_sequence(), c.side == Side::decoder ? w.seq_len : 0, c.model.start_token};
  }
  return op;
}

// Of several loads of the same sequences the first one reads them.
std::vector<Load> loads(RoleContext& c, const LoadedHere& here) {
  std::vector<Load> all;
  const auto tokens = [&](HostTask task, const std::string& name) {
    all.push_back({name, load_tokens(c, task), Dtype::i32, c.n.rows});
  };
  const auto samples = [&](HostTask task, const char* name) {
    const Host op = load_samples(c, task);
    all.push_back({name, op, op.dtype, c.n.rows * op.cols});
  };
  // A number of each sequence.
  const auto of_sequences = [&](HostTask task, const char* name) {
    Host op{task, c.n.batch, 1};
    op.cols = 1;
    all.push_back({name, op, Dtype::i32, c.n.batch});
  };
  if (c.model.is_dense()) {
    if (here.first) {
      samples(HostTask::load_features, "features");
    }
    if (here.last) {
      samples(HostTask::load_labels, "labels");
    }
  } else {
    c.enter(Side::encoder);
    if (here.first) {
      tokens(HostTask::load_inputs, c.named("tokens"));
    }
    if (c.model.is_encoder_decoder()) {
      c.enter(Side::decoder);
      tokens(HostTask::load_inputs, c.named("tokens"));
    }
    if (c.model.is_classifier()) {
      of_sequences(HostTask::load_lengths, "lengths");
    }
    if (here.last && c.model.is_classifier()) {
      of_sequences(HostTask::load_labels, "classes");
    } else if (here.last) {
      tokens(HostTask::load_targets, "targets");
    }
  }
  if (!all.empty() && (here.first || !(c.model.is_classifier() ? here.has_read : c.first))) {
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

StreamId host_stream(RoleContext& c) {
  return c.builder.stream("host", StreamKind::host, Axis::dp);
}

Exchange message(RoleContext& c, const Load& load, bool send, std::int64_t peer) {
  Message m;
  m.send = send;
  m.axis = Axis::dp;
  m.peer = static_cast<std::int32_t>(peer);
  m.elements = load.elements;
  m.dtype = load.dtype;
  m.tag = c.builder.tag(load.name);
  return {{m}};
}

// Workers side by side have the same loader.
std::int64_t workers_of_each(const Strategy& s) {
  return s.dp / s.loader_ranks;
}

}  // namespace

void emit_loads(RoleContext& c, BlockBuilder& b, const LoadedHere& here) {
  const Strategy& s = c.job.strategy;
  for (const Load& load : loads(c, here)) {
    if (s.loader_ranks == 0) {
      b.emit_ahead(load.op, host_stream(c), Phase::load, c.builder.whole(buffer(c, load)),
                   c.builder.event("slot_free", Replicas::per_slot));
      continue;
    }
    const std::int64_t worker = c.role().ranks.fixed.back().first;
    b.emit_ahead(message(c, load, false, s.dp + worker / workers_of_each(s)),
                 c.builder.stream("batches", StreamKind::host, Axis::dp), Phase::load,
                 c.builder.whole(arrived(c, load)), taken(c, load));
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

void build_loader(const Job& job, PlanGraph& g, Role& role, const Groups& groups, std::int32_t index) {
  static const std::vector<Action> no_actions;
  static const std::vector<std::int32_t> one_stage{0};
  const Strategy& s = job.strategy;
  role.name = fmt::format("loader {}", index);
  role.ranks.fixed = {{Axis::pp, 0}, {Axis::dp, static_cast<int>(s.dp) + index}};
  role.slots = 2;  // one is filled while the other is sent
  RoleContext c(job, g, role, groups, 0, {no_actions, one_stage, {}}, Part::server);
  c.first = c.last = true;
  role.global_layer.clear();
  Segment segment;
  segment.name = "load";
  const std::int64_t workers = workers_of_each(s);
  for (std::int64_t worker = index * workers; worker < (index + 1) * workers; ++worker) {
    BlockBuilder b(role, fmt::format("load {}", worker));
    std::vector<Load> all = loads(c, {true, true, false});
    std::vector<EventId> sent;
    for (Load& load : all) {
      load.op.data_rank = static_cast<std::int32_t>(worker);
      sent.push_back(c.builder.event(fmt::format("{} {}.sent", load.name, worker), Replicas::per_slot));
    }
    const auto read = [&](const Load& load) {
      return c.builder.whole(c.builder.buffer(fmt::format("{} {}", load.name, worker), load.dtype, load.elements,
                                              BufferKind::input, Lifetime::slot));
    };
    for (std::size_t i = 0; i < all.size(); ++i) {
      b.emit_ahead(all[i].op, host_stream(c), Phase::load, read(all[i]), sent[i]);
    }
    b.join(Phase::load);
    const StreamId stream = c.builder.stream(fmt::format("batches of {}", worker), StreamKind::host, Axis::dp);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const int at = b.emit(message(c, all[i], true, worker), stream, Phase::load, {read(all[i])}, {});
      b.op(at).records = {sent[i]};
    }
    segment.calls.push_back({c.builder.add(b.take()), 1, -1, 1});
  }
  const SegmentId load = c.builder.add(std::move(segment));
  for (std::vector<Instance>* program : {&role.program.body, &role.program.evaluation}) {
    for (std::int32_t m = 0; m < g.microbatches; ++m) {
      program->push_back({load, m, m % role.slots, -1});
    }
  }
  place(role);
}

}  // namespace foretrain::plan
