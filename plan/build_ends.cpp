// The embedding, the norm behind an encoder, and what the ends' norms have in common.
#include "plan/build_ends.h"

#include "plan/build_dense.h"

namespace foretrain::plan {

namespace {

PositionAdd position_add(const RoleContext& c, Direction d) {
  return {
      d,          c.n.shard_rows, c.n.hidden, c.n.seq, c.sequence_parallel ? c.groups.tp : kNoGroup, c.type.activation,
      c.groups.cp};
}

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

}  // namespace

Norm EndNorm::norm(Direction d) const {
  return {d, c.model.norm, c.n.shard_rows, c.n.hidden, c.model.norm_eps, c.type.activation};
}

void EndNorm::forward(Operand x, Operand y, Operand stats) const {
  std::vector<Operand> reads{x, c.parameter(family, name + ".gain")};
  if (has_bias()) {
    reads.push_back(c.parameter(family, name + ".bias"));
  }
  b.emit(norm(Direction::forward), kCompute, Phase::forward, std::move(reads), {y, stats});
}

void EndNorm::backward(Operand dy, Operand x, Operand stats, std::optional<Operand> base, Operand dx) const {
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
  b.emit(e, kCompute, Phase::forward, {loaded(c, Loaded::tokens), c.parameter(kEmbedding, "embedding.table")}, {out});
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
  b.emit(e, kCompute, Phase::backward_weight, {loaded(c, Loaded::tokens), full, d_table}, {d_table});
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

}  // namespace foretrain::plan
