// The head with the loss. A plain head is the last norm and the product with the vocabulary, a masked-LM head (BERT) a
// product of hidden x hidden, the activation, a norm, and that product with a bias. Each tp rank has the whole of the
// former product, for its own rows. The head's products stay in the activations' type where layers compute in 8 bits or
// less: Megatron-core's output layer is none of Transformer Engine's (megatron/core/models/gpt/gpt_model.py), and
// torchtitan converts every linear layer but the output's.
//
// With loss_chunks > 1 the forward goes on, for a part of the rows after the other, from their logits to the loss, the
// gradient in the logits' place, and both products that read it: the logits of one part are all that ever exist. To the
// backward is left the gradient of what the norm wrote.
#include <fmt/format.h>

#include "plan/build_dense.h"
#include "plan/build_ends.h"

namespace foretrain::plan {

namespace {

bool transforms(const RoleContext& c) {
  return c.model.head == workloads::Head::masked_lm;
}

bool in_chunks(const RoleContext& c) {
  return c.job.strategy.loss_chunks > 1;
}

struct HeadBuffers {
  BufferId dense, act, norm, stats, logits, d_logits, rows, targets, d_norm = -1;
};

// The gradient of the logits takes their place, unless weight gradients read it later. `d_norm`: of chunks only, all
// else of which is inside a block.
HeadBuffers head_buffers(RoleContext& c) {
  const Dtype a = c.type.activation;
  const std::int64_t norm = c.n.shard_rows * c.n.hidden, rows = c.n.rows / c.job.strategy.loss_chunks;
  const bool whole = !in_chunks(c);
  const auto of_chunk = [&](const char* name, Dtype dtype, std::int64_t elements) {
    return whole ? c.head_buffer(name, dtype, elements)
                 : c.builder.buffer(name, dtype, elements, BufferKind::activation, Lifetime::block);
  };
  HeadBuffers t{};
  if (transforms(c)) {
    t.dense = c.head_buffer("head.dense", a, norm);
    t.act = c.head_buffer("head.act", a, norm);
  }
  t.norm = whole && c.splits ? c.builder.buffer("head.norm", a, norm, BufferKind::activation, Lifetime::hold)
                             : of_chunk("head.norm", a, norm);
  t.stats = c.head_buffer("head.norm.stats", c.type.statistic, c.n.shard_rows * 2);
  t.logits = of_chunk("logits", a, rows * c.n.vocab);
  t.d_logits = whole && c.splits
                   ? c.builder.buffer("head.d_logits", a, rows * c.n.vocab, BufferKind::activation, Lifetime::ring)
                   : t.logits;
  t.rows = of_chunk("loss.rows", c.type.statistic, rows * 2);
  t.targets = loaded(c, Loaded::targets).buffer;
  if (!whole) {
    t.d_norm = c.head_buffer("head.d_norm", a, norm);
  }
  return t;
}

Operand head_weight(RoleContext& c) {
  return c.tied_here ? c.parameter(kEmbedding, "embedding.table")
                     : c.parameter(kHead, c.model.tied_embeddings ? "embedding.table" : "head.weight");
}

// One of `of` equal parts of a microbatch's rows, from the head's input to the loss and back.
struct Chunk {
  RoleContext& c;
  BlockBuilder& b;
  const HeadBuffers& t;
  std::int64_t number = 0, of = 1;

  std::int64_t rows() const { return c.n.rows / of; }
  Operand all(BufferId id) const { return c.builder.whole(id); }
  Operand part(Operand rows) const {
    rows.elements /= of;
    rows.offset += number * rows.elements;
    return rows;
  }

  CrossEntropy cross_entropy(CrossEntropyStep step) const {
    const workloads::Workload& w = c.job.workload;
    const double targets = static_cast<double>(w.global_batch * w.targets_per_sequence());
    const bool backward = step == CrossEntropyStep::backward;
    const double scale = (backward ? c.replicas_apart() : 1.0) / targets;
    return {step, rows(), c.n.vocab, c.model.vocab, c.groups.tp, scale, c.type.activation, backward && c.scales_loss()};
  }

  void loss(Operand h) const {
    const Dtype a = c.type.activation;
    Matmul mm{rows(), c.n.vocab, c.n.hidden, false, true, false, false, a, a};
    std::vector<Operand> reads{part(h), head_weight(c)};
    if (transforms(c)) {
      mm.bias = true;
      reads.push_back(c.parameter(kHead, "head.bias"));
    }
    b.emit(mm, kCompute, Phase::forward, std::move(reads), {all(t.logits)});
    const Operand triple = all(c.temporary("loss.triple", c.type.statistic, rows() * 3));
    b.emit(cross_entropy(CrossEntropyStep::stats), kCompute, Phase::forward, {all(t.logits), part(all(t.targets))},
           {triple});
    Operand triples = triple;
    if (c.groups.tp != kNoGroup) {
      triples = all(c.temporary("loss.triples", c.type.statistic, rows() * 3 * c.tp));
      Collective op;
      op.kind = CollectiveKind::all_gather;
      op.group = c.groups.tp;
      op.elements = triples.elements;
      op.dtype = c.type.statistic;
      op.tag = c.builder.tag(of == 1 ? "loss.gather" : fmt::format("loss.gather {}", number));
      b.emit(op, c.tp_stream(), Phase::forward, {triple}, {triples});
    }
    const Operand loss = all(c.role().loss);
    b.emit(cross_entropy(CrossEntropyStep::combine), kCompute, Phase::forward, {triples, loss}, {all(t.rows), loss});
  }

  void logits_gradient() const {
    std::vector<Operand> told{all(t.rows), part(all(t.targets)), all(t.logits)};
    if (c.scales_loss()) {
      told.push_back(c.loss_scale_state());
    }
    b.emit(cross_entropy(CrossEntropyStep::backward), kCompute, Phase::backward_input, std::move(told),
           {all(t.d_logits)});
    if (transforms(c)) {
      const Operand d_bias = c.gradient(kHead, "head.bias");
      b.emit(BiasGradient{rows(), c.n.vocab, c.type.activation}, kCompute, Phase::backward_weight,
             {all(t.d_logits), d_bias}, {d_bias});
    }
  }

  void input_gradient(Operand d_h) const {
    const Dtype a = c.type.activation;
    b.emit(Matmul{rows(), c.n.hidden, c.n.vocab, false, false, false, false, a, a}, kCompute, Phase::backward_input,
           {all(t.d_logits), head_weight(c)}, {part(d_h)});
  }

  void weight_gradient(Operand h) const {
    const Matmul to_weight{c.n.vocab, c.n.hidden, rows(), true, false, false, false, c.type.activation, {}};
    emit_weight_gradient(c, b, to_weight, all(t.d_logits), part(h), head_weight_gradient(c));
  }
};

Matmul dense(const RoleContext& c, Direction d) {
  const std::int64_t rows = c.n.shard_rows, hidden = c.n.hidden;
  const bool forward = d == Direction::forward;
  return {rows, hidden, hidden, false, forward, forward, false, c.type.activation, c.type.activation};
}

Activation head_activation(const RoleContext& c, Direction d) {
  return {d, c.model.activation, c.n.shard_rows, c.n.hidden, c.type.activation};
}

// From the gradient of what the head's norm read to dx. The product's weight gradient, small beside the vocabulary's,
// is not put off.
void transform_backward(RoleContext& c, BlockBuilder& b, const HeadBuffers& t, Operand d_act, Operand x, Operand dx) {
  const Operand d_dense = c.builder.whole(c.temporary("head.d_dense", c.type.activation, d_act.elements));
  b.emit(head_activation(c, Direction::backward_input), kCompute, Phase::backward_input,
         {d_act, c.builder.whole(t.dense)}, {d_dense});
  b.emit(dense(c, Direction::backward_input), kCompute, Phase::backward_input,
         {d_dense, c.parameter(kHead, "head.dense.weight")}, {dx});
  const Matmul to_weight{c.n.hidden, c.n.hidden, c.n.shard_rows, true, false, false, false, c.type.activation, {}};
  emit_weight_gradient(c, b, to_weight, d_dense, x, c.gradient(kHead, "head.dense.weight"));
  const Operand d_bias = c.gradient(kHead, "head.dense.bias");
  b.emit(BiasGradient{c.n.shard_rows, c.n.hidden, c.type.activation}, kCompute, Phase::backward_weight,
         {d_dense, d_bias}, {d_bias});
}

// Before the first sum into transient gradients: those of the microbatch before are with their owners (`awaits`), and
// cleared.
void begin_gradients(RoleContext& c, BlockBuilder& b, bool awaits) {
  if (awaits && (c.uses[kHead].reduces || (c.tied_here && c.uses[kEmbedding].reduces))) {
    b.join(Phase::grad_reduce, {c.scattered()});
  }
  clear_unit(c, b, kHead);
  if (c.tied_here) {
    clear_unit(c, b, kEmbedding);
  }
}

// All rows' loss, of one chunk after the other; the gradients of each behind it.
void loss_in_chunks(RoleContext& c, BlockBuilder& b, const HeadBuffers& t, Operand h, bool has_backward) {
  const Operand d_norm = c.builder.whole(t.d_norm);
  const Operand d_h = c.sequence_parallel
                          ? c.builder.whole(c.temporary("head.d_input", c.type.activation, c.n.rows * c.n.hidden))
                          : d_norm;
  if (has_backward) {
    begin_gradients(c, b, true);
  }
  const std::int64_t chunks = c.job.strategy.loss_chunks;
  for (std::int64_t i = 0; i < chunks; ++i) {
    const Chunk chunk{c, b, t, i, chunks};
    chunk.loss(h);
    if (!has_backward) {
      continue;
    }
    chunk.logits_gradient();
    chunk.input_gradient(d_h);
    if (i + 1 == chunks) {
      reduce_rows_into(c, b, Phase::backward_input, d_h, d_norm, "head.input_gradient");
      wait_unless_overlapped(c, b, Phase::backward_input);
    }
    chunk.weight_gradient(h);
  }
}

// `has_backward`: what chunks leave for it is computed, too.
BlockId head_forward(RoleContext& c, std::size_t chunk, bool has_backward) {
  BlockBuilder b(c.role(), has_backward ? "head.forward" : "head.evaluation");
  c.enter(Side::decoder);
  await_unit(c, b, kHead, Phase::forward);
  const HeadBuffers t = head_buffers(c);
  const auto all = [&c](BufferId id) { return c.builder.whole(id); };
  Operand x = c.chunk_output(chunk);
  if (transforms(c)) {
    b.emit(dense(c, Direction::forward), kCompute, Phase::forward,
           {x, c.parameter(kHead, "head.dense.weight"), c.parameter(kHead, "head.dense.bias")}, {all(t.dense)});
    b.emit(head_activation(c, Direction::forward), kCompute, Phase::forward, {all(t.dense)}, {all(t.act)});
    x = all(t.act);
  }
  EndNorm{c, b, kHead, "head.norm"}.forward(x, all(t.norm), all(t.stats));
  const Operand h = gather_rows(c, b, Phase::forward, all(t.norm), "head.input");
  if (in_chunks(c)) {
    loss_in_chunks(c, b, t, h, has_backward);
  } else {
    Chunk{c, b, t}.loss(h);
    c.role().logits = t.logits;
  }
  b.join_open(Phase::forward);
  return c.builder.add(b.take());
}

}  // namespace

Operand head_weight_gradient(RoleContext& c) {
  if (c.tied_here && c.uses[kEmbedding].reduces) {
    return c.gradient(kEmbedding, "embedding.table");
  }
  if (c.tied_here) {
    return c.builder.whole(c.builder.buffer("head.weight.gradient", c.type.gradient, c.n.vocab * c.n.hidden,
                                            BufferKind::gradient, Lifetime::persistent));
  }
  return c.gradient(kHead, c.model.tied_embeddings ? "embedding.table" : "head.weight");
}

BlockId head_forward(RoleContext& c, std::size_t chunk) {
  if (c.model.is_dense()) {
    return dense_head_forward(c, chunk);
  }
  if (c.model.is_classifier()) {
    return classifier_forward(c, chunk);
  }
  const BlockId block = head_forward(c, chunk, true);
  if (in_chunks(c)) {
    c.without_backward[block] = head_forward(c, chunk, false);
  }
  return block;
}

BlockId head_backward(RoleContext& c, std::size_t chunk, BackwardPart part, bool last_microbatch) {
  if (c.model.is_dense()) {
    return dense_head_backward(c, chunk);
  }
  if (c.model.is_classifier()) {
    return classifier_backward(c, chunk, part);
  }
  BlockBuilder b(c.role(), "head.backward" + std::string(suffix(part)) + (last_microbatch ? ".last" : ""));
  const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
  c.enter(Side::decoder);
  await_unit(c, b, kHead, Phase::backward_input);
  const HeadBuffers t = head_buffers(c);
  const auto all = [&c](BufferId id) { return c.builder.whole(id); };
  const Operand dy = c.gradient_in(c.chunk_layers[chunk]);
  if (!in_chunks(c)) {
    begin_gradients(c, b, false);
  }
  clear_sums(c, b);
  if (inputs && !transforms(c)) {
    b.emit(Fill{dy.elements, c.type.activation}, kCompute, Phase::backward_input, {}, {dy});
  }
  Operand d_sum;
  if (in_chunks(c)) {
    d_sum = all(t.d_norm);
  } else {
    const Chunk whole{c, b, t};
    if (inputs) {
      whole.logits_gradient();
    }
    const Operand d_norm = all(c.temporary("head.d_input", c.type.activation, c.n.rows * c.n.hidden));
    const Operand h = weights ? gather_rows(c, b, Phase::backward_weight, all(t.norm), "head.input_again") : Operand{};
    wait_unless_overlapped(c, b, Phase::backward_weight);
    if (inputs) {
      whole.input_gradient(d_norm);
      d_sum = reduce_rows(c, b, Phase::backward_input, d_norm, "head.input_gradient");
      wait_unless_overlapped(c, b, Phase::backward_input);
    }
    if (weights) {
      whole.weight_gradient(h);
    }
  }
  if (inputs) {
    const Operand x = c.chunk_output(chunk);
    EndNorm norm{c, b, kHead, "head.norm"};
    if (transforms(c)) {
      const Operand d_act = all(c.temporary("head.d_act", c.type.activation, dy.elements));
      norm.backward(d_sum, all(t.act), all(t.stats), std::nullopt, d_act);
      transform_backward(c, b, t, d_act, x, dy);
    } else {
      norm.backward(d_sum, x, all(t.stats), dy, dy);
    }
  }
  if (last_microbatch || c.uses[kHead].reduces) {
    reduce_replicated(c, b, kHead, transforms(c) ? "head.dense.weight" : "head.norm.gain");
  }
  b.join_open(Phase::backward_input);
  return c.builder.add(b.take());
}

}  // namespace foretrain::plan
