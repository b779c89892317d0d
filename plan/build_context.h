// Sizes, buffers and parameters of one role while it is built. Used by build*.cpp only.
#pragma once

#include <string>
#include <vector>

#include "plan/job.h"
#include "plan/role_builder.h"

namespace foretrain::plan {

// Process groups of the mesh; kNoGroup where the group would have one member.
struct Groups {
  GroupId tp = kNoGroup;
  GroupId dp = kNoGroup;
  GroupId kv = kNoGroup;         // tp ranks that hold the same kv heads (kv_heads < tp)
  GroupId embedding = kNoGroup;  // first and last stage, when they share a tied embedding
  GroupId model = kNoGroup;      // pp and tp: all parts of one model replica
};

// Local extents on one rank of the role.
struct Extents {
  std::int64_t batch = 0, seq = 0;
  std::int64_t rows = 0;        // tokens of a microbatch
  std::int64_t shard_rows = 0;  // rows / tp under sequence parallelism, else rows
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

// One role under construction.
struct RoleContext {
  RoleContext(const Job& j, PlanGraph& g, Role& r, const Groups& gr, int stage_coordinate);

  const Job& job;
  const workloads::Model& model;
  RoleBuilder builder;
  Groups groups;
  int stage;  // pp coordinate
  int tp;
  bool sequence_parallel;
  bool first, last;        // holds the embedding / the head
  bool tied_here = false;  // embedding and head on this very role, one table
  Extents n;
  Dtypes type;
  std::vector<std::int32_t> chunk_first;  // role-local first layer of each chunk
  std::vector<std::int32_t> chunk_layers;
  bool head_in_slots = false;  // more than one microbatch between the head's forward and backward
  std::int32_t tensors = 0;

  Role& role() { return builder.role(); }
  const Role& role() const { return builder.role(); }
  std::int32_t max_chunk_layers() const;

  // Views of a parameter or of its gradient by name in a family ("attention.qkv.weight").
  Operand parameter(Family f, const std::string& name);
  Operand gradient(Family f, const std::string& name);
  bool has_parameter(Family f, const std::string& name) const;

  StreamId tp_stream() { return builder.stream("tp", StreamKind::collective, Axis::tp); }
  StreamId dp_stream() { return builder.stream("dp", StreamKind::collective, Axis::dp); }
  StreamId world_stream() { return builder.stream("world", StreamKind::collective, Axis::pp); }

  // Gradients of tensors that several tp ranks hold are summed (reduce_replicated); nobody records it where none is.
  EventId replicated_reduced() { return builder.event("replicated_reduced", Replicas::once); }
  bool reduces_replicated() const { return sequence_parallel || groups.kv != kNoGroup; }

  // Activation kept from forward to backward (a slot), or only inside a block when it is recomputed.
  BufferId saved(const std::string& name, Dtype dtype, std::int64_t elements, bool recomputed);
  BufferId temporary(const std::string& name, Dtype dtype, std::int64_t elements);
  // The head's activations: one copy when its backward follows its forward at once, else per slot.
  BufferId head_buffer(const std::string& name, Dtype dtype, std::int64_t elements);
  BufferId residual();           // x: the layers' inputs and the chunk's output
  BufferId residual_gradient();  // dy, in ring copies
};

// build_parameters.cpp: the families' layout, buffers and slices.
void add_parameters(RoleContext& c);

// build_collectives.cpp: tensor-parallel communication inside a block. Each returns the operand to go on with.
Operand gather_rows(RoleContext& c, BlockBuilder& b, Phase phase, Operand shard, const std::string& name);
Operand reduce_rows(RoleContext& c, BlockBuilder& b, Phase phase, Operand partial, const std::string& name);

// build_layer.cpp
BlockId layer_forward(RoleContext& c);
BlockId layer_backward(RoleContext& c, bool last_microbatch);

// build_ends.cpp
BlockId embedding_forward(RoleContext& c);
BlockId embedding_backward(RoleContext& c, bool last_microbatch);
BlockId head_forward(RoleContext& c);
BlockId head_backward(RoleContext& c, bool last_microbatch);
// Sums gradients of tensors that every tp rank holds but only saw its own rows of (sequence parallelism).
void reduce_replicated(RoleContext& c, BlockBuilder& b, Family f, const std::string& first_replicated);

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
