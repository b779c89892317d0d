// The plan graph: which rank computes, sends and stores what in a training step. One graph is simulated and executed.
//
// The contract:
//  - The graph holds one program per role: a set of ranks with the same instruction stream and the same shapes. A rank
//    is a role plus mesh coordinates.
//  - Nothing is expanded. A program is a list of segment instances (segment, microbatch, slot); a segment is a list of
//    block calls (block, count over layers); a block is a list of ops. Consumers iterate with ProgramCursor (cursor.h).
//    An op's id is (role, instance, position), where position counts ops inside the instance.
//  - The body repeats per step; of its instances some may run in every so manieth step only (Instance::every).
//  - Program order is the order of iteration. Ops of one stream run in program order; beyond that only dependencies
//    order them: `after` (earlier ops of the same block call) and events. An op that waits for an event waits for the
//    latest record of that event earlier in program order, through the end of the previous step if need be; an event
//    never recorded before is signalled. A dependency one step back is nothing else than this.
//  - A collective appears once per member rank and starts when every member has reached it. A send and its receive meet
//    the same way and block no other stream. They carry a match key (tag, layer, microbatch), equal on all their ranks.
//  - A buffer's address is affine in layer and slot (memory.h). Persistent buffers live across steps.
//  - Nothing in the graph is a duration.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "plan/mesh.h"
#include "plan/ops.h"

namespace foretrain::plan {

using BufferId = std::int16_t;
using StreamId = std::int8_t;
using EventId = std::int16_t;
using BlockId = std::int16_t;
using SegmentId = std::int16_t;

inline constexpr StreamId kCompute = 0;  // every role's stream 0

enum class StreamKind : std::uint8_t { compute, collective, point_to_point, copy, host };
std::string_view name(StreamKind k);
struct Stream {
  std::string name;  // "compute", "tp", "dp", "act_in", …
  StreamKind kind{};
  Axis axis = Axis::tp;  // whose communication it carries (collective, point_to_point)
  bool experts = false;  // between the ranks that hold different experts
};

enum class BufferKind : std::uint8_t {
  parameter,
  gradient,
  optimizer_state,
  activation,
  communication,
  workspace,
  input,
  host  // in the memory of the device's host: no part of the arena
};
inline constexpr int kBufferKinds = 7;  // of a device's memory: all but host
std::string_view name(BufferKind k);

// How long a buffer's content lives, and so how many copies there are.
enum class Lifetime : std::uint8_t {
  persistent,  // across steps; one copy (per layer)
  slot,        // from a microbatch's forward to the end of its backward, or of its input gradient; Role::slots copies
  hold,        // from a microbatch's forward to the end of its weight gradient; Role::holds copies
  ring,        // from the beginning of a microbatch's backward to its end, or its weight gradient's; Role::rings copies
  segment,     // inside one segment instance
  block,       // inside one block call iteration
};
std::string_view name(Lifetime l);
inline constexpr bool has_copies(Lifetime l) {
  return l == Lifetime::slot || l == Lifetime::hold || l == Lifetime::ring;
}

struct Buffer {
  std::string name;
  Dtype dtype = Dtype::fp32;
  std::int64_t elements = 0;  // of one copy (of one layer, if per_layer)
  BufferKind kind{};
  Lifetime lifetime{};
  // 0: not per layer. Else how many layer copies: role-local layers for persistent buffers; for slot, hold, ring and
  // segment buffers layers of a chunk, counted from the segment's first layer.
  std::int32_t layers = 0;
  // Fewer copies than layers, used in turn: layer l lies in copy l mod `layers`.
  bool wraps = false;
  std::int32_t layer_list = -1;  // which layers have copies (Role::layer_lists); -1: all
};

// `elements` of a buffer from `offset` on, in the copy of this instance's slot, hold or ring and layer + layer_delta;
// with rank_group, further on by index_in_group * rank_stride elements. May run over several layers' copies (buckets).
struct Operand {
  BufferId buffer = -1;
  std::int16_t layer_delta = 0;
  GroupId rank_group = kNoGroup;
  std::int64_t offset = 0;
  std::int64_t elements = 0;
  std::int64_t rank_stride = 0;
};

enum class Replicas : std::uint8_t { once, per_slot, per_ring, per_layer };
std::string_view name(Replicas r);
struct Event {
  std::string name;
  Replicas replicas = Replicas::once;
};

// An extent known only at run time (tokens per expert): the op's shapes hold the maximum.
struct RuntimeExtent {
  std::string name;
  std::int64_t maximum = 0;
  std::string source;           // name of the buffer that holds the value
  double mean = 0, stddev = 0;  // for the simulator, over the ranks of `group`
  GroupId group = kNoGroup;     // whose ranks have values of their own, and wait for the greatest
};

// The op runs only while this device scalar is not zero.
struct Guard {
  Operand scalar;
};

struct Op {
  Work work;
  StreamId stream = kCompute;
  Phase phase = Phase::forward;
  std::vector<std::uint16_t> after;  // positions in the same block of earlier ops, on other streams
  std::vector<EventId> waits;
  std::vector<EventId> records;
  std::vector<Operand> reads, writes;
  std::optional<Guard> guard;
  std::int16_t runtime_extent = -1;  // index in PlanGraph::runtime_extents bounding the op's first extent
};

struct Block {
  std::string name;
  std::vector<Op> ops;
};

// `count` iterations of a block at role-local layers first, first + step, …; count 1 and first -1 for no layer.
struct BlockCall {
  BlockId block = -1;
  std::int32_t count = 1;
  std::int32_t first = -1;
  std::int32_t step = 1;
  bool beside = false;  // for the instance's second microbatch
};

struct Segment {
  std::string name;              // "F0", "B0", "B0.last", "update", …
  std::int32_t chunk = -1;       // -1: no chunk (update)
  std::int32_t first_layer = 0;  // role-local layer of the chunk's first
  std::vector<BlockCall> calls;
  // Of calls that are `beside`: a segment may run a forward and a backward of two microbatches in turn.
  std::int32_t beside_chunk = -1, beside_first_layer = 0;

  std::int32_t chunk_of(bool beside) const { return beside ? beside_chunk : chunk; }
  std::int32_t first_layer_of(bool beside) const { return beside ? beside_first_layer : first_layer; }
};

// A microbatch, and the copies of buffers that it has.
struct InstanceSide {
  std::int32_t microbatch = -1;
  std::int32_t slot = -1, ring = -1, hold = -1;
  // Of a lifetime that has copies.
  std::int32_t copy(Lifetime l) const { return l == Lifetime::slot ? slot : l == Lifetime::hold ? hold : ring; }
};

struct Instance {
  SegmentId segment = -1;
  std::int32_t microbatch = -1;
  std::int32_t slot = -1, ring = -1, hold = -1;
  std::optional<InstanceSide> beside = {};  // of the segment's calls that are `beside`
  std::int32_t every = 1;                   // of the body: runs in the last of so many steps, and not in the others

  bool runs_in(std::int32_t step) const { return (step + 1) % every == 0; }
  InstanceSide side(bool is_beside) const {
    return is_beside ? beside.value_or(InstanceSide{}) : InstanceSide{microbatch, slot, ring, hold};
  }
};

struct Program {
  std::vector<Instance> prologue, body, epilogue;  // the body repeats per step
  // Forward only, over one batch: the loss of the parameters as they are. Runs between steps, on the same buffers.
  std::vector<Instance> evaluation;
};

// Where rows of a local tensor lie in the global one. Sharded rows (column-parallel) or columns (row-parallel).
struct Slice {
  std::int64_t local_row = 0, global_row = 0, rows = 0;
  std::int64_t global_col = 0;  // the local tensor holds columns [global_col, global_col + cols)
  std::int32_t replica = 0;     // > 0: another rank of the tp group holds the same rows and counts them
};

enum class Init : std::uint8_t { normal, zeros, ones };
std::string_view name(Init i);

// A parameter tensor in its family's flat layout. Slices depend on the index in the family's slice_group.
struct Parameter {
  std::string name;                 // "layers.{}.attention.qkv.weight"; {} is the global layer
  std::int64_t offset = 0;          // elements from the start of the layer's flat range
  std::int64_t rows = 0, cols = 0;  // local shape; a vector is rows x 1
  std::int64_t global_rows = 0, global_cols = 0;
  Init init = Init::normal;
  double init_std = 0.02;
  bool decay = true;
  bool counted = true;  // false: a copy whose original counts in the norm (tied head on the last stage)
  std::int32_t first_tensor = 0, tensor_stride = 0;  // global tensor = first_tensor + global layer * tensor_stride
  std::vector<std::vector<Slice>> slices;
};

// Flat storage of all tensors of a layer (or of the embedding, or of the head): same layout in every buffer.
struct ParameterFamily {
  std::string name;           // "embedding", "layer", "head", "mlp", "moe", "experts"
  std::int64_t elements = 0;  // of one layer, padded so that shards divide it
  std::int32_t layers = 0;    // 0: not per layer
  BufferId parameter = -1, gradient = -1, master = -1, m = -1, v = -1;
  std::vector<Parameter> parameters;
  std::int32_t layer_list = -1;    // which layers have copies (Role::layer_lists); -1: all
  GroupId data_group = kNoGroup;   // ranks that hold the same elements, always or now and then (local SGD)
  GroupId slice_group = kNoGroup;  // ranks that hold different slices; kNoGroup: slices[0] is everybody's
};

// Bytes from the arena's start; address = offset + layer * layer_stride + copy * copy_stride (all in bytes).
struct Placement {
  std::int64_t offset = 0, layer_stride = 0, copy_stride = 0;
};
struct MemoryPlan {
  std::vector<Placement> placements;  // by BufferId
  Bytes arena;                        // what the executor allocates: the peak
  Bytes persistent, slots, holds, rings, workspace;
  Bytes by_kind[kBufferKinds];  // sums to arena (alignment counts as workspace)
  Bytes host;                   // of host buffers; their offsets begin where the arena ends
};

// Coordinates first, first + 1, … first + count - 1 along an axis; of dp perhaps of ranks beside the mesh.
struct AxisRange {
  Axis axis{};
  int first = 0, count = 1;
};
// The ranks that lie in all of these ranges.
struct RankSet {
  std::vector<AxisRange> fixed;
};
// All of the mesh's, where none is given.
AxisRange along(const Mesh& mesh, const RankSet& set, Axis axis);
bool contains(const Mesh& mesh, const RankSet& set, Rank r);
Rank first_rank(const Mesh& mesh, const RankSet& set);
std::int64_t count(const Mesh& mesh, const RankSet& set);

struct Role {
  std::string name;  // "stage 0"
  RankSet ranks;
  std::vector<Stream> streams;
  std::vector<Buffer> buffers;
  std::vector<Event> events;
  std::vector<ParameterFamily> parameter_families;
  std::vector<Block> blocks;
  std::vector<Segment> segments;
  Program program;
  std::vector<std::int32_t> global_layer;  // by role-local layer
  // Where layers differ, those of a kind: role-local, rising. Their copies of a buffer lie one behind the other.
  std::vector<std::vector<std::int32_t>> layer_lists;
  std::int32_t slots = 0, holds = 0, rings = 0;
  // Of a buffer of this lifetime, its layers' copies counted as one.
  std::int32_t copies(Lifetime l) const {
    return l == Lifetime::slot ? slots : l == Lifetime::hold ? holds : l == Lifetime::ring ? rings : 1;
  }
  BufferId loss = -1;        // fp64 scalar, valid after a step (or evaluation) where this role computes a loss
  BufferId logits = -1;      // [rows, padded local vocabulary] where this role has the head, and all of them at once
  BufferId grad_norm = -1;   // fp64[2]: clip coefficient, gradient norm
  BufferId loss_scale = -1;  // LossScale's state, where losses are scaled
  BufferId turns = -1;       // fp64 per worker, of who updates for each by itself: how many of its updates are made
  MemoryPlan memory;
};

// What ranks read over and over, and how much of it a node keeps in its memory.
struct DataSet {
  std::int64_t sequences = 0;           // 0: nobody has said
  std::int64_t per_epoch = 0;           // of them in whole steps, where those left over are skipped; else all
  std::int64_t kept = 0;                // by each node, at most
  std::int64_t bytes_per_sequence = 0;  // of storage
  bool stays = false;                   // each rank reads in every epoch what it read in the first
};

struct PlanGraph {
  std::string name;
  Mesh mesh;
  std::vector<Group> groups;
  std::vector<std::string> tags;  // match keys' first part
  std::vector<RuntimeExtent> runtime_extents;
  std::vector<Role> roles;
  std::int32_t tensors = 0;  // global parameter tensors
  // Ranks beside the mesh: such as hold parameters and see no data; and behind these such as read what the others train
  // on, and send it to them.
  std::int32_t servers = 0, loader_ranks = 0;
  // Those with data do not wait for each other: of a step's loss the reported part is that of the first one's samples.
  bool asynchronous = false;
  bool elastic = false;                                   // of these some may be lost on the way
  int data_ranks() const { return mesh.size(Axis::dp); }  // that share out a batch
  std::int64_t sequences_per_step = 0, seq_len = 0;  // seq_len: of a sequence as data, both sides of an encoder_decoder
  // Of these the last so many are told (and have logits), of a classifier's one; 0: all.
  std::int64_t told_len = 0;
  std::int32_t microbatches = 0;  // of each rank that shares out a batch; the most of any, where they differ
  DataSet data;
  std::vector<std::int32_t> microbatches_of;  // where they differ, by coordinate along dp: the last ones of that many

  // Of all ranks together; and those of the step's batch that come before a rank's.
  std::int64_t all_microbatches() const;
  std::int64_t microbatches_before(int data_rank, std::int32_t microbatch) const;
};

// Which of its copies a buffer with layers has for a role-local layer in a segment that begins at `first_layer`, so
// many copies further on; -1 where there is no such list of layers. May be past its copies: validate() finds that.
std::int32_t layer_copy(const Role& role, const Buffer& buffer, std::int32_t layer, std::int32_t first_layer,
                        std::int32_t delta);
// Copies of a list's layers before a role-local layer; and back: the layer of a copy.
std::int32_t copies_before(const Role& role, std::int32_t layer_list, std::int32_t layer);
std::int32_t layer_of_copy(const Role& role, std::int32_t layer_list, std::int32_t copy);

// The first microbatch of the ranks of a role that sees data.
std::int32_t first_microbatch(const Role& role);

// Steps after which all is as it was: the greatest Instance::every.
std::int32_t period(const PlanGraph& graph);

// Role index of a rank.
int role_of(const PlanGraph& graph, Rank r);

// (role, instance, position): instance counts prologue, body, epilogue, evaluation in a row; position counts ops in the
// instance.
struct OpId {
  std::int32_t role = -1, instance = -1, position = -1;
  friend auto operator<=>(const OpId&, const OpId&) = default;
};

}  // namespace foretrain::plan
