#include "plan/build_context_parallel.h"

#include <utility>

namespace foretrain::plan {

namespace {

std::string tagged(Phase phase, const std::string& name) {
  return (phase == Phase::recompute ? "recompute." : "") + name;
}

// What both ways to attend from a share have.
struct ShareEmitter : LayerEmitter {
  int n() const { return static_cast<int>(c.job.strategy.cp); }
  std::int64_t kv_cols() const { return c.n.qkv - c.n.q; }
  std::int64_t kv_elements() const { return c.n.rows * kv_cols(); }

  RingAttention ring(RingStep step, int distance = 0, bool accumulate = false) const {
    return {step,
            c.job.workload.attention,
            c.n.batch,
            c.n.seq,
            c.n.heads,
            c.n.kv_heads,
            c.n.head_dim,
            c.groups.cp,
            n(),
            distance,
            accumulate,
            c.type.activation,
            layer_kind.window,
            c.n.v_dim,
            c.job.workload.document_length,
            !c.model.is_encoder()};
  }
  void step(RingAttention op, Phase phase, std::vector<Operand> reads, std::vector<Operand> writes) {
    b.emit(op, kCompute, phase, std::move(reads), std::move(writes));
  }

  Operand kv_buffer(const std::string& name) {
    return all(c.temporary("attention." + name, c.type.activation, kv_elements()));
  }
};

struct RingEmitter : ShareEmitter {
  // The block that comes last is kept for the backward.
  Operand last_kv() { return all(c.saved("kv.last", c.type.activation, kv_elements(), again.all)); }

  // One hop round the ring: each of `sent` to the rank `by` further on, its like from the other side.
  struct Hop {
    Operand sent, received;
    std::string name;
  };
  void pass(Phase phase, int by, const std::vector<Hop>& hops) {
    Exchange op;
    std::vector<Operand> reads, writes;
    const int ranks = c.builder.graph().mesh.size(Axis::cp);
    const AxisRange here = along(c.builder.graph().mesh, c.role().ranks, Axis::cp);
    for (const Hop& hop : hops) {
      for (const bool send : {true, false}) {
        Message m;
        m.send = send;
        m.axis = Axis::cp;
        m.relative = here.count == ranks;  // else each of them is a role of its own
        m.peer = send ? by : -by;
        m.peer = m.relative ? m.peer : (here.first + m.peer + ranks) % ranks;
        m.elements = hop.sent.elements;
        m.dtype = c.type.activation;
        m.tag = c.builder.tag(tagged(phase, hop.name));
        op.messages.push_back(m);
      }
      reads.push_back(hop.sent);
      writes.push_back(hop.received);
    }
    b.emit(std::move(op), c.builder.stream("cp", StreamKind::point_to_point, Axis::cp), phase, std::move(reads),
           std::move(writes));
  }

  // The k-th of n parts.
  Operand part(Operand whole, int k) const {
    whole.elements /= n();
    whole.offset = k * whole.elements;
    return whole;
  }

  void forward(Phase phase) {
    const Operand o_parts =
        all(c.temporary("attention.partial_contexts", c.type.activation, n() * c.n.rows * c.n.context));
    const Operand lse_parts =
        all(c.temporary("attention.partial_log_sum_exp", c.type.statistic, n() * c.n.rows * c.n.heads));
    const auto kv = [&](int k) { return k == n() - 1 ? last_kv() : kv_buffer(k % 2 == 0 ? "kv.even" : "kv.odd"); };
    step(ring(RingStep::pack), phase, {all(t.qkv)}, {kv(0)});
    for (int k = 0; k < n(); ++k) {
      if (k + 1 < n()) {
        pass(phase, 1, {{kv(k), kv(k + 1), "attention.kv " + std::to_string(k)}});
      }
      step(ring(RingStep::attend, k), phase, {all(t.qkv), kv(k)}, {part(o_parts, k), part(lse_parts, k)});
    }
    step(ring(RingStep::merge), phase, {o_parts, lse_parts}, {all(t.context), all(t.core)});
  }

  // At step s the block of the rank s + 1 further on is here, of n - 1 - s before.
  void backward(Operand d_context, Operand d_qkv) {
    const Phase phase = Phase::backward_input;
    const auto kv = [&](int s) { return s == 0 ? last_kv() : kv_buffer(s % 2 == 0 ? "kv.even" : "kv.odd"); };
    const auto d_kv = [&](int s) { return kv_buffer(s % 2 == 0 ? "d_kv.even" : "d_kv.odd"); };
    for (int s = 0; s < n(); ++s) {
      std::vector<Hop> hops;
      const std::string number = std::to_string(s);
      if (s + 1 < n()) {
        hops.push_back({kv(s), kv(s + 1), "attention.kv_again " + number});
      }
      if (s > 0) {
        hops.push_back({d_kv(s - 1), d_kv(s), "attention.d_kv " + number});
      }
      pass(phase, -1, hops);
      const Operand part = s == 0 ? d_kv(0) : kv_buffer("d_kv.part");
      std::vector<Operand> reads{d_context, all(t.qkv), kv(s), all(t.context), all(t.core)};
      if (s > 0) {
        reads.push_back(d_qkv);
      }
      step(ring(RingStep::attend_backward, n() - 1 - s, s > 0), phase, std::move(reads), {d_qkv, part});
      if (s > 0) {
        b.emit(Accumulate{part.elements, c.type.activation}, kCompute, phase, {part, d_kv(s)}, {d_kv(s)});
      }
    }
    step(ring(RingStep::unpack), phase, {d_kv(n() - 1)}, {d_qkv});
  }
};

struct GatherEmitter : ShareEmitter {
  Operand all_shares(const std::string& name) {
    return all(c.temporary("attention." + name, c.type.activation, n() * kv_elements()));
  }

  // Between [n] shares and whole sequences in the order of positions.
  void reorder(ReshardStep step, Phase phase, Operand from, Operand to) {
    const Reshard op{step, c.n.batch, c.n.seq, kv_cols() * n(), 0, 0, n(), c.type.activation};
    b.emit(op, kCompute, phase, {from}, {to});
  }

  void exchange(CollectiveKind kind, Phase phase, Operand from, Operand to, const std::string& name) {
    Collective op;
    op.kind = kind;
    op.group = c.groups.cp;
    op.elements = n() * kv_elements();
    op.dtype = c.type.activation;
    op.tag = c.builder.tag(tagged(phase, name));
    b.emit(op, c.builder.stream("cp", StreamKind::collective, Axis::cp), phase, {from}, {to});
  }

  Operand gathered(Phase phase, const std::string& name) {
    step(ring(RingStep::pack), phase, {all(t.qkv)}, {kv_buffer("kv")});
    exchange(CollectiveKind::all_gather, phase, kv_buffer("kv"), all_shares("kv.shares"), name);
    reorder(ReshardStep::join_sequence, phase, all_shares("kv.shares"), all_shares("kv.all"));
    return all_shares("kv.all");
  }

  void forward(Phase phase) {
    const Operand kv = gathered(phase, "attention.kv");
    step(ring(RingStep::attend_all), phase, {all(t.qkv), kv}, {all(t.context), all(t.core)});
  }

  void backward(Operand d_context, Operand d_qkv) {
    const Phase phase = Phase::backward_input;
    const Operand kv = gathered(phase, "attention.kv_again"), d_kv = all_shares("d_kv.all");
    step(ring(RingStep::attend_all_backward), phase, {d_context, all(t.qkv), kv, all(t.context), all(t.core)},
         {d_qkv, d_kv});
    reorder(ReshardStep::split_sequence, phase, d_kv, all_shares("d_kv.shares"));
    exchange(CollectiveKind::reduce_scatter, phase, all_shares("d_kv.shares"), kv_buffer("d_kv"), "attention.d_kv");
    step(ring(RingStep::unpack), phase, {kv_buffer("d_kv")}, {d_qkv});
  }
};

struct ReshardEmitter : LayerEmitter {
  HeadColumns cols;
  Phase phase;
  std::string name;

  void reshard(ReshardStep step, Operand from, Operand to) {
    const auto parts = static_cast<std::int32_t>(c.job.strategy.cp);
    const Reshard op{step, c.n.batch, c.n.seq, cols.q, cols.k, cols.v, parts, c.type.activation};
    b.emit(op, kCompute, phase, {from}, {to});
  }

  void run(Operand from, Operand to, ReshardStep before, ReshardStep after) {
    const Operand sent = all(c.temporary(name + ".sent", c.type.activation, from.elements));
    const Operand received = all(c.temporary(name + ".received", c.type.activation, from.elements));
    reshard(before, from, sent);
    Collective op;
    op.kind = CollectiveKind::all_to_all;
    op.group = c.groups.cp;
    op.elements = from.elements;
    op.dtype = c.type.activation;
    op.tag = c.builder.tag(tagged(phase, name));
    b.emit(op, c.builder.stream("cp", StreamKind::collective, Axis::cp), phase, {sent}, {received});
    reshard(after, received, to);
  }
};

}  // namespace

void share_forward(const LayerEmitter& e, Phase phase) {
  if (e.c.job.strategy.cp_kind == CpKind::all_gather) {
    GatherEmitter{{e}}.forward(phase);
  } else {
    RingEmitter{{e}}.forward(phase);
  }
}

void share_backward(const LayerEmitter& e, Operand d_context, Operand d_qkv) {
  if (e.c.job.strategy.cp_kind == CpKind::all_gather) {
    GatherEmitter{{e}}.backward(d_context, d_qkv);
  } else {
    RingEmitter{{e}}.backward(d_context, d_qkv);
  }
}

void to_whole_sequences(const LayerEmitter& e, Phase phase, Operand share, Operand whole, HeadColumns cols,
                        const std::string& name) {
  ReshardEmitter{e, cols, phase, name}.run(share, whole, ReshardStep::split_heads, ReshardStep::join_sequence);
}

void to_shares(const LayerEmitter& e, Phase phase, Operand whole, Operand share, HeadColumns cols,
               const std::string& name) {
  ReshardEmitter{e, cols, phase, name}.run(whole, share, ReshardStep::split_sequence, ReshardStep::join_heads);
}

}  // namespace foretrain::plan
