#include "plan/build_context.h"

#include <algorithm>

#include "base/error.h"
#include "plan/build_update.h"

namespace foretrain::plan {

namespace {

Extents extents(const Job& job, std::int64_t seq_len) {
  const workloads::Model& m = job.workload.model;
  const Strategy& s = job.strategy;
  Extents n;
  n.batch = s.micro_batch;
  n.seq = seq_len / s.cp;
  n.rows = n.batch * n.seq;
  n.shard_rows = s.sequence_parallel ? n.rows / s.tp : n.rows;
  n.hidden = m.hidden;
  n.heads = m.heads / s.tp;
  n.kv_heads = std::max<std::int64_t>(1, m.kv_heads / s.tp);
  n.head_dim = m.head_dim;
  n.q = n.heads * n.head_dim;
  n.kv = n.kv_heads * n.head_dim;
  n.v_dim = m.v_dim();
  n.context = n.heads * n.v_dim;
  n.qkv = n.q + n.kv + n.kv_heads * n.v_dim;
  n.ssm_in = m.ssm.in_cols() / s.tp;
  n.ssm_inner = m.ssm.inner() / s.tp;
  n.mixer_in = m.ssm.heads > 0 ? std::max(n.qkv, n.ssm_in) : n.qkv;
  n.mixer_out = m.ssm.heads > 0 ? std::max(n.context, n.ssm_inner) : n.context;
  n.ffn = m.ffn_hidden / s.tp;
  n.ffn_in = workloads::is_gated(m.activation) ? 2 * n.ffn : n.ffn;
  n.vocab = padded_vocab(job) / s.tp;
  return n;
}

Dtypes dtypes(const workloads::Precision& p) {
  Dtypes t;
  t.matmul = p.compute;
  // Formats below 16 bit are what matmuls read; activations between them stay bf16.
  t.activation = bits(p.compute) < 16 ? Dtype::bf16 : p.compute;
  t.parameter = p.parameter;
  t.gradient = p.gradient;
  t.state = p.state;
  t.statistic = p.compute == Dtype::fp64 ? Dtype::fp64 : Dtype::fp32;
  return t;
}

const Parameter* find(const ParameterFamily& f, const std::string& name) {
  const auto at =
      std::find_if(f.parameters.begin(), f.parameters.end(), [&](const Parameter& p) { return p.name == name; });
  return at == f.parameters.end() ? nullptr : &*at;
}

// Layer parameters are named "layers.{}.x" in the graph and "x" by the emitters.
std::string full_name(Family f, const std::string& name) {
  return f == kLayer || f >= kMlp ? "layers.{}." + name : name;
}

}  // namespace

std::string_view suffix(BackwardPart part) {
  return part == BackwardPart::input ? ".input" : part == BackwardPart::weight ? ".weight" : "";
}

RoleContext::RoleContext(const Job& j, PlanGraph& g, Role& r, const Groups& gr, int stage_coordinate,
                         const PipelineRow& row, Part p)
    : job(j),
      model(j.workload.model),
      builder(g, r),
      groups(gr),
      part(p),
      stage(stage_coordinate),
      rank_of_stage(row.rank_of_stage),
      tp(static_cast<int>(j.strategy.tp)),
      sequence_parallel(j.strategy.sequence_parallel && j.strategy.tp > 1),
      all_to_all(j.strategy.cp > 1 && j.strategy.cp_kind == CpKind::all_to_all),
      splits(std::any_of(row.actions.begin(), row.actions.end(),
                         [](const Action& a) { return a.kind == ActionKind::backward_input; })),
      n(extents(j, j.workload.seq_len)),
      e(expert_extents(j, n)),
      type(dtypes(j.workload.precision)) {
  r.streams.push_back({"compute", StreamKind::compute, Axis::tp});
  const std::vector<std::int64_t> layers = layers_per_stage(job);
  std::int64_t global = 0;
  for (std::size_t model_stage = 0; model_stage < layers.size(); ++model_stage) {
    for (std::size_t v = model_stage; v < rank_of_stage.size(); v += layers.size()) {  // copies of the same layers
      if (rank_of_stage[v] == stage) {
        chunk_stage.push_back(static_cast<std::int32_t>(v));
        chunk_first.push_back(static_cast<std::int32_t>(r.global_layer.size()));
        chunk_layers.push_back(static_cast<std::int32_t>(layers[model_stage]));
        for (std::int64_t l = 0; l < layers[model_stage]; ++l) {
          r.global_layer.push_back(static_cast<std::int32_t>(global + l));
        }
      }
    }
    global += layers[model_stage];
  }
  if (has_experts()) {
    r.layer_lists.resize(2);
    for (std::int32_t l = 0; l < std::ssize(r.global_layer); ++l) {
      r.layer_lists[static_cast<std::size_t>(has_experts(l) ? kMoeLayers : kMlpLayers)].push_back(l);
    }
  }
  if (model.is_encoder_decoder()) {
    r.layer_lists.resize(2);
    for (std::int32_t l = 0; l < std::ssize(r.global_layer); ++l) {
      r.layer_lists[static_cast<std::size_t>(has_more(l) ? kDecoderLayers : kEncoderLayers)].push_back(l);
    }
  }
  first = begins(chunk_stage.front());
  last = ends(chunk_stage.back());
  tied_here = first && last && model.tied_embeddings;
}

void RoleContext::enter(Side now) {
  if (model.is_encoder_decoder()) {
    side = now;
    n = extents(job, side == Side::decoder ? job.workload.target_len : job.workload.seq_len);
  }
}

std::int32_t RoleContext::chunk_copies(std::size_t chunk, std::int32_t layer_list) const {
  const std::int32_t begin = chunk_first[chunk];
  return copies_before(role(), layer_list, begin + chunk_layers[chunk]) - copies_before(role(), layer_list, begin);
}

std::int32_t RoleContext::max_chunk_copies(std::int32_t layer_list) const {
  std::int32_t most = 0;
  for (std::size_t chunk = 0; chunk < chunk_layers.size(); ++chunk) {
    most = std::max(most, chunk_copies(chunk, layer_list));
  }
  return most;
}

std::int32_t RoleContext::max_chunk_layers() const {
  return *std::max_element(chunk_layers.begin(), chunk_layers.end());
}

std::size_t RoleContext::chunk_of(std::int32_t virtual_stage) const {
  const auto at = std::find(chunk_stage.begin(), chunk_stage.end(), virtual_stage);
  CHECK(at != chunk_stage.end(), "virtual stage {} is not on rank {}", virtual_stage, stage);
  return static_cast<std::size_t>(at - chunk_stage.begin());
}

Operand RoleContext::parameter(Family f, const std::string& name) {
  const ParameterFamily& stored = family(f);
  const Parameter* p = find(stored, full_name(f, name));
  CHECK(p != nullptr, "no parameter {} in family {}", name, stored.name);
  return {use(f).parameter, 0, kNoGroup, p->offset, p->rows * p->cols, 0};
}

Operand RoleContext::gradient(Family f, const std::string& name) {
  Operand o = parameter(f, name);
  o.buffer = use(f).gradient;
  return o;
}

bool RoleContext::has_parameter(Family f, const std::string& name) const {
  return find(family(f), full_name(f, name)) != nullptr;
}

bool RoleContext::reduces_replicated() const {
  const bool layers = max_chunk_layers() > 0;
  const bool experts = has_experts() && !role().layer_lists[kMoeLayers].empty();
  return (layers && (groups.kv != kNoGroup || (groups.tp != kNoGroup && model.qk_norm))) ||
         (experts && groups.tp != kNoGroup) ||
         (sequence_parallel &&
          (layers || (last && !model.is_classifier()) || (first && !replicated_embedding().empty())));
}

std::string RoleContext::replicated_embedding() const {
  for (const char* const name :
       {"embedding.positions", "embedding.types", "embedding.norm.gain", "embedding.encoder_norm.gain"}) {
    if (has_parameter(kEmbedding, name)) {
      return name;
    }
  }
  return "";
}

EventId RoleContext::reduced() {
  return builder.event(kReducedEvent, Replicas::once);
}

std::int32_t RoleContext::shards_of(Family f) const {
  if (f != kExperts) {
    return static_cast<std::int32_t>(shards());
  }
  const PlanGraph& g = builder.graph();
  const GroupId group = shard_group(f);
  return group == kNoGroup ? 1 : group_size(g.mesh, g.groups[static_cast<std::size_t>(group)]);
}

std::vector<Family> RoleContext::layer_families() const {
  return has_experts()                ? std::vector<Family>{kExperts, kMoe, kMlp, kLayer}
         : model.is_encoder_decoder() ? std::vector<Family>{kCross, kLayer}
                                      : std::vector<Family>{kLayer};
}

Family RoleContext::family_of(const std::string& name) const {
  return name.starts_with("cross.")     ? kCross
         : !has_experts()               ? kLayer
         : name.starts_with("mlp.")     ? kMlp
         : name.starts_with("moe.")     ? kMoe
         : name.starts_with("experts.") ? kExperts
                                        : kLayer;
}

std::int32_t RoleContext::recomputed_layers(std::size_t chunk) const {
  const Strategy& s = job.strategy;
  const std::int64_t layers = chunk_layers[chunk];
  return static_cast<std::int32_t>(
      s.recompute_layers.empty()
          ? layers
          : std::min(layers, s.recompute_layers[static_cast<std::size_t>(chunk_stage[chunk] % s.model_stages())]));
}

std::int32_t RoleContext::offloaded_layers(std::size_t chunk) const {
  const Strategy& s = job.strategy;
  if (!s.offload_activations) {
    return 0;
  }
  const std::int64_t layers = chunk_layers[chunk];
  return static_cast<std::int32_t>(s.offload_layers < 0 ? layers : std::min(layers, s.offload_layers));
}

std::int32_t RoleContext::most_offloaded() const {
  std::int32_t most = 0;
  for (std::size_t chunk = 0; chunk < chunk_layers.size(); ++chunk) {
    most = std::max(most, offloaded_layers(chunk));
  }
  return most;
}

std::int32_t RoleContext::kept_copies() const {
  std::int32_t most = 0;
  for (std::size_t chunk = 0; chunk < chunk_layers.size(); ++chunk) {
    most = std::max(most,
                    chunk_layers[chunk] - (most_offloaded() > 0 ? offloaded_layers(chunk) : recomputed_layers(chunk)));
  }
  return most;
}

bool RoleContext::mixes_recompute() const {
  std::int32_t most = 0;
  for (std::size_t chunk = 0; chunk < chunk_layers.size(); ++chunk) {
    most = std::max(most, recomputed_layers(chunk));
  }
  return most > 0 && kept_copies() > 0 && !job.strategy.recompute_layers.empty();
}

BufferId RoleContext::saved(const std::string& name, Dtype dtype, std::int64_t elements, bool recomputed,
                            std::int32_t layer_list) {
  if (recomputed) {
    return builder.buffer(named(mixes_recompute() ? name + ".recomputed" : name), dtype, elements,
                          BufferKind::workspace, Lifetime::block);
  }
  return by_layer(name, dtype, elements, Lifetime::slot, layer_list);
}

BufferId RoleContext::by_layer(const std::string& name, Dtype dtype, std::int64_t elements, Lifetime lifetime,
                               std::int32_t layer_list) {
  if (emitted.offloads) {
    return passing(*this, name, dtype, elements);
  }
  // Copies that wrap are used in turn by all layers, whichever list they are in.
  const bool mixes = mixes_recompute() || most_offloaded() > 0;
  layer_list = layer_list == kAllLayers ? side_list() : layer_list;
  const BufferId id =
      builder.buffer(named(name), dtype, elements, BufferKind::activation, lifetime,
                     mixes ? kept_copies() : max_chunk_copies(layer_list), mixes ? kAllLayers : layer_list);
  role().buffers[static_cast<std::size_t>(id)].wraps = mixes;
  return id;
}

BufferId RoleContext::saved_for_weights(const std::string& name, Dtype dtype, std::int64_t elements, bool recomputed,
                                        std::int32_t layer_list) {
  if (recomputed || !splits) {
    return saved(name, dtype, elements, recomputed, layer_list);
  }
  return by_layer(name, dtype, elements, Lifetime::hold, layer_list);
}

BufferId RoleContext::read_by_weights(const std::string& name, Dtype dtype, std::int64_t elements, bool recomputed,
                                      bool in_backward, std::int32_t layer_list) {
  return recomputed && splits && in_backward ? kept(name + ".again", dtype, elements, layer_list)
                                             : saved_for_weights(name, dtype, elements, recomputed, layer_list);
}

BufferId RoleContext::temporary(const std::string& name, Dtype dtype, std::int64_t elements) {
  return builder.buffer(named(name), dtype, elements, BufferKind::workspace, Lifetime::block);
}

BufferId RoleContext::head_buffer(const std::string& name, Dtype dtype, std::int64_t elements) {
  return builder.buffer(name, dtype, elements, BufferKind::activation,
                        head_in_slots ? Lifetime::slot : Lifetime::persistent);
}

BufferId RoleContext::residual() {
  const bool offloads = most_offloaded() > 0;
  const BufferId id =
      builder.buffer(named("x"), type.activation, n.shard_rows * n.hidden, BufferKind::activation, Lifetime::slot,
                     (offloads ? kept_copies() : max_chunk_copies(side_list())) + 1, side_list());
  role().buffers[static_cast<std::size_t>(id)].wraps = offloads;
  return id;
}

Operand RoleContext::input_of_offloading() {
  return builder.whole(
      builder.buffer("x.in", type.activation, n.shard_rows * n.hidden, BufferKind::activation, Lifetime::slot));
}

BufferId RoleContext::kept(const std::string& name, Dtype dtype, std::int64_t elements, std::int32_t layer_list) {
  if (!splits) {
    return temporary(name, dtype, elements);
  }
  return builder.buffer(name, dtype, elements, BufferKind::activation, Lifetime::ring, max_chunk_copies(layer_list),
                        layer_list);
}

BufferId RoleContext::residual_gradient() {
  return builder.buffer(named("dy"), type.activation, n.shard_rows * n.hidden, BufferKind::activation, Lifetime::ring,
                        keeps_residual_gradients() ? max_chunk_layers() + 1 : 0);
}

}  // namespace foretrain::plan
