// Flat layout of the parameters of one role. A layer: sharded tensors first, replicated ones last, so that the
// gradients that sequence parallelism has to sum over the tp group are one range. It begins with those that are summed
// with and without it: gains of heads, of which each rank has only its own. Offsets are multiples of 16 elements;
// a layer is padded to a multiple of 16 x dp x cp, so that any run of whole layers cuts into equal shards. What is
// stored in parts has transient whole copies: see build_units.cpp.
#include <algorithm>

#include "base/error.h"
#include "plan/build_context.h"
#include "plan/build_dense.h"
#include "plan/parameter_layout.h"

namespace foretrain::plan {

namespace {

// Query heads are cut in tp parts; so are kv heads, or each is held by tp / kv_heads neighbours.
std::vector<std::vector<Slice>> qkv_sharded(const RoleContext& c) {
  const std::int64_t kv_heads = c.model.kv_heads;
  std::vector<std::vector<Slice>> s;
  for (int t = 0; t < c.tp; ++t) {
    const std::int64_t sharers = kv_heads >= c.tp ? 1 : c.tp / kv_heads;
    const std::int64_t first_kv = kv_heads >= c.tp ? t * c.n.kv_heads : t / sharers;
    const auto replica = static_cast<std::int32_t>(t % sharers);
    const std::int64_t q_all = c.model.q_size(), kv_all = c.model.kv_size();
    s.push_back({{0, t * c.n.q, c.n.q, 0, 0},
                 {c.n.q, q_all + first_kv * c.n.head_dim, c.n.kv, 0, replica},
                 {c.n.q + c.n.kv, q_all + kv_all + first_kv * c.n.head_dim, c.n.kv, 0, replica}});
  }
  return s;
}

// Up from the latents: by heads, which stand one after the other in every tensor's rows.
void add_latent_projections(const RoleContext& c, Layout& l) {
  const workloads::Mla& mla = c.model.mla;
  const std::int64_t q = c.n.q, kv = c.n.heads * (mla.nope_dim + mla.v_dim);
  const std::int64_t from = mla.q_rank > 0 ? mla.q_rank : c.n.hidden;
  l.add(mla.q_rank > 0 ? "attention.q_up.weight" : "attention.q.weight", q, from, q * c.tp, from,
        row_sharded(c.tp, q, 1));
  l.add("attention.kv_up.weight", kv, mla.kv_rank, kv * c.tp, mla.kv_rank, row_sharded(c.tp, kv, 1));
}

// Down to the latents: whole on every tp rank, as their norms are.
void add_latents(const RoleContext& c, Layout& l) {
  const workloads::Mla& mla = c.model.mla;
  const auto add = [&](const std::string& w, std::int64_t out, const std::string& norm, std::int64_t rank) {
    l.add("attention." + w + ".weight", out, c.n.hidden, out, c.n.hidden, replicated(c.tp, out));
    l.add_vector("attention." + norm + ".gain", rank, rank, replicated(c.tp, rank), Init::ones);
  };
  if (mla.q_rank > 0) {
    add("q_down", mla.q_rank, "q_norm", mla.q_rank);
  }
  add("kv_down", mla.kv_rank + mla.rope_dim, "kv_norm", mla.kv_rank);
}

// Either mixer's tensors in one place, as large as the larger one's: a layer has one of the two, and all layers of a
// role are laid out alike. Where few layers have the smaller one, little is counted too much.
void add_state_space(const RoleContext& c, Layout& l) {
  const Extents& n = c.n;
  const std::int64_t vectors = c.model.ssm.vectors() / c.tp;
  const std::int64_t attention = l.family.elements;
  l.family.elements = 0;
  l.add("ssm.in.weight", n.ssm_in, n.hidden, n.ssm_in * c.tp, n.hidden, row_sharded(c.tp, n.ssm_in, 1));
  l.add_vector("ssm.vectors", vectors, vectors * c.tp, row_sharded(c.tp, vectors, 1), Init::zeros);
  l.add("ssm.out.weight", n.hidden, n.ssm_inner, n.hidden, n.ssm_inner * c.tp,
        column_sharded(c.tp, n.hidden, n.ssm_inner));
  l.family.elements = std::max(l.family.elements, attention);
}

void add_norm(const RoleContext& c, Layout& l, const std::string& name) {
  const std::int64_t hidden = c.n.hidden;
  l.add_vector(name + ".gain", hidden, hidden, replicated(c.tp, hidden), Init::ones);
  if (c.model.norm == workloads::Norm::layernorm) {
    l.add_vector(name + ".bias", hidden, hidden, replicated(c.tp, hidden), Init::zeros);
  }
}

Layout layer_layout(const RoleContext& c) {
  if (c.model.is_dense()) {
    return dense_layer_layout(c);
  }
  const workloads::Model& m = c.model;
  const Extents& n = c.n;
  const double residual_std = residual_deviation(m);
  Layout l;
  l.family.name = "layer";
  if (m.has_mla()) {
    add_latent_projections(c, l);
  } else {
    l.add("attention.qkv.weight", n.qkv, n.hidden, m.q_size() + 2 * m.kv_size(), n.hidden, qkv_sharded(c));
    if (m.attention_bias) {
      l.add_vector("attention.qkv.bias", n.qkv, m.q_size() + 2 * m.kv_size(), qkv_sharded(c), Init::zeros);
    }
  }
  if (m.attention_sinks) {
    l.add_vector("attention.sinks", n.heads, m.heads, row_sharded(c.tp, n.heads, 1), Init::normal);
  }
  l.add("attention.out.weight", n.hidden, n.context, n.hidden, n.context * c.tp,
        column_sharded(c.tp, n.hidden, n.context))
      .init_std = residual_std;
  if (m.ssm.heads > 0) {
    add_state_space(c, l);
  }
  if (!c.has_experts()) {
    l.add_mlp(c, "mlp", m.ffn_hidden, m.mlp_bias);
  }
  if (m.qk_norm) {
    l.add_vector("attention.q_norm.gain", n.head_dim, n.head_dim, replicated(c.tp, n.head_dim), Init::ones);
    l.add_vector("attention.k_norm.gain", n.head_dim, n.head_dim, replicated(c.tp, n.head_dim), Init::ones);
  }
  add_norm(c, l, "norm1");
  if (m.output_bias) {
    l.add_vector("attention.out.bias", n.hidden, n.hidden, replicated(c.tp, n.hidden), Init::zeros);
  }
  if (m.has_mla()) {
    add_latents(c, l);
  }
  if (!m.shared_norm) {
    add_norm(c, l, "norm2");
  }
  if (m.mlp_bias) {
    l.add_vector("mlp.down.bias", n.hidden, n.hidden, replicated(c.tp, n.hidden), Init::zeros);
  }
  return l;
}

Layout embedding_layout(const RoleContext& c) {
  if (c.model.is_dense()) {
    return dense_input_layout(c);
  }
  Layout l;
  l.family.name = "embedding";
  l.add("table", c.n.vocab, c.n.hidden, c.n.vocab * c.tp, c.n.hidden, row_sharded(c.tp, c.n.vocab, 1));
  const bool two_sides = c.model.is_encoder_decoder();
  if (c.model.positions == workloads::Positions::relative) {
    for (const char* const side : {"encoder_bias", "decoder_bias"}) {
      l.add(side, c.n.heads, c.model.relative_buckets, c.model.heads, c.model.relative_buckets,
            row_sharded(c.tp, c.n.heads, 1))
          .decay = false;
    }
  }
  if (c.model.positions == workloads::Positions::learned) {
    for (const char* const side : {"positions", "decoder_positions"}) {
      if (two_sides || side == std::string_view("positions")) {
        l.add(side, c.model.max_positions, c.n.hidden, c.model.max_positions, c.n.hidden,
              replicated(c.tp, c.model.max_positions))
            .decay = false;
      }
    }
  }
  if (c.model.token_types > 0) {
    l.add("types", c.model.token_types, c.n.hidden, c.model.token_types, c.n.hidden,
          replicated(c.tp, c.model.token_types))
        .decay = false;
  }
  if (c.model.embedding_norm) {
    add_norm(c, l, "norm");
  }
  if (two_sides) {  // its gradient is complete when the embedding's is
    add_norm(c, l, "encoder_norm");
  }
  return l;
}

// What the decoder's layers have beside the encoder's.
Layout cross_layout(const RoleContext& c) {
  const workloads::Model& m = c.model;
  const Extents& n = c.n;
  Layout l;
  l.family.name = "cross";
  l.family.layer_list = kDecoderLayers;
  l.family.data_group = c.groups.data;
  l.family.slice_group = c.groups.tp;
  const auto add = [&](const std::string& name, std::int64_t rows, std::int64_t global, int parts) {
    l.add(name + ".weight", rows * parts, n.hidden, global * parts, n.hidden, row_sharded(c.tp, rows, parts));
    if (m.attention_bias) {
      l.add_vector(name + ".bias", rows * parts, global * parts, row_sharded(c.tp, rows, parts), Init::zeros);
    }
  };
  add("cross.q", n.q, m.q_size(), 1);
  add("cross.kv", n.kv, m.kv_size(), 2);
  l.add("cross.out.weight", n.hidden, n.context, n.hidden, n.context * c.tp, column_sharded(c.tp, n.hidden, n.context))
      .init_std = residual_deviation(m);
  add_norm(c, l, "cross.norm");
  if (m.output_bias) {
    l.add_vector("cross.out.bias", n.hidden, n.hidden, replicated(c.tp, n.hidden), Init::zeros);
  }
  return l;
}

Layout head_layout(const RoleContext& c) {
  if (c.model.is_dense()) {
    return dense_head_layout(c);
  }
  Layout l;
  l.family.name = "head";
  const auto add_dense = [&] {
    const std::int64_t hidden = c.n.hidden;
    l.add("dense.weight", hidden, hidden, hidden, hidden, replicated(c.tp, hidden));
    l.add_vector("dense.bias", hidden, hidden, replicated(c.tp, hidden), Init::zeros);
  };
  if (c.model.is_classifier()) {
    const std::int64_t classes = c.model.classes;
    l.add("weight", classes, c.n.hidden, classes, c.n.hidden, replicated(c.tp, classes));
    l.add_vector("bias", classes, classes, replicated(c.tp, classes), Init::zeros);
    add_dense();
    return l;
  }
  if (!c.tied_here) {
    l.add("weight", c.n.vocab, c.n.hidden, c.n.vocab * c.tp, c.n.hidden, row_sharded(c.tp, c.n.vocab, 1)).counted =
        !c.model.tied_embeddings;
  }
  if (c.model.head == workloads::Head::masked_lm) {
    l.add_vector("bias", c.n.vocab, c.n.vocab * c.tp, row_sharded(c.tp, c.n.vocab, 1), Init::zeros);
    add_dense();
  }
  add_norm(c, l, "norm");
  return l;
}

// Names for people and global tensor numbers: embedding 0.., then layers with a fixed stride, then the head, numbered
// as if its table were its own.
constexpr int kEmbeddingTensors = 2;  // of an embedding with few
// Of a layer with few; the stride of those with more is theirs.
constexpr int kLayerTensors = 12;
constexpr int kMoeLayerTensors = 16;  // in models with experts
constexpr int kHeadTensors = 3;       // of one with few

int tensors_of(const Layout& l) {
  return static_cast<int>(l.family.parameters.size());
}

int first_of_layers(const Layout& embedding) {
  return std::max(kEmbeddingTensors, tensors_of(embedding));
}

// A layer has an MLP or experts (or cross attention): both number from behind what all layers have.
int layer_stride(const Layout& layer, const std::vector<Layout>& experts) {
  int mlp = 0, moe = 0;
  for (const Layout& l : experts) {
    (l.family.name == "mlp" ? mlp : moe) += tensors_of(l);
  }
  return std::max(experts.empty() ? kLayerTensors : kMoeLayerTensors, tensors_of(layer) + std::max(mlp, moe));
}

void number(const RoleContext& c, int stride, Layout& embedding, Layout& layer, Layout& head,
            std::vector<Layout>& experts) {
  int next = 0;
  for (Parameter& p : embedding.family.parameters) {
    p.first_tensor = next++;
    p.name = embedding.family.name + "." + p.name;
  }
  next = first_of_layers(embedding);
  const auto number_layer = [&](ParameterFamily& f) {
    for (Parameter& p : f.parameters) {
      p.first_tensor = next++;
      p.tensor_stride = stride;
      p.name = "layers.{}." + p.name;
    }
  };
  number_layer(layer.family);
  for (const bool has_experts : {false, true}) {
    next = first_of_layers(embedding) + tensors_of(layer);
    for (Layout& l : experts) {
      if (has_experts == (l.family.name != "mlp")) {
        number_layer(l.family);
      }
    }
  }
  next = first_of_layers(embedding) + stride * static_cast<int>(c.model.layers) + (c.tied_here ? 1 : 0);
  for (Parameter& p : head.family.parameters) {
    // A tied head is the embedding's table.
    p.first_tensor = p.name == "weight" && c.model.tied_embeddings ? 0 : next;
    ++next;
    p.name = p.name == "weight" && c.model.tied_embeddings ? "embedding.table" : "head." + p.name;
  }
}

bool is_end(Family f) {
  return f == kEmbedding || f == kHead;
}

// A table that two stages (or two chunks of one) hold is summed over both before it is reduced: its gradient is whole
// until the step's end, and so are its parameters.
bool stays_whole(const RoleContext& c, Family f) {
  return is_end(f) && c.model.tied_embeddings && (!c.tied_here || c.chunk_first.size() > 1);
}

// The whole of a unit's parameters while they are used. The embedding's are needed by one block, unless the head shares
// them or its norm has a backward.
BufferId gathered_copy(RoleContext& c, Family f, const ParameterFamily& unit) {
  const Strategy& s = c.job.strategy;
  const bool in_block =
      f == kEmbedding && !c.tied_here && s.reshard && !c.model.embedding_norm && !c.model.is_encoder_decoder();
  const auto copies =
      static_cast<int>(std::min<std::int64_t>({1 + s.prefetch, c.max_chunk_layers(), std::max(1, unit.layers)}));
  const int layers = is_end(f) ? 0 : s.reshard ? copies : unit.layers;
  const BufferId id =
      c.builder.buffer(unit.name + ".parameters.gathered", c.type.parameter, unit.elements, BufferKind::communication,
                       in_block ? Lifetime::block : Lifetime::persistent, layers, unit.layer_list);
  c.role().buffers[static_cast<std::size_t>(id)].wraps = layers != 0 && s.reshard;
  return id;
}

// The whole of a unit's gradients until they are reduced: a layer's while the next one's are computed. The embedding's
// and the head's are not there at once, unless they are added up in one table, or the head's, there from a forward on,
// are beside those of another chunk.
BufferId whole_gradient(RoleContext& c, Family f, const ParameterFamily& unit, std::int64_t ends) {
  const bool layered = !is_end(f);
  const bool apart = layered || c.tied_here || (c.job.strategy.loss_chunks > 1 && c.chunk_first.size() > 1);
  const int copies = std::min(
      {c.job.strategy.overlap_grad_reduce ? 2 : 1, std::max(1, c.max_chunk_layers()), std::max(1, unit.layers)});
  const BufferId id =
      c.builder.buffer((apart ? unit.name : "ends") + ".gradients.whole", c.type.gradient, apart ? unit.elements : ends,
                       BufferKind::communication, Lifetime::persistent, layered ? copies : 0, unit.layer_list);
  c.role().buffers[static_cast<std::size_t>(id)].wraps = layered;
  return id;
}

// Elements of a family, padded.
std::int64_t padded(const RoleContext& c, const Layout& layout, bool present) {
  const GroupId group = layout.family.data_group;
  const PlanGraph& g = c.builder.graph();
  const std::int64_t owners = group == kNoGroup ? 1 : group_size(g.mesh, g.groups[static_cast<std::size_t>(group)]);
  return present ? round_up(layout.family.elements, kAlign * owners) : 0;
}

// `ends`: elements of the larger one of embedding and head.
void add_family(RoleContext& c, Layout layout, Family which, bool present, int layers, std::int64_t ends) {
  ParameterFamily& f = layout.family;
  FamilyUse use;
  f.elements = padded(c, layout, present);
  f.layers = layers;
  if (present && (layers > 0 || which == kEmbedding || which == kHead)) {
    const std::int64_t part = f.elements / c.shards_of(which);
    const bool shared_out = c.shard_group(which) != kNoGroup && !stays_whole(c, which);
    use.gathers = shared_out && c.job.strategy.zero >= 3;
    use.reduces = shared_out && c.job.strategy.zero >= 2;
    const auto add = [&](const char* what, Dtype dtype, std::int64_t elements, BufferKind kind) {
      return c.builder.buffer(f.name + "." + what, dtype, elements, kind, Lifetime::persistent, layers, f.layer_list);
    };
    f.parameter = add("parameters", c.type.parameter, use.gathers ? part : f.elements, BufferKind::parameter);
    f.gradient = add("gradients", c.type.gradient, use.reduces ? part : f.elements, BufferKind::gradient);
    const workloads::OptimizerKind kind = c.job.workload.optimizer.kind;
    const bool offloads = c.job.strategy.offload_optimizer;
    const BufferKind state = offloads ? BufferKind::host : BufferKind::optimizer_state;
    if (c.updates() && c.job.workload.precision.has_master()) {
      f.master = add("master", c.type.state, part, state);
    }
    if (c.updates() && workloads::moments(kind) >= 1) {
      f.m = add("m", c.type.state, part, state);
    }
    if (c.updates() && workloads::moments(kind) >= 2) {
      f.v = add("v", c.type.state, part, state);
    }
    if (offloads) {
      use.host_parameter = add("parameters.host", c.type.parameter, part, BufferKind::host);
      use.host_gradient = add("gradients.host", c.type.gradient, part, BufferKind::host);
    }
    use.parameter = use.gathers ? gathered_copy(c, which, f) : f.parameter;
    use.gradient = use.reduces ? whole_gradient(c, which, f, ends) : f.gradient;
  } else {
    f.parameters.clear();
  }
  c.uses.push_back(use);
  c.role().parameter_families.push_back(std::move(f));
}

}  // namespace

void add_parameters(RoleContext& c) {
  Layout embedding = embedding_layout(c), layer = layer_layout(c), head = head_layout(c);
  std::vector<Layout> experts = expert_layouts(c);
  if (c.model.is_encoder_decoder()) {
    experts.push_back(cross_layout(c));
  }
  const int stride = layer_stride(layer, experts);
  number(c, stride, embedding, layer, head, experts);
  c.tensors = first_of_layers(embedding) + stride * static_cast<std::int32_t>(c.model.layers) +
              std::max(kHeadTensors, tensors_of(head) + (c.tied_here ? 1 : 0));
  for (Layout* l : {&embedding, &layer, &head}) {
    l->family.data_group = c.groups.data;
    l->family.slice_group = c.groups.tp;
  }
  const bool embeds = c.first && (!c.model.is_dense() || c.model.layers > 0);
  const std::int64_t ends = std::max(padded(c, embedding, embeds), padded(c, head, c.last));
  add_family(c, std::move(embedding), kEmbedding, embeds, 0, ends);
  add_family(c, std::move(layer), kLayer, true, static_cast<int>(c.role().global_layer.size()), ends);
  add_family(c, std::move(head), kHead, c.last, 0, ends);
  for (std::size_t i = 0; i < experts.size(); ++i) {
    const auto layers =
        static_cast<int>(c.role().layer_lists[static_cast<std::size_t>(experts[i].family.layer_list)].size());
    add_family(c, std::move(experts[i]), static_cast<Family>(kMlp + static_cast<int>(i)), true, layers, ends);
  }
}

void emit_weight_gradient(RoleContext& c, BlockBuilder& b, Matmul matmul, Operand dy, Operand x, Operand dw) {
  matmul.accumulate = c.job.strategy.fused_grad_accumulation;
  if (matmul.accumulate) {
    matmul.out = c.type.gradient;
    b.emit(matmul, kCompute, Phase::backward_weight, {dy, x, dw}, {dw});
    return;
  }
  matmul.out = c.type.activation;
  const std::string name = fmt::format("weight_gradient.{}x{}", matmul.m, matmul.n);
  const Operand fresh = c.builder.whole(c.temporary(name, matmul.out, matmul.m * matmul.n));
  b.emit(matmul, kCompute, Phase::backward_weight, {dy, x}, {fresh});
  b.emit(Accumulate{dw.elements, matmul.out, c.type.gradient}, kCompute, Phase::backward_weight, {fresh, dw}, {dw});
}

}  // namespace foretrain::plan
