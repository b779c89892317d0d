// Sizes, buffers and parameters of one role while it is built. Used by build*.cpp only.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plan/job.h"
#include "plan/role_builder.h"
#include "plan/schedule.h"

namespace foretrain::plan {

// Process groups of the mesh; kNoGroup where the group would have one member.
struct Groups {
  GroupId tp = kNoGroup;
  GroupId dp = kNoGroup;  // all ranks with the same parameters: dp, and cp where it cuts sequences
  GroupId cp = kNoGroup;
  GroupId kv = kNoGroup;         // tp ranks that hold the same kv heads (kv_heads < tp)
  GroupId embedding = kNoGroup;  // first and last stage, when they share a tied embedding
  GroupId model = kNoGroup;      // pp and tp: all parts of one model replica
};

// Local extents on one rank of the role.
struct Extents {
  std::int64_t batch = 0, seq = 0;  // seq: of this rank's share of a sequence
  std::int64_t rows = 0;            // tokens of a microbatch
  std::int64_t shard_rows = 0;      // rows / tp under sequence parallelism, else rows
  std::int64_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, q = 0, kv = 0, qkv = 0;
  std::int64_t ffn = 0;     // columns of the activation's output
  std::int64_t ffn_in = 0;  // of its input (twice ffn when gated)
  std::int64_t vocab = 0;   // padded, local
};

struct Dtypes {
  Dtype matmul{};  // what matmuls compute in
  Dtype activation{};
  Dtype parameter{}, gradient{}, state{};
  Dtype statistic{};  // norm statistics, log-sum-exp, loss terms
};

enum Family : std::int16_t { kEmbedding = 0, kLayer = 1, kHead = 2 };

// What a layer's, or the head's, backward is emitted as: whole, or one half of it. Whose weight gradients are put off
// (as in the zero-bubble papers' code): the matmuls'. Norms, biases, positions and the embedding table get theirs with
// the input gradient, which needs the same operands.
enum class BackwardPart : std::uint8_t { whole, input, weight };
std::string_view suffix(BackwardPart part);  // of names

// A pipeline rank's part of the schedule.
struct PipelineRow {
  const std::vector<Action>& actions;
  const std::vector<std::int32_t>& rank_of_stage;  // by virtual stage
};

// One role under construction.
struct RoleContext {
  RoleContext(const Job& j, PlanGraph& g, Role& r, const Groups& gr, int stage_coordinate, const PipelineRow& row);

  const Job& job;
  const workloads::Model& model;
  RoleBuilder builder;
  Groups groups;
  int stage;  // pp coordinate
  const std::vector<std::int32_t>& rank_of_stage;
  int tp;
  bool sequence_parallel;
  bool all_to_all;         // cp: attention has whole sequences of a share of the heads
  bool first, last;        // holds the embedding / the head
  bool splits;             // has backwards in two halves: what the later half reads is kept until then
  bool tied_here = false;  // embedding and head on this very role, one table
  Extents n;
  Dtypes type;
  std::vector<std::int32_t> chunk_first;  // role-local first layer of each chunk
  std::vector<std::int32_t> chunk_layers;
  std::vector<std::int32_t> chunk_stage;                           // its virtual stage
  std::map<std::string, std::map<int, std::string>> peer_streams;  // by direction and neighbour
  bool head_in_slots = false;  // more than one microbatch between the head's forward and backward
  std::int32_t tensors = 0;

  Role& role() { return builder.role(); }
  const Role& role() const { return builder.role(); }
  std::int32_t max_chunk_layers() const;
  std::size_t chunk_of(std::int32_t virtual_stage) const;

  // Views of a parameter or of its gradient by name in a family ("attention.qkv.weight").
  Operand parameter(Family f, const std::string& name);
  Operand gradient(Family f, const std::string& name);
  bool has_parameter(Family f, const std::string& name) const;

  StreamId tp_stream() { return builder.stream("tp", StreamKind::collective, Axis::tp); }
  StreamId dp_stream() { return builder.stream("dp", StreamKind::collective, Axis::dp); }
  StreamId world_stream() { return builder.stream("world", StreamKind::collective, Axis::pp); }

  // Gradients of tensors that several tp ranks hold are summed (reduce_replicated); nobody records it where none is:
  // without layers and a head, in a stage of the embedding alone, positions are all that could be.
  EventId replicated_reduced() { return builder.event("replicated_reduced", Replicas::once); }
  bool reduces_replicated() const;

  // Activation kept from forward to backward (a slot), or only inside a block when it is recomputed.
  BufferId saved(const std::string& name, Dtype dtype, std::int64_t elements, bool recomputed);
  // One that weight gradients read.
  BufferId saved_for_weights(const std::string& name, Dtype dtype, std::int64_t elements, bool recomputed);
  BufferId temporary(const std::string& name, Dtype dtype, std::int64_t elements);
  // The head's activations: one copy when its backward follows its forward at once, else per slot.
  BufferId head_buffer(const std::string& name, Dtype dtype, std::int64_t elements);
  BufferId residual();  // x: the layers' inputs and the chunk's output
  // From a layer's input gradient to its weight gradient, per layer in ring copies; inside a block where nothing is
  // split.
  BufferId kept(const std::string& name, Dtype dtype, std::int64_t elements);
  // The gradient of x, in ring copies. One that runs down the layers in place; of all layers, as x itself, where weight
  // gradients read it later and have no gathered copy.
  BufferId residual_gradient();
  bool keeps_residual_gradients() const { return splits && !sequence_parallel; }
  // What the backward of a chunk of so many layers begins with, and what it ends with.
  Operand gradient_in(int layers) {
    return builder.whole(residual_gradient(), keeps_residual_gradients() ? layers : 0);
  }
  Operand gradient_out() { return builder.whole(residual_gradient()); }
};

// build_parameters.cpp: the families' layout, buffers and slices.
void add_parameters(RoleContext& c);

// build_collectives.cpp: tensor-parallel communication inside a block. Each returns the operand to go on with.
Operand gather_rows(RoleContext& c, BlockBuilder& b, Phase phase, Operand shard, const std::string& name);
void gather_rows_into(RoleContext& c, BlockBuilder& b, Phase phase, Operand shard, Operand full,
                      const std::string& name);
Operand reduce_rows(RoleContext& c, BlockBuilder& b, Phase phase, Operand partial, const std::string& name);

// build_layer.cpp
BlockId layer_forward(RoleContext& c);
// The last microbatch's weight gradients are complete.
BlockId layer_backward(RoleContext& c, BackwardPart part, bool last_microbatch);

// build_ends.cpp
BlockId embedding_forward(RoleContext& c);
BlockId embedding_backward(RoleContext& c, bool last_microbatch);
// What is left once all gradients of the embedding, and of a head tied to it, are there.
void finish_embedding(RoleContext& c, BlockBuilder& b);
BlockId head_forward(RoleContext& c);
BlockId head_backward(RoleContext& c, BackwardPart part, bool last_microbatch);
// Sums gradients of tensors that every tp rank holds but only saw its own rows of (sequence parallelism).
void reduce_replicated(RoleContext& c, BlockBuilder& b, Family f, const std::string& first_replicated);

// build_segments.cpp: a chunk's forward and backward, between its neighbours in the pipeline.
// Layer blocks are the same for all chunks of a role.
class LayerBlocks {
 public:
  LayerBlocks(RoleContext& c, const std::vector<BackwardPart>& parts);
  BlockId forward() const { return forward_; }
  BlockId backward(BackwardPart part, bool last) const { return backward_.at({part, last}); }

 private:
  BlockId forward_ = -1;
  std::map<std::pair<BackwardPart, bool>, BlockId> backward_;
};
SegmentId forward_segment(RoleContext& c, int chunk, const LayerBlocks& layers);
// `last`: of the step's microbatches on this chunk, after which the chunk's gradients are complete.
SegmentId backward_segment(RoleContext& c, int chunk, const LayerBlocks& layers, BackwardPart part, bool last);

// build_update.cpp: buckets, gradient reduction, norm, optimizer.
struct BucketRange {
  Family family{};
  std::int32_t first_layer = 0, layers = 1;  // role-local; 0, 1 for families without layers
};
std::vector<BucketRange> chunk_buckets(const RoleContext& c, int chunk);  // top layer first
BlockId reduce_bucket(RoleContext& c, const BucketRange& range);
SegmentId begin_segment(RoleContext& c);
SegmentId update_segment(RoleContext& c);
SegmentId evaluation_begin_segment(RoleContext& c);
SegmentId evaluation_end_segment(RoleContext& c);

}  // namespace foretrain::plan
