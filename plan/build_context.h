// Sizes, buffers and parameters of one role while it is built. Used by build*.cpp only.
#pragma once

#include <algorithm>
#include <compare>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "plan/job.h"
#include "plan/role_builder.h"
#include "plan/schedule.h"

namespace foretrain::plan {

// Process groups of the mesh; kNoGroup where the group would have one member.
struct Groups {
  GroupId tp = kNoGroup;
  GroupId data = kNoGroup;      // all ranks with copies of the same parameters: dp, and cp where it cuts sequences
  GroupId dp = kNoGroup;        // those of them whose copies never differ: they sum gradients in every step
  GroupId averaged = kNoGroup;  // one of each such group: their parameters are averaged now and then
  GroupId cp = kNoGroup;
  GroupId shard = kNoGroup;      // dp ranks that share out state (and gradients and parameters) of one replica
  GroupId replicas = kNoGroup;   // dp ranks that own the same part, one of each such group
  GroupId kv = kNoGroup;         // tp ranks that hold the same kv heads (kv_heads < tp)
  GroupId embedding = kNoGroup;  // first and last stage, when they share a tied embedding
  GroupId model = kNoGroup;      // pp and tp: all parts of one model replica
  GroupId ep = kNoGroup;         // ranks that exchange tokens: each holds other experts
  // Ranks that hold the same parts of the same experts; those of them that share out their state; ranks that hold
  // different ones, along dp and tp; and along dp only.
  GroupId expert_data = kNoGroup, expert_shard = kNoGroup, expert_slices = kNoGroup, expert_dp = kNoGroup;
  GroupId balanced = kNoGroup;        // ranks that route tokens of one microbatch
  std::vector<GroupId> with_server;   // by server: it, behind all workers
  GroupId servers = kNoGroup;         // where there are several; of a replica's role: their replicas
  std::vector<GroupId> with_replica;  // by server: it and its replica, where they have some
  // Pipeline ranks with copies of the same layers, as a span of groups and in their names; none where there is one
  // copy.
  std::vector<AxisSpan> pair;
  std::string of_pair;
};

// What a role does of data parallelism: all of it; where one rank updates for its replica group, that one's part or the
// others'; a server's, or its replica's.
enum class Part : std::uint8_t { whole, central, worker, server, replica };

// Local extents on one rank of the role.
struct Extents {
  std::int64_t batch = 0, seq = 0;  // seq: of this rank's share of a sequence
  std::int64_t rows = 0;            // tokens of a microbatch
  std::int64_t shard_rows = 0;      // rows / tp under sequence parallelism, else rows
  std::int64_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, q = 0, kv = 0, qkv = 0;
  std::int64_t v_dim = 0, context = 0;  // of a value head, of all heads' outputs
  // Columns into and out of a state-space mixer; of buffers that hold either what it or what attention has there.
  std::int64_t ssm_in = 0, ssm_inner = 0, mixer_in = 0, mixer_out = 0;
  std::int64_t ffn = 0;     // columns of the activation's output
  std::int64_t ffn_in = 0;  // of its input (twice ffn when gated)
  std::int64_t vocab = 0;   // padded, local
};

// Of layers with experts, on one rank. All zero without experts.
struct ExpertExtents {
  bool own_tokens = true;    // each tp rank routes its own shard_rows tokens to whole experts; else all tp ranks
                             // route all rows to their parts of the experts
  std::int64_t tokens = 0;   // that a rank routes
  std::int64_t choices = 0;  // tokens x top_k
  std::int64_t experts = 0, local = 0;
  std::int64_t members = 1;                                     // ranks of the ep group
  std::int64_t capacity = 0;                                    // choices of one rank for one expert; 0: any number
  std::int64_t arriving = 0;                                    // rows that are planned for
  double mean = 0, stddev = 0;                                  // of the rows that arrive, over the ranks
  std::int64_t ffn = 0, ffn_in = 0, shared = 0, shared_in = 0;  // widths, as of an MLP
};

struct Dtypes {
  Dtype matmul{};  // what matmuls compute in
  Dtype activation{};
  Dtype parameter{}, gradient{}, state{};
  Dtype statistic{};  // norm statistics, log-sum-exp, loss terms
};

// From kMlp on in models with experts only: there kLayer is what all layers have, kMlp the MLPs of layers without
// experts, kMoe routers and shared experts. kCross in those with an encoder and a decoder: what the decoder's layers
// have beside kLayer.
enum Family : std::int16_t { kEmbedding = 0, kLayer = 1, kHead = 2, kMlp = 3, kMoe = 4, kExperts = 5, kCross = 3 };

// What compute reads and writes of a family: what is stored, where that is whole; else transient copies that are
// gathered before, or cleared before and reduced after (build_units.cpp).
struct FamilyUse {
  bool gathers = false;                              // of the parameters each rank stores its part only
  bool reduces = false;                              // of the gradients, too
  BufferId parameter = -1, gradient = -1;            // whole
  BufferId host_parameter = -1, host_gradient = -1;  // this rank's part on the host, where it updates there
};

// What a layer's, or the head's, backward is emitted as: whole, or one half of it. Whose weight gradients are put off
// (as in the zero-bubble papers' code): the matmuls'. Norms, biases, positions and the embedding table get theirs with
// the input gradient, which needs the same operands.
enum class BackwardPart : std::uint8_t { whole, input, weight };
std::string_view suffix(BackwardPart part);  // of names

// Lists of layers (Role::layer_lists) in models with experts, and in those with an encoder and a decoder.
inline constexpr std::int32_t kAllLayers = -1, kMlpLayers = 0, kMoeLayers = 1, kEncoderLayers = 0, kDecoderLayers = 1;

// Of a model with an encoder and a decoder: whose sequences a block is about. Their buffers and messages have names of
// their own.
enum class Side : std::uint8_t { encoder, decoder };

// What layers of a model differ in: an MLP or experts; of an encoder, or of a decoder that attends to one; attention,
// with a window or without, or a state-space mixer; whether they recompute, as the strategy has it, or keep everything;
// whether what they keep goes to the host (build_offload.cpp), and then whether they are their chunk's first and last
// that do.
struct LayerKind {
  bool experts = false, ssm = false, recomputes = false, decoder = false;
  std::int64_t window = 0;
  bool offloads = false, first_of_chunk = false, last_of_chunk = false;

  auto operator<=>(const LayerKind&) const = default;
};

// An activation of one layer on its way to the host, and there: so many layers on from the layer's own copy.
struct OnHost {
  BufferId passing = -1, host = -1;
  int host_delta = 0;
};

// A pipeline rank's part of the schedule.
struct PipelineRow {
  const std::vector<Action>& actions;
  const std::vector<std::int32_t>& rank_of_stage;  // by virtual stage
  std::vector<bool> paired;                        // by action: it runs as one with the next (schedule.h)
};

struct BucketRange {
  Family family{};
  std::int32_t first_layer = 0, layers = 1;  // role-local, and of the family's; 0, 1 for families without layers
};

// Which server has what.
struct Dealing {
  std::int32_t embedding = -1, head = -1;
  std::vector<std::int32_t> layers;  // global
  std::int32_t server_of(const Role& role, const BucketRange& r) const;
};

// One role under construction.
struct RoleContext {
  RoleContext(const Job& j, PlanGraph& g, Role& r, const Groups& gr, int stage_coordinate, const PipelineRow& row,
              Part p);

  const Job& job;
  const workloads::Model& model;
  RoleBuilder builder;
  Groups groups;
  Part part;
  int stage;  // pp coordinate
  const std::vector<std::int32_t>& rank_of_stage;
  int tp;
  bool sequence_parallel;
  bool all_to_all;                   // cp: attention has whole sequences of a share of the heads
  bool first = false, last = false;  // holds the embedding / the head
  bool splits;                       // has backwards in two halves: what the later half reads is kept until then
  bool tied_here = false;            // embedding and head on this very role, one table
  Extents n;                         // of the side that is being written, where there are two
  ExpertExtents e;
  Dtypes type;
  std::vector<std::int32_t> chunk_first;  // role-local first layer of each chunk
  std::vector<std::int32_t> chunk_layers;
  std::vector<std::int32_t> chunk_stage;                           // its virtual stage
  std::map<std::string, std::map<int, std::string>> peer_streams;  // by direction and neighbour
  // LossScale's state, whose first number is the scale.
  Operand loss_scale_state() { return builder.whole(role().loss_scale); }
  bool scales_loss() const { return job.workload.loss_scaling.is_on(); }
  // The loss is the mean over the batch; a gradient over what its replica has of it, this times as much.
  double replicas_apart() const { return static_cast<double>(job.strategy.drifting()); }
  bool head_in_slots = false;  // more than one microbatch between the head's forward and backward
  std::int32_t tensors = 0;
  std::vector<FamilyUse> uses;  // by Family; build_parameters.cpp
  LayerKind emitted;            // whose block is being written
  Side side = Side::encoder;    // and on which side, where there are two
  std::map<LayerKind, std::vector<OnHost>> on_host;
  // What a forward without a backward has in a block's place, or leaves out (-1).
  std::map<BlockId, BlockId> without_backward;
  Dealing dealt;  // with parameter servers

  Role& role() { return builder.role(); }
  const Role& role() const { return builder.role(); }
  std::int32_t max_chunk_layers() const;
  const ParameterFamily& family(Family f) const { return role().parameter_families[static_cast<std::size_t>(f)]; }
  const FamilyUse& use(Family f) const { return uses[static_cast<std::size_t>(f)]; }
  void enter(Side side);  // what is written next is of this side; nothing in models with one
  // A name on the side, and the list of its layers.
  std::string named(const std::string& name) const { return side == Side::decoder ? "decoder." + name : name; }
  std::int32_t side_list() const {
    return !model.is_encoder_decoder() ? kAllLayers : side == Side::decoder ? kDecoderLayers : kEncoderLayers;
  }
  bool is_causal() const { return model.is_encoder_decoder() ? side == Side::decoder : !model.is_encoder(); }
  bool has_experts() const { return model.moe.experts > 0; }
  bool has_experts(std::int32_t layer) const {  // role-local
    return model.has_experts(role().global_layer[static_cast<std::size_t>(layer)]);
  }
  // Of the second list of layers: with experts, or of the decoder. Their unit has other families.
  bool has_more(std::int32_t layer) const {  // role-local
    return has_experts(layer) || model.has_cross_attention(role().global_layer[static_cast<std::size_t>(layer)]);
  }
  // Of a list's layers: how many a chunk has of them, the first so many of the role's, and the most of any chunk.
  std::int32_t chunk_copies(std::size_t chunk, std::int32_t layer_list) const;
  std::int32_t max_chunk_copies(std::int32_t layer_list) const;
  // Of buffers that only layers with an MLP have.
  std::int32_t mlp_list() const { return has_experts() ? kMlpLayers : side_list(); }
  // Layers of a chunk that recompute, the first ones, where all of a layer is recomputed.
  std::int32_t recomputed_layers(std::size_t chunk) const;
  // Layers that recompute and layers that keep everything share the role. Copies by layer of what the latter keep:
  // their chunk's last layers use them in turn.
  bool mixes_recompute() const;
  std::int32_t kept_copies() const;
  // Layers of a chunk whose activations go to the host, the first ones.
  std::int32_t offloaded_layers(std::size_t chunk) const;
  std::int32_t most_offloaded() const;
  // Families with layers, those whose gradients are complete first last; of a layer's parameter; the data-parallel
  // group of a family.
  std::vector<Family> layer_families() const;
  Family family_of(const std::string& name) const;
  GroupId data_group(Family f) const { return f == kExperts ? groups.expert_data : groups.dp; }
  // A family's gradients meet those of other ranks; this role updates parameters.
  bool exchanges(Family f) const { return data_group(f) != kNoGroup || !groups.with_server.empty(); }
  bool updates() const { return part != Part::worker; }
  bool serves() const { return part == Part::server || part == Part::replica; }
  // Ranks that share out the state of a family, and how many parts that makes.
  GroupId shard_group(Family f) const {
    return f != kExperts ? groups.shard : job.strategy.zero >= 1 ? groups.expert_shard : kNoGroup;
  }
  std::int32_t shards_of(Family f) const;
  std::size_t chunk_of(std::int32_t virtual_stage) const;

  // Whether a virtual stage is the model's first, its last.
  bool begins(std::int32_t virtual_stage) const { return virtual_stage % job.strategy.model_stages() == 0; }
  bool ends(std::int32_t virtual_stage) const { return (virtual_stage + 1) % job.strategy.model_stages() == 0; }

  // Data-parallel ranks own parts of the optimizer's state, and so many of them share a replica's.
  bool shards_state() const { return groups.shard != kNoGroup; }
  std::int64_t shards() const { return shards_state() ? job.strategy.shards() : 1; }
  bool gathers_any() const {
    return std::any_of(uses.begin(), uses.end(), [](const FamilyUse& u) { return u.gathers; });
  }
  bool reduces_any() const {
    return std::any_of(uses.begin(), uses.end(), [](const FamilyUse& u) { return u.reduces; });
  }
  // Gradients are reduced behind a chunk's last backward, not in it: the ranks that hold its copies have other
  // microbatches there, and what they do together belongs to none.
  bool reduces_apart() const { return job.strategy.overlap_grad_reduce && job.strategy.ways() > 1; }
  // Gradients of later microbatches are added to the reduced ones of earlier ones.
  bool accumulates_reduced() const { return job.microbatches() > 1; }
  // The head's unit stays gathered from its forward to its backward, which follows at once.
  bool keeps_head_gathered() const { return !head_in_slots || !job.strategy.reshard; }

  // Views of a parameter or of its gradient by name in a family ("attention.qkv.weight").
  Operand parameter(Family f, const std::string& name);
  Operand gradient(Family f, const std::string& name);
  bool has_parameter(Family f, const std::string& name) const;

  StreamId tp_stream() { return builder.stream("tp", StreamKind::collective, Axis::tp); }
  StreamId dp_stream() { return builder.stream("dp", StreamKind::collective, Axis::dp); }
  StreamId ep_stream() { return builder.stream("ep", StreamKind::collective, Axis::dp, true); }
  StreamId replicas_stream() { return builder.stream("replicas", StreamKind::collective, Axis::dp); }
  StreamId world_stream() { return builder.stream("world", StreamKind::collective, Axis::pp); }

  // Gradients of tensors that several tp ranks hold are summed (reduce_replicated); nobody records it where none is:
  // without layers and a head, in a stage of the embedding alone, positions are all that could be.
  EventId replicated_reduced() { return builder.event("replicated_reduced", Replicas::once); }
  bool reduces_replicated() const;
  // The first of the embedding's tensors that every tp rank holds, those behind it too; "": none.
  std::string replicated_embedding() const;

  // A gradient's parts are with their owners (the whole of it may be written again); and are complete.
  EventId scattered() { return builder.event("gradients_scattered", Replicas::once); }
  EventId reduced();

  // Activation kept from forward to backward (a slot), or only inside a block when it is recomputed.
  // One copy of each layer of a chunk that is in the list (of each that keeps it, where not all do).
  BufferId saved(const std::string& name, Dtype dtype, std::int64_t elements, bool recomputed,
                 std::int32_t layer_list = kAllLayers);  // all: those of the side
  BufferId by_layer(const std::string& name, Dtype dtype, std::int64_t elements, Lifetime lifetime,
                    std::int32_t layer_list);
  // One that weight gradients read.
  BufferId saved_for_weights(const std::string& name, Dtype dtype, std::int64_t elements, bool recomputed,
                             std::int32_t layer_list = kAllLayers);
  // The same as the backward reads it: what full recompute computed again is not what the forward wrote.
  BufferId read_by_weights(const std::string& name, Dtype dtype, std::int64_t elements, bool recomputed,
                           bool in_backward, std::int32_t layer_list = kAllLayers);
  BufferId temporary(const std::string& name, Dtype dtype, std::int64_t elements);
  // The head's activations: one copy when its backward follows its forward at once, else per slot.
  BufferId head_buffer(const std::string& name, Dtype dtype, std::int64_t elements);
  BufferId residual();  // x: the layers' inputs and the chunk's output
  // A chunk's input, which stays on the device where its layers' own go to the host.
  Operand chunk_input(std::size_t chunk) {
    return offloaded_layers(chunk) > 0 ? input_of_offloading() : builder.whole(residual());
  }
  Operand input_of_offloading();
  Operand chunk_output(std::size_t chunk) { return builder.whole(residual(), chunk_copies(chunk, side_list())); }
  // From a layer's input gradient to its weight gradient, per layer in ring copies; inside a block where nothing is
  // split.
  BufferId kept(const std::string& name, Dtype dtype, std::int64_t elements, std::int32_t layer_list = kAllLayers);
  // The gradient of x, in ring copies. One that runs down the layers in place; of all layers, as x itself, where weight
  // gradients read it later and have no gathered copy, and no norm stands between.
  BufferId residual_gradient();
  bool keeps_residual_gradients() const { return splits && !sequence_parallel && !model.norms_behind(); }
  // What the backward of a chunk of so many layers begins with, and what it ends with.
  Operand gradient_in(int layers) {
    return builder.whole(residual_gradient(), keeps_residual_gradients() ? layers : 0);
  }
  Operand gradient_out() { return builder.whole(residual_gradient()); }
};

// build_parameters.cpp: the families' layout, buffers and slices.
void add_parameters(RoleContext& c);

// build_experts.cpp: how experts lie on the ranks, and their parameters.
ExpertExtents expert_extents(const Job& job, const Extents& n);
void add_expert_groups(PlanGraph& g, const Job& job, Groups& groups);
void add_expert_families(RoleContext& c);

// build_collectives.cpp: tensor-parallel communication inside a block. Each returns the operand to go on with.
Operand gather_rows(RoleContext& c, BlockBuilder& b, Phase phase, Operand shard, const std::string& name);
void gather_rows_into(RoleContext& c, BlockBuilder& b, Phase phase, Operand shard, Operand full,
                      const std::string& name);
Operand reduce_rows(RoleContext& c, BlockBuilder& b, Phase phase, Operand partial, const std::string& name);
// `sum`: this rank's rows under sequence parallelism, else `partial` itself.
void reduce_rows_into(RoleContext& c, BlockBuilder& b, Phase phase, Operand partial, Operand sum,
                      const std::string& name);
// In a backward, before ops that do not need what the tp group was last asked for: they wait for it nevertheless,
// unless communication overlaps compute (overlap_tp).
void wait_unless_overlapped(RoleContext& c, BlockBuilder& b, Phase phase);

// build_parameters.cpp: dW += dy^T x, by the matmul (whose `accumulate` and `out` are set here), or
// (fused_grad_accumulation off) by a pass of its own over a gradient in the activations' dtype.
void emit_weight_gradient(RoleContext& c, BlockBuilder& b, Matmul matmul, Operand dy, Operand x, Operand dw);

// build_layer.cpp
BlockId layer_forward(RoleContext& c, LayerKind kind);
// The last microbatch's weight gradients are complete.
BlockId layer_backward(RoleContext& c, LayerKind kind, BackwardPart part, bool last_microbatch);

// A layer with experts in three blocks, between which others may stand: the first two end with tokens on their way.
std::vector<BlockId> layer_forward_parts(RoleContext& c, LayerKind kind);
std::vector<BlockId> layer_backward_parts(RoleContext& c, LayerKind kind, bool last_microbatch);
// build_offload.cpp: activations that wait for their backward on the host.
// One of emitted layers, where it passes through the device: so many copies, used in turn.
BufferId passing(RoleContext& c, const std::string& name, Dtype dtype, std::int64_t elements);
Operand passing_x(RoleContext& c, bool is_input);  // of an emitted layer, or its output
// From the device to the host behind a layer's forward, and back before its backward. No block where the layer keeps
// nothing but its chunk's input.
BlockId offload_layer(RoleContext& c, LayerKind kind);
BlockId fetch_layer(RoleContext& c, LayerKind kind);
// Before a forward writes: what is in its copies is on the host; of the layer that it is called at, or all.
BlockId await_offloaded(RoleContext& c, bool all);
// Before a backward reads.
void await_fetched(RoleContext& c, BlockBuilder& b, LayerKind kind);

// build_cross_attention.cpp: what the decoder's layers read of the encoder, and its gradient, the sum over them.
Operand encoded(RoleContext& c);
Operand encoded_gradient(RoleContext& c);
// Relative positions: the logits by distance of the side's layers, and their gradient, the sum over the layers.
Operand position_bias(RoleContext& c);
Operand position_bias_gradient(RoleContext& c);
// At the begin of the side's backward: nothing has been added to these sums.
void clear_sums(RoleContext& c, BlockBuilder& b);
// On to the table that they come from.
void relative_bias_forward(RoleContext& c, BlockBuilder& b);
void relative_bias_backward(RoleContext& c, BlockBuilder& b);

// build_loading.cpp: a part of what is trained on, as the role's forward and backward read it. Tokens are those of the
// side that is being written, labels of samples; lengths and classes of padded sequences.
enum class Loaded : std::uint8_t { tokens, targets, features, labels, lengths, classes };
Operand loaded(RoleContext& c, Loaded what);

// build_ends.cpp. Of a model with two sides embedding_* are about the one that the context is on.
// The norm between the encoder's last layer and the decoder's layers.
BlockId encoder_norm_forward(RoleContext& c, std::size_t chunk);
BlockId encoder_norm_backward(RoleContext& c, std::size_t chunk);
// `gathers`: the embedding's parameters, where they are sharded, first.
BlockId embedding_forward(RoleContext& c, std::size_t chunk, bool gathers);
BlockId embedding_backward(RoleContext& c, bool last_microbatch);
// What is left once all gradients of the embedding, and of a head tied to it, are there.
void finish_embedding(RoleContext& c, BlockBuilder& b);
// build_head.cpp
BlockId head_forward(RoleContext& c, std::size_t chunk);
BlockId head_backward(RoleContext& c, std::size_t chunk, BackwardPart part, bool last_microbatch);
// Sums gradients of tensors that every tp rank holds but only saw its own rows of (sequence parallelism).
void reduce_replicated(RoleContext& c, BlockBuilder& b, Family f, const std::string& first_replicated);

// build_segments.cpp: a chunk's forward and backward, between its neighbours in the pipeline.
// Layer blocks are the same for all chunks of a role.
class LayerBlocks {
 public:
  LayerBlocks(RoleContext& c, const std::vector<BackwardPart>& parts);
  // Calls for role-local layers [first, first + count), from the bottom up and from the top down. Activations go to the
  // host behind a layer's forward; those of a layer come back while the one above has its backward.
  void call_forward(std::vector<BlockCall>& calls, std::int32_t first, std::int32_t count) const;
  void call_backward(std::vector<BlockCall>& calls, BackwardPart part, bool last, std::int32_t first,
                     std::int32_t count) const;
  // A layer's block in parts between which others may stand: itself, where it has no such; nullptr if it is no layer's.
  const std::vector<BlockId>* parts(BlockId block) const;
  // At a backward's begin: the first activations that it needs, of layers [first, first + count).
  void call_first_fetches(std::vector<BlockCall>& calls, std::int32_t first, std::int32_t count) const;

 private:
  void call_fetch(std::vector<BlockCall>& calls, std::int32_t layer) const;
  // The end of the run of equal layers from `from` on; of one that offloads by itself.
  std::int32_t end_of_run(std::int32_t from, std::int32_t end) const;
  std::vector<LayerKind> kinds_;  // by role-local layer
  std::map<LayerKind, BlockId> forward_;
  std::map<std::tuple<LayerKind, BackwardPart, bool>, BlockId> backward_;
  std::map<BlockId, std::vector<BlockId>> parts_;  // of forwards and whole backwards, with overlap_ep
  std::map<LayerKind, BlockId> offload_, fetch_;
  BlockId await_layer_ = -1, await_all_ = -1;
};
// `gathers`: sharded parameters are gathered (they are not, where they still are there).
SegmentId forward_segment(RoleContext& c, int chunk, const LayerBlocks& layers, bool gathers);
// `last`: of the step's microbatches on this chunk, after which the chunk's gradients are complete.
SegmentId backward_segment(RoleContext& c, int chunk, const LayerBlocks& layers, BackwardPart part, bool last);
// A chunk's gradients, all at once.
SegmentId reduce_segment(RoleContext& c, int chunk);

// build_pairs.cpp: a forward segment with a backward one beside it, layer by layer in turn, so that the exchanges of
// tokens of either run behind the other's compute.
SegmentId paired_segment(RoleContext& c, SegmentId forward, SegmentId backward, const LayerBlocks& layers);

// build_units.cpp: parameters and gradients that are whole only while they are used, unit by unit: a layer, the
// embedding, the head.
// A unit's parameters from their parts, once compute is past all ops before; returns the op's position. `again`: for
// the backward.
int emit_unit_gather(RoleContext& c, BlockBuilder& b, Family f, bool again);
// At the begin of a block that uses a unit: its parameters are there.
void await_unit(RoleContext& c, BlockBuilder& b, Family f, Phase phase);
// The unit's gradients are cleared: its backward follows.
void clear_unit(RoleContext& c, BlockBuilder& b, Family f);
// A layer's: of what all have, and of its MLP or experts.
std::vector<Family> layer_unit(const RoleContext& c, bool more);
// The unit's gradients to their owners. `last`: of the step's microbatches; then across replicas, too.
BlockId reduce_unit(RoleContext& c, const std::vector<Family>& families, bool last);
// At the begin of a backward: what the backward before it left to reduce is on its way no more.
BlockId await_scattered(RoleContext& c);
// Gathers that run ahead of their uses in one segment.
class GathersAhead {
 public:
  // `units`: in the order of their use, those that are gathered; layers as role-local numbers, the head as kHeadUnit.
  static constexpr std::int32_t kHeadUnit = -1;
  GathersAhead(RoleContext& c, Segment& segment, std::vector<std::int32_t> units, bool again);
  // At the segment's begin, and before each use.
  void begin() { up_to(ahead_); }
  void before_use() { up_to(++used_ + ahead_); }

 private:
  void up_to(std::size_t count);
  RoleContext& c_;
  Segment& segment_;
  std::vector<std::int32_t> units_;
  std::map<std::pair<Family, bool>, BlockId> blocks_;  // of layers of either list
  bool again_;
  std::size_t ahead_, used_ = 0, gathered_ = 0;
};

}  // namespace foretrain::plan
