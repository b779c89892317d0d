// The two ends of the model: embedding, and head with loss. A plain head is the last norm and the product with the
// vocabulary, a masked-LM head (BERT) a product of hidden x hidden, the activation, a norm, and that product with a
// bias. Each tp rank has the whole of the former product, for its own rows. The head's products stay in the
// activations' type where layers compute in 8 bits or less: Megatron-core's output layer is none of Transformer
// Engine's (megatron/core/models/gpt/gpt_model.py), and torchtitan converts every linear layer but the output's.
#include <optional>

#include "plan/build_context.h"
#include "plan/build_dense.h"

namespace foretrain::plan {

namespace {

struct HeadBuffers {
  BufferId dense, act, norm, stats, logits, d_logits, rows, targets;
};

bool transforms(const RoleContext& c) {
  return c.model.head == workloads::Head::masked_lm;
}

// The gradient of the logits takes their place, unless weight gradients read it later.
HeadBuffers head_buffers(RoleContext& c) {
  const Dtype a = c.type.activation;
  const std::int64_t norm = c.n.shard_rows * c.n.hidden, logits = c.n.rows * c.n.vocab;
  HeadBuffers t{};
  if (transforms(c)) {
    t.dense = c.head_buffer("head.dense", a, norm);
    t.act = c.head_buffer("head.act", a, norm);
  }
  t.norm = c.splits ? c.builder.buffer("head.norm", a, norm, BufferKind::activation, Lifetime::hold)
                    : c.head_buffer("head.norm", a, norm);
  t.stats = c.head_buffer("head.norm.stats", c.type.statistic, c.n.shard_rows * 2);
  t.logits = c.head_buffer("logits", a, logits);
  t.d_logits =
      c.splits ? c.builder.buffer("head.d_logits", a, logits, BufferKind::activation, Lifetime::ring) : t.logits;
  t.rows = c.head_buffer("loss.rows", c.type.statistic, c.n.rows * 2);
  t.targets = c.builder.buffer("targets", Dtype::i32, c.n.rows, BufferKind::input, Lifetime::slot);
  return t;
}

BufferId tokens(RoleContext& c) {
  return c.builder.buffer(c.named("tokens"), Dtype::i32, c.n.rows, BufferKind::input, Lifetime::slot);
}

PositionAdd position_add(const RoleContext& c, Direction d) {
  return {
      d,          c.n.shard_rows, c.n.hidden, c.n.seq, c.sequence_parallel ? c.groups.tp : kNoGroup, c.type.activation,
      c.groups.cp};
}

// The norm of the embedding, or of the head, from x to y and back. `base`: what the gradient is added to.
struct EndNorm {
  RoleContext& c;
  BlockBuilder& b;
  Family family;
  std::string name;

  Norm norm(Direction d) const {
    return {d, c.model.norm, c.n.shard_rows, c.n.hidden, c.model.norm_eps, c.type.activation};
  }
  bool has_bias() const { return c.model.norm == workloads::Norm::layernorm; }

  void forward(Operand x, Operand y, Operand stats) {
    std::vector<Operand> reads{x, c.parameter(family, name + ".gain")};
    if (has_bias()) {
      reads.push_back(c.parameter(family, name + ".bias"));
    }
    b.emit(norm(Direction::forward), kCompute, Phase::forward, std::move(reads), {y, stats});
  }

  void backward(Operand dy, Operand x, Operand stats, std::optional<Operand> base, Operand dx) {
    std::vector<Operand> inputs{dy, x, c.parameter(family, name + ".gain"), stats};
    if (base) {
      inputs.push_back(*base);
    }
    b.emit(norm(Direction::backward_input), kCompute, Phase::backward_input, std::move(inputs), {dx});
    std::vector<Operand> sums{c.gradient(family, name + ".gain")};
    if (has_bias()) {
      sums.push_back(c.gradient(family, name + ".bias"));
    }
    std::vector<Operand> reads{dy, x, stats};
    reads.insert(reads.end(), sums.begin(), sums.end());
    b.emit(norm(Direction::backward_weight), kCompute, Phase::backward_weight, std::move(reads), std::move(sums));
  }
};

// The sum that the embedding's norm reads, and its statistics.
struct EmbeddingNorm {
  Operand sum, stats;
};
EmbeddingNorm embedding_norm(RoleContext& c) {
  const auto slot = [&](const char* name, Dtype dtype, std::int64_t elements) {
    return c.builder.whole(c.builder.buffer(name, dtype, elements, BufferKind::activation, Lifetime::slot));
  };
  return {slot("embedding.sum", c.type.activation, c.n.shard_rows * c.n.hidden),
          slot("embedding.norm.stats", c.type.statistic, c.n.shard_rows * 2)};
}

// Of the norm behind the encoder.
Operand encoder_norm_stats(RoleContext& c) {
  return c.builder.whole(c.builder.buffer("encoder.norm.stats", c.type.statistic, c.n.shard_rows * 2,
                                          BufferKind::activation, Lifetime::slot));
}

std::string positions(const RoleContext& c) {
  return c.side == Side::decoder ? "embedding.decoder_positions" : "embedding.positions";
}

// The row of the first type, which all tokens are of.
Operand first_type(Operand types, const RoleContext& c) {
  types.elements = c.n.hidden;
  return types;
}

CrossEntropy cross_entropy(const RoleContext& c, CrossEntropyStep step) {
  const workloads::Workload& w = c.job.workload;
  const double targets = static_cast<double>(w.global_batch * w.targets_per_sequence());
  const bool backward = step == CrossEntropyStep::backward;
  const double scale = (backward ? c.replicas_apart() : 1.0) / targets;
  return {step, c.n.rows, c.n.vocab, c.model.vocab, c.groups.tp, scale, c.type.activation, backward && c.scales_loss()};
}

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

Operand head_weight(RoleContext& c) {
  return c.tied_here ? c.parameter(kEmbedding, "embedding.table")
                     : c.parameter(kHead, c.model.tied_embeddings ? "embedding.table" : "head.weight");
}

// A tied table keeps one gradient accumulator per use, unless it is cleared and reduced for every microbatch.
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

}  // namespace

BlockId encoder_norm_forward(RoleContext& c, std::size_t chunk) {
  BlockBuilder b(c.role(), "encoder.norm.forward");
  c.enter(Side::encoder);
  EndNorm{c, b, kEmbedding, "embedding.encoder_norm"}.forward(c.chunk_output(chunk), encoded(c), encoder_norm_stats(c));
  return c.builder.add(b.take());
}

BlockId encoder_norm_backward(RoleContext& c, std::size_t chunk) {
  BlockBuilder b(c.role(), "encoder.norm.backward");
  c.enter(Side::encoder);
  clear_sums(c, b);
  EndNorm{c, b, kEmbedding, "embedding.encoder_norm"}.backward(encoded_gradient(c), c.chunk_output(chunk),
                                                               encoder_norm_stats(c), std::nullopt, c.gradient_out());
  return c.builder.add(b.take());
}

BlockId embedding_forward(RoleContext& c, std::size_t chunk, bool gathers) {
  if (c.model.is_dense()) {
    return dense_input_forward(c, chunk, gathers);
  }
  BlockBuilder b(c.role(), c.named("embedding.forward"));
  if (gathers && c.uses[kEmbedding].gathers) {
    emit_unit_gather(c, b, kEmbedding, false);
  }
  const bool norm = c.model.embedding_norm;
  const Operand x = norm ? embedding_norm(c).sum : c.chunk_input(chunk);
  const Operand out = c.sequence_parallel
                          ? c.builder.whole(c.temporary("embedding.partial", c.type.activation, c.n.rows * c.n.hidden))
                          : x;
  const Embedding e{Direction::forward, c.n.rows, c.n.hidden, c.n.vocab, c.groups.tp, c.type.activation};
  b.emit(e, kCompute, Phase::forward, {c.builder.whole(tokens(c)), c.parameter(kEmbedding, "embedding.table")}, {out});
  if (c.groups.tp != kNoGroup) {
    Collective op;
    op.kind = c.sequence_parallel ? CollectiveKind::reduce_scatter : CollectiveKind::all_reduce;
    op.group = c.groups.tp;
    op.elements = out.elements;
    op.dtype = c.type.activation;
    op.tag = c.builder.tag(c.named("embedding.reduce"));
    b.emit(op, c.tp_stream(), Phase::forward, {out}, {x});
  }
  if (c.model.positions == workloads::Positions::learned) {
    b.emit(position_add(c, Direction::forward), kCompute, Phase::forward, {x, c.parameter(kEmbedding, positions(c))},
           {x});
  }
  relative_bias_forward(c, b);
  if (c.model.token_types > 0) {
    b.emit(PositionAdd{Direction::forward, c.n.shard_rows, c.n.hidden, 1, kNoGroup, c.type.activation}, kCompute,
           Phase::forward, {x, first_type(c.parameter(kEmbedding, "embedding.types"), c)}, {x});
  }
  if (norm) {
    EndNorm{c, b, kEmbedding, "embedding.norm"}.forward(x, c.chunk_input(chunk), embedding_norm(c).stats);
  }
  b.join_open(Phase::forward);
  return c.builder.add(b.take());
}

BlockId embedding_backward(RoleContext& c, bool last_microbatch) {
  if (c.model.is_dense()) {
    return dense_input_backward(c);
  }
  BlockBuilder b(c.role(), c.named(last_microbatch ? "embedding.backward.last" : "embedding.backward"));
  Operand dx = c.gradient_out();
  const bool is_first = !c.model.is_encoder_decoder() || c.side == Side::decoder;  // of the embedding's, here
  const bool is_last = !c.model.is_encoder_decoder() || c.side == Side::encoder;
  if (is_first && !c.tied_here) {  // else the head's backward was the first to add to them
    clear_unit(c, b, kEmbedding);
  }
  if (c.model.embedding_norm) {
    const EmbeddingNorm t = embedding_norm(c);
    const Operand d_sum = c.builder.whole(c.temporary("embedding.d_sum", c.type.activation, dx.elements));
    EndNorm{c, b, kEmbedding, "embedding.norm"}.backward(dx, t.sum, t.stats, std::nullopt, d_sum);
    dx = d_sum;
  }
  if (c.model.token_types > 0) {
    const Operand d_type = first_type(c.gradient(kEmbedding, "embedding.types"), c);
    b.emit(BiasGradient{c.n.shard_rows, c.n.hidden, c.type.activation}, kCompute, Phase::backward_weight, {dx, d_type},
           {d_type});
  }
  if (c.model.positions == workloads::Positions::learned) {
    const Operand d_positions = c.gradient(kEmbedding, positions(c));
    b.emit(position_add(c, Direction::backward_weight), kCompute, Phase::backward_weight, {dx, d_positions},
           {d_positions});
  }
  relative_bias_backward(c, b);
  const Operand full = gather_rows(c, b, Phase::backward_weight, dx, "embedding.output_gradient");
  const Operand d_table = c.gradient(kEmbedding, "embedding.table");
  const Embedding e{Direction::backward_weight, c.n.rows, c.n.hidden, c.n.vocab, c.groups.tp, c.type.activation};
  b.emit(e, kCompute, Phase::backward_weight, {c.builder.whole(tokens(c)), full, d_table}, {d_table});
  if (is_last && (last_microbatch || c.uses[kEmbedding].reduces)) {
    finish_embedding(c, b);
  }
  b.join_open(Phase::backward_input);
  return c.builder.add(b.take());
}

void finish_embedding(RoleContext& c, BlockBuilder& b) {
  reduce_replicated(c, b, kEmbedding, c.replicated_embedding());
  if (c.tied_here && !c.uses[kEmbedding].reduces) {
    const Operand d_table = c.gradient(kEmbedding, "embedding.table");
    b.emit(Accumulate{d_table.elements, c.type.gradient, c.type.gradient}, kCompute, Phase::grad_reduce,
           {head_weight_gradient(c), d_table}, {d_table});
  }
}

BlockId head_forward(RoleContext& c, std::size_t chunk) {
  if (c.model.is_dense()) {
    return dense_head_forward(c, chunk);
  }
  BlockBuilder b(c.role(), "head.forward");
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
  Matmul mm{c.n.rows, c.n.vocab, c.n.hidden, false, true, false, false, c.type.activation, c.type.activation};
  std::vector<Operand> reads{h, head_weight(c)};
  if (transforms(c)) {
    mm.bias = true;
    reads.push_back(c.parameter(kHead, "head.bias"));
  }
  b.emit(mm, kCompute, Phase::forward, std::move(reads), {all(t.logits)});
  c.role().logits = t.logits;
  const Operand triple = all(c.temporary("loss.triple", c.type.statistic, c.n.rows * 3));
  b.emit(cross_entropy(c, CrossEntropyStep::stats), kCompute, Phase::forward, {all(t.logits), all(t.targets)},
         {triple});
  Operand triples = triple;
  if (c.groups.tp != kNoGroup) {
    triples = all(c.temporary("loss.triples", c.type.statistic, c.n.rows * 3 * c.tp));
    Collective op;
    op.kind = CollectiveKind::all_gather;
    op.group = c.groups.tp;
    op.elements = triples.elements;
    op.dtype = c.type.statistic;
    op.tag = c.builder.tag("loss.gather");
    b.emit(op, c.tp_stream(), Phase::forward, {triple}, {triples});
  }
  const Operand loss = all(c.role().loss);
  b.emit(cross_entropy(c, CrossEntropyStep::combine), kCompute, Phase::forward, {triples, loss}, {all(t.rows), loss});
  b.join_open(Phase::forward);
  return c.builder.add(b.take());
}

BlockId head_backward(RoleContext& c, std::size_t chunk, BackwardPart part, bool last_microbatch) {
  if (c.model.is_dense()) {
    return dense_head_backward(c, chunk);
  }
  BlockBuilder b(c.role(), "head.backward" + std::string(suffix(part)) + (last_microbatch ? ".last" : ""));
  const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
  c.enter(Side::decoder);
  await_unit(c, b, kHead, Phase::backward_input);
  clear_unit(c, b, kHead);
  if (c.tied_here) {
    clear_unit(c, b, kEmbedding);
  }
  const HeadBuffers t = head_buffers(c);
  const auto all = [&c](BufferId id) { return c.builder.whole(id); };
  const Operand dy = c.gradient_in(c.chunk_layers[chunk]);
  clear_sums(c, b);
  const Operand d_logits = all(t.d_logits);
  if (inputs) {
    if (!transforms(c)) {
      b.emit(Fill{dy.elements, c.type.activation}, kCompute, Phase::backward_input, {}, {dy});
    }
    std::vector<Operand> told{all(t.rows), all(t.targets), all(t.logits)};
    if (c.scales_loss()) {
      told.push_back(c.loss_scale_state());
    }
    b.emit(cross_entropy(c, CrossEntropyStep::backward), kCompute, Phase::backward_input, std::move(told), {d_logits});
    if (transforms(c)) {
      const Operand d_bias = c.gradient(kHead, "head.bias");
      b.emit(BiasGradient{c.n.rows, c.n.vocab, c.type.activation}, kCompute, Phase::backward_weight, {d_logits, d_bias},
             {d_bias});
    }
  }
  const Operand d_norm = all(c.temporary("head.d_input", c.type.activation, c.n.rows * c.n.hidden));
  const Operand h = weights ? gather_rows(c, b, Phase::backward_weight, all(t.norm), "head.input_again") : Operand{};
  wait_unless_overlapped(c, b, Phase::backward_weight);
  Operand d_sum = d_norm;
  if (inputs) {
    const Matmul to_input{c.n.rows, c.n.hidden,        c.n.vocab,        false, false, false,
                          false,    c.type.activation, c.type.activation};
    b.emit(to_input, kCompute, Phase::backward_input, {d_logits, head_weight(c)}, {d_norm});
    d_sum = reduce_rows(c, b, Phase::backward_input, d_norm, "head.input_gradient");
    wait_unless_overlapped(c, b, Phase::backward_input);
  }
  if (weights) {
    const Matmul to_weight{c.n.vocab, c.n.hidden, c.n.rows, true, false, false, false, c.type.activation, {}};
    emit_weight_gradient(c, b, to_weight, d_logits, h, head_weight_gradient(c));
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
