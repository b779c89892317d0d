// Flat layout of the parameters of one role. A layer: sharded tensors first, replicated ones last, so that the
// gradients that sequence parallelism has to sum over the tp group are one range. Offsets are multiples of 16 elements;
// a layer is padded to a multiple of 16 x dp, so that any run of whole layers cuts into equal shards.
#include "base/error.h"
#include "plan/build_context.h"
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

Layout layer_layout(const RoleContext& c) {
  const workloads::Model& m = c.model;
  const Extents& n = c.n;
  const double residual_std = residual_deviation(m);
  Layout l;
  l.family.name = "layer";
  l.add("attention.qkv.weight", n.qkv, n.hidden, m.q_size() + 2 * m.kv_size(), n.hidden, qkv_sharded(c));
  if (m.attention_bias) {
    l.add_vector("attention.qkv.bias", n.qkv, m.q_size() + 2 * m.kv_size(), qkv_sharded(c), Init::zeros);
  }
  l.add("attention.out.weight", n.hidden, n.q, n.hidden, m.q_size(), column_sharded(c.tp, n.hidden, n.q)).init_std =
      residual_std;
  if (!c.has_experts()) {
    l.add_mlp(c, "mlp", m.ffn_hidden, m.mlp_bias);
  }
  const bool norm_bias = m.norm == workloads::Norm::layernorm;
  l.add_vector("norm1.gain", n.hidden, n.hidden, replicated(c.tp, n.hidden), Init::ones);
  if (norm_bias) {
    l.add_vector("norm1.bias", n.hidden, n.hidden, replicated(c.tp, n.hidden), Init::zeros);
  }
  if (m.output_bias) {
    l.add_vector("attention.out.bias", n.hidden, n.hidden, replicated(c.tp, n.hidden), Init::zeros);
  }
  l.add_vector("norm2.gain", n.hidden, n.hidden, replicated(c.tp, n.hidden), Init::ones);
  if (norm_bias) {
    l.add_vector("norm2.bias", n.hidden, n.hidden, replicated(c.tp, n.hidden), Init::zeros);
  }
  if (m.mlp_bias) {
    l.add_vector("mlp.down.bias", n.hidden, n.hidden, replicated(c.tp, n.hidden), Init::zeros);
  }
  return l;
}

Layout embedding_layout(const RoleContext& c) {
  Layout l;
  l.family.name = "embedding";
  l.add("table", c.n.vocab, c.n.hidden, c.n.vocab * c.tp, c.n.hidden, row_sharded(c.tp, c.n.vocab, 1));
  if (c.model.positions == workloads::Positions::learned) {
    Parameter& p = l.add("positions", c.model.max_positions, c.n.hidden, c.model.max_positions, c.n.hidden,
                         replicated(c.tp, c.model.max_positions));
    p.decay = false;
  }
  return l;
}

Layout head_layout(const RoleContext& c) {
  Layout l;
  l.family.name = "head";
  if (!c.tied_here) {
    l.add("weight", c.n.vocab, c.n.hidden, c.n.vocab * c.tp, c.n.hidden, row_sharded(c.tp, c.n.vocab, 1)).counted =
        !c.model.tied_embeddings;
  }
  l.add_vector("norm.gain", c.n.hidden, c.n.hidden, replicated(c.tp, c.n.hidden), Init::ones);
  if (c.model.norm == workloads::Norm::layernorm) {
    l.add_vector("norm.bias", c.n.hidden, c.n.hidden, replicated(c.tp, c.n.hidden), Init::zeros);
  }
  return l;
}

// Names for people and global tensor numbers: embedding 0.., then layers with a fixed stride, then the head.
constexpr int kEmbeddingTensors = 2;
constexpr int kLayerTensors = 12;
constexpr int kMoeLayerTensors = 16;  // in models with experts

int tensors_of_layer(const RoleContext& c) {
  return c.has_experts() ? kMoeLayerTensors : kLayerTensors;
}

// A layer has an MLP or experts: both number from behind what all layers have.
void number(const RoleContext& c, Layout& embedding, Layout& layer, Layout& head, std::vector<Layout>& experts) {
  const int stride = tensors_of_layer(c);
  int next = 0;
  for (Parameter& p : embedding.family.parameters) {
    p.first_tensor = next++;
    p.name = "embedding." + p.name;
  }
  next = kEmbeddingTensors;
  const auto number_layer = [&](ParameterFamily& f) {
    for (Parameter& p : f.parameters) {
      p.first_tensor = next++;
      p.tensor_stride = stride;
      p.name = "layers.{}." + p.name;
    }
    CHECK(next <= kEmbeddingTensors + stride, "a layer of more than {} tensors", stride);
  };
  number_layer(layer.family);
  for (const bool has_experts : {false, true}) {
    const int common = kEmbeddingTensors + static_cast<int>(layer.family.parameters.size());
    next = common;
    for (Layout& l : experts) {
      if (has_experts == (l.family.name != "mlp")) {
        number_layer(l.family);
      }
    }
  }
  next = kEmbeddingTensors + stride * static_cast<int>(c.model.layers);
  for (Parameter& p : head.family.parameters) {
    // A tied head is the embedding's table.
    p.first_tensor = p.name == "weight" && c.model.tied_embeddings ? 0 : next;
    ++next;
    p.name = p.name == "weight" && c.model.tied_embeddings ? "embedding.table" : "head." + p.name;
  }
}

void add_family(RoleContext& c, Layout layout, bool present, int layers) {
  ParameterFamily& f = layout.family;
  const std::int64_t owners =
      f.data_group == kNoGroup
          ? 1
          : group_size(c.builder.graph().mesh, c.builder.graph().groups[static_cast<std::size_t>(f.data_group)]);
  f.elements = present ? round_up(f.elements, kAlign * owners) : 0;
  f.layers = layers;
  const bool has_layers = f.name != "embedding" && f.name != "head";
  if (present && (layers > 0 || !has_layers)) {
    const std::int64_t state = c.job.strategy.zero >= 1 ? f.elements / owners : f.elements;
    const auto add = [&](const char* what, Dtype dtype, std::int64_t elements, BufferKind kind) {
      return c.builder.buffer(f.name + "." + what, dtype, elements, kind, Lifetime::persistent, layers);
    };
    f.parameter = add("parameters", c.type.parameter, f.elements, BufferKind::parameter);
    f.gradient = add("gradients", c.type.gradient, f.elements, BufferKind::gradient);
    const workloads::OptimizerKind kind = c.job.workload.optimizer.kind;
    if (c.job.workload.precision.has_master()) {
      f.master = add("master", c.type.state, state, BufferKind::optimizer_state);
    }
    if (kind != workloads::OptimizerKind::sgd) {
      f.m = add("m", c.type.state, state, BufferKind::optimizer_state);
    }
    if (kind == workloads::OptimizerKind::adam || kind == workloads::OptimizerKind::adamw) {
      f.v = add("v", c.type.state, state, BufferKind::optimizer_state);
    }
  } else {
    f.parameters.clear();
  }
  c.role().parameter_families.push_back(std::move(f));
}

}  // namespace

void add_parameters(RoleContext& c) {
  Layout embedding = embedding_layout(c), layer = layer_layout(c), head = head_layout(c);
  std::vector<Layout> experts = expert_layouts(c);
  number(c, embedding, layer, head, experts);
  c.tensors = kEmbeddingTensors + tensors_of_layer(c) * static_cast<std::int32_t>(c.model.layers) + 3;
  for (Layout* l : {&embedding, &layer, &head}) {
    l->family.data_group = c.groups.dp;
    l->family.slice_group = c.groups.tp;
  }
  add_family(c, std::move(embedding), c.first, 0);
  add_family(c, std::move(layer), true, static_cast<int>(c.role().global_layer.size()));
  add_family(c, std::move(head), c.last, 0);
  for (Layout& l : experts) {
    const int layers = l.family.layers;
    add_family(c, std::move(l), true, layers);
  }
}

}  // namespace foretrain::plan
