// Every field of the plan graph by name, once, for writing and reading: fields(archive, object) calls
// archive("name", object.member) for each. Enumerations go by their words. Used by dump_json*.cpp only.
#pragma once

#include <concepts>
#include <type_traits>

#include "plan/graph.h"
#include "plan/graph_words.h"

namespace foretrain::plan {

template <class T, class U>
concept Of = std::same_as<std::remove_const_t<T>, U>;

void fields(auto&, Of<Join> auto&) {}

void fields(auto& a, Of<RotaryFrequencies> auto& x) {
  a("base", x.base), a("factor", x.factor), a("low", x.low), a("high", x.high);
  a("original_positions", x.original_positions);
}

void fields(auto& a, Of<Matmul> auto& x) {
  a("m", x.m), a("n", x.n), a("k", x.k);
  a("trans_a", x.trans_a), a("trans_b", x.trans_b), a("bias", x.bias), a("accumulate", x.accumulate);
  a("in", x.in), a("out", x.out), a("epilogue", x.epilogue);
}

void fields(auto& a, Of<Attention> auto& x) {
  a("step", x.step), a("kind", x.kind), a("batch", x.batch), a("seq", x.seq), a("heads", x.heads);
  a("kv_heads", x.kv_heads), a("head_dim", x.head_dim), a("causal", x.causal), a("dtype", x.dtype);
  a("value_dim", x.value_dim), a("window", x.window), a("document", x.document);
  a("key_seq", x.key_seq), a("biased", x.biased), a("scaled", x.scaled), a("padded", x.padded);
}

void fields(auto& a, Of<AttentionSinks> auto& x) {
  a("direction", x.direction), a("batch", x.batch), a("seq", x.seq), a("heads", x.heads), a("v_dim", x.v_dim);
  a("head_group", x.head_group), a("dtype", x.dtype);
}

void fields(auto& a, Of<StateSpace> auto& x) {
  a("direction", x.direction), a("batch", x.batch), a("seq", x.seq), a("heads", x.heads), a("head_dim", x.head_dim);
  a("state", x.state), a("groups", x.groups), a("conv", x.conv), a("chunk", x.chunk), a("dtype", x.dtype);
}

void fields(auto& a, Of<Norm> auto& x) {
  a("direction", x.direction), a("kind", x.kind), a("rows", x.rows), a("cols", x.cols), a("eps", x.eps);
  a("dtype", x.dtype);
}

void fields(auto& a, Of<LatentHeads> auto& x) {
  a("direction", x.direction), a("batch", x.batch), a("seq", x.seq), a("heads", x.heads), a("nope_dim", x.nope_dim);
  a("rope_dim", x.rope_dim), a("v_dim", x.v_dim), fields(a, x.frequencies), a("dtype", x.dtype);
  a("seq_group", x.seq_group);
}

void fields(auto& a, Of<SplitColumns> auto& x) {
  a("direction", x.direction), a("rows", x.rows), a("left", x.left), a("right", x.right), a("dtype", x.dtype);
}

void fields(auto& a, Of<HeadNorm> auto& x) {
  a("direction", x.direction), a("rows", x.rows), a("heads", x.heads), a("kv_heads", x.kv_heads);
  a("head_dim", x.head_dim), a("eps", x.eps), a("dtype", x.dtype);
}

void fields(auto& a, Of<Activation> auto& x) {
  a("direction", x.direction), a("kind", x.kind), a("rows", x.rows), a("cols", x.cols), a("dtype", x.dtype);
}

void fields(auto& a, Of<ResidualAdd> auto& x) {
  a("rows", x.rows), a("cols", x.cols), a("bias", x.bias), a("dtype", x.dtype);
}

void fields(auto& a, Of<BiasGradient> auto& x) {
  a("rows", x.rows), a("cols", x.cols), a("dtype", x.dtype);
}

void fields(auto& a, Of<Rotary> auto& x) {
  a("direction", x.direction), a("batch", x.batch), a("seq", x.seq), a("heads", x.heads), a("kv_heads", x.kv_heads);
  a("head_dim", x.head_dim), a("rotary_dim", x.rotary_dim), fields(a, x.frequencies), a("dtype", x.dtype);
  a("seq_group", x.seq_group);
}

void fields(auto& a, Of<RelativeBias> auto& x) {
  a("direction", x.direction), a("heads", x.heads), a("seq", x.seq), a("buckets", x.buckets);
  a("max_distance", x.max_distance), a("bidirectional", x.bidirectional), a("dtype", x.dtype);
}

void fields(auto& a, Of<Embedding> auto& x) {
  a("direction", x.direction), a("tokens", x.tokens), a("hidden", x.hidden), a("rows", x.rows);
  a("vocab_group", x.vocab_group), a("dtype", x.dtype);
}

void fields(auto& a, Of<PositionAdd> auto& x) {
  a("direction", x.direction), a("rows", x.rows), a("hidden", x.hidden), a("seq", x.seq);
  a("row_group", x.row_group), a("dtype", x.dtype), a("seq_group", x.seq_group);
}

void fields(auto& a, Of<FirstTokens> auto& x) {
  a("direction", x.direction), a("sequences", x.sequences), a("seq", x.seq), a("rows", x.rows), a("hidden", x.hidden),
      a("row_group", x.row_group), a("dtype", x.dtype);
}

void fields(auto& a, Of<CrossEntropy> auto& x) {
  a("step", x.step), a("rows", x.rows), a("cols", x.cols), a("vocab", x.vocab), a("vocab_group", x.vocab_group);
  a("scale", x.scale), a("dtype", x.dtype), a("scaled", x.scaled);
}

void fields(auto& a, Of<Bucket> auto& x) {
  a("elements", x.elements), a("family", x.family), a("layers", x.layers), a("shard_group", x.shard_group);
  a("shards", x.shards);
}

void fields(auto& a, Of<SquaredNorm> auto& x) {
  a("bucket", x.bucket), a("piece_shards", x.piece_shards), a("dtype", x.dtype);
}

void fields(auto& a, Of<ClipCoefficient> auto& x) {
  a("tensors", x.tensors), a("clip", x.clip), a("scaled", x.scaled);
}

void fields(auto& a, Of<workloads::Optimizer> auto& x) {
  a("kind", x.kind), a("learning_rate", x.learning_rate), a("min_learning_rate", x.min_learning_rate);
  a("warmup_steps", x.warmup_steps), a("decay_steps", x.decay_steps), a("beta1", x.beta1), a("beta2", x.beta2);
  a("eps", x.eps), a("weight_decay", x.weight_decay), a("momentum", x.momentum), a("clip", x.clip);
  a("schedule", x.schedule);
}

void fields(auto& a, Of<workloads::Precision> auto& x) {
  a("word", x.word), a("compute", x.compute), a("parameter", x.parameter), a("gradient", x.gradient);
  a("state", x.state), a("rounding", x.rounding);
}

void fields(auto& a, Of<OptimizerStep> auto& x) {
  a("bucket", x.bucket), a("optimizer", x.optimizer), a("precision", x.precision);
}

void fields(auto& a, Of<Fill> auto& x) {
  a("elements", x.elements), a("dtype", x.dtype);
}
void fields(auto& a, Of<Accumulate> auto& x) {
  a("elements", x.elements), a("from", x.from), a("dtype", x.dtype);
}

void fields(auto& a, Of<Cast> auto& x) {
  a("elements", x.elements), a("from", x.from), a("to", x.to);
}

void fields(auto& a, Of<Code> auto& x) {
  a("kind", x.kind), a("elements", x.elements), a("kept", x.kept), a("dtype", x.dtype);
}

void fields(auto& a, Of<Encode> auto& x) {
  a("code", x.code), a("dtype", x.dtype);
}

void fields(auto& a, Of<Decode> auto& x) {
  a("code", x.code), a("parts", x.parts), a("dtype", x.dtype);
}

void fields(auto& a, Of<OuterOptimizer> auto& x) {
  a("kind", x.kind), a("learning_rate", x.learning_rate), a("momentum", x.momentum);
}

void fields(auto& a, Of<OuterStep> auto& x) {
  a("elements", x.elements), a("replicas", x.replicas), a("outer", x.outer), a("weights", x.weights);
  a("anchor", x.anchor), a("parameter", x.parameter), a("has_master", x.has_master);
}

void fields(auto& a, Of<SumParts> auto& x) {
  a("elements", x.elements), a("parts", x.parts), a("accumulate", x.accumulate), a("dtype", x.dtype);
}

void fields(auto& a, Of<Collective> auto& x) {
  a("kind", x.kind), a("group", x.group), a("elements", x.elements), a("dtype", x.dtype);
  a("reduction", x.reduction), a("tag", x.tag), a("row", x.row), a("root", x.root);
}

void fields(auto& a, Of<Gate> auto& x) {
  a("direction", x.direction), a("tokens", x.tokens), a("experts", x.experts), a("top_k", x.top_k);
  a("groups", x.groups), a("top_groups", x.top_groups), a("group_best", x.group_best), a("router", x.router),
      a("normalize", x.normalize);
  a("scale", x.scale), a("balance", x.balance), a("parts", x.parts), a("dtype", x.dtype);
}

void fields(auto& a, Of<Route> auto& x) {
  a("step", x.step), a("rows", x.rows), a("experts", x.experts), a("members", x.members), a("capacity", x.capacity);
}

void fields(auto& a, Of<Permute> auto& x) {
  a("direction", x.direction), a("rows", x.rows), a("copies", x.copies), a("cols", x.cols), a("dtype", x.dtype);
}

void fields(auto& a, Of<GroupedMatmul> auto& x) {
  a("direction", x.direction), a("experts", x.experts), a("rows", x.rows), a("out_features", x.out_features);
  a("in_features", x.in_features), a("in", x.in), a("out", x.out);
}

void fields(auto& a, Of<ExpertActivation> auto& x) {
  a("direction", x.direction), a("kind", x.kind), a("experts", x.experts), a("rows", x.rows), a("cols", x.cols);
  a("dtype", x.dtype);
}

void fields(auto& a, Of<ExpertBias> auto& x) {
  a("direction", x.direction), a("experts", x.experts), a("rows", x.rows), a("cols", x.cols);
  a("weighted", x.weighted), a("scale", x.scale), a("dtype", x.dtype);
}

void fields(auto& a, Of<OutputLoss> auto& x) {
  a("direction", x.direction), a("kind", x.kind), a("rows", x.rows), a("cols", x.cols), a("scale", x.scale);
  a("dtype", x.dtype), a("scaled", x.scaled);
}

void fields(auto& a, Of<LambUpdate> auto& x) {
  a("bucket", x.bucket), a("optimizer", x.optimizer), a("precision", x.precision);
}

void fields(auto& a, Of<workloads::LossScaling> auto& x) {
  a("initial", x.initial), a("growth", x.growth), a("backoff", x.backoff), a("interval", x.interval);
  a("limit", x.limit);
}

void fields(auto& a, Of<LossScale> auto& x) {
  a("step", x.step), a("scaling", x.scaling);
}

void fields(auto& a, Of<Message> auto& x) {
  a("send", x.send), a("axis", x.axis), a("peer", x.peer), a("elements", x.elements), a("dtype", x.dtype);
  a("tag", x.tag), a("relative", x.relative);
}

void fields(auto& a, Of<Exchange> auto& x) {
  a("messages", x.messages);
}
void fields(auto& a, Of<Copy> auto& x) {
  a("kind", x.kind), a("bytes", x.bytes);
}
void fields(auto& a, Of<Masking> auto& x) {
  a("count", x.count), a("token", x.token), a("vocab", x.vocab);
}
void fields(auto& a, Of<SequencePart> auto& x) {
  a("length", x.length), a("first", x.first), a("start", x.start);
}
void fields(auto& a, Of<Host> auto& x) {
  a("task", x.task), a("sequences", x.sequences), a("seq", x.seq), a("seq_group", x.seq_group);
  a("masking", x.masking), a("cols", x.cols), a("dtype", x.dtype), a("part", x.part);
  a("bytes", x.bytes), a("loaders", x.loaders), a("prefetch", x.prefetch), a("for_rank", x.for_rank);
}
void fields(auto& a, Of<Channel> auto& x) {
  a("step", x.step), a("group", x.group), a("root", x.root), a("elements", x.elements), a("dtype", x.dtype);
  a("tag", x.tag), a("staleness", x.staleness), a("in_turn", x.in_turn);
}

void fields(auto& a, Of<RingAttention> auto& x) {
  a("step", x.step), a("kind", x.kind), a("batch", x.batch), a("seq", x.seq), a("heads", x.heads);
  a("kv_heads", x.kv_heads), a("head_dim", x.head_dim), a("group", x.group), a("parts", x.parts);
  a("distance", x.distance), a("accumulate", x.accumulate), a("dtype", x.dtype), a("window", x.window);
  a("v_dim", x.v_dim), a("document", x.document), a("causal", x.causal);
}

void fields(auto& a, Of<Reshard> auto& x) {
  a("step", x.step), a("batch", x.batch), a("seq", x.seq), a("q", x.q), a("k", x.k), a("v", x.v), a("parts", x.parts);
  a("dtype", x.dtype);
}

void fields(auto& a, Of<Operand> auto& x) {
  a("buffer", x.buffer), a("layer_delta", x.layer_delta), a("rank_group", x.rank_group), a("offset", x.offset);
  a("elements", x.elements), a("rank_stride", x.rank_stride);
}

void fields(auto& a, Of<Guard> auto& x) {
  a("scalar", x.scalar);
}

void fields(auto& a, Of<Op> auto& x) {
  a("work", x.work), a("stream", x.stream), a("phase", x.phase), a("after", x.after), a("waits", x.waits);
  a("records", x.records), a("reads", x.reads), a("writes", x.writes), a("guard", x.guard);
  a("runtime_extent", x.runtime_extent);
}

void fields(auto& a, Of<Stream> auto& x) {
  a("name", x.name), a("kind", x.kind), a("axis", x.axis), a("experts", x.experts);
}

void fields(auto& a, Of<Buffer> auto& x) {
  a("name", x.name), a("dtype", x.dtype), a("elements", x.elements), a("kind", x.kind), a("lifetime", x.lifetime);
  a("layers", x.layers), a("wraps", x.wraps), a("layer_list", x.layer_list);
}

void fields(auto& a, Of<Event> auto& x) {
  a("name", x.name), a("replicas", x.replicas);
}
void fields(auto& a, Of<Block> auto& x) {
  a("name", x.name), a("ops", x.ops);
}

void fields(auto& a, Of<BlockCall> auto& x) {
  a("block", x.block), a("count", x.count), a("first", x.first), a("step", x.step);
  a("beside", x.beside);
}

void fields(auto& a, Of<Segment> auto& x) {
  a("name", x.name), a("chunk", x.chunk), a("first_layer", x.first_layer), a("calls", x.calls);
  a("beside_chunk", x.beside_chunk), a("beside_first_layer", x.beside_first_layer);
}

void fields(auto& a, Of<InstanceSide> auto& x) {
  a("microbatch", x.microbatch), a("slot", x.slot), a("ring", x.ring), a("hold", x.hold);
}
void fields(auto& a, Of<Instance> auto& x) {
  a("segment", x.segment), a("microbatch", x.microbatch), a("slot", x.slot), a("hold", x.hold);
  a("ring", x.ring), a("beside", x.beside), a("every", x.every);
}

void fields(auto& a, Of<Program> auto& x) {
  a("prologue", x.prologue), a("body", x.body), a("epilogue", x.epilogue), a("evaluation", x.evaluation);
}

void fields(auto& a, Of<Slice> auto& x) {
  a("local_row", x.local_row), a("global_row", x.global_row), a("rows", x.rows), a("global_col", x.global_col);
  a("replica", x.replica);
}

void fields(auto& a, Of<Parameter> auto& x) {
  a("name", x.name), a("offset", x.offset), a("rows", x.rows), a("cols", x.cols), a("global_rows", x.global_rows);
  a("global_cols", x.global_cols), a("init", x.init), a("init_std", x.init_std), a("decay", x.decay);
  a("counted", x.counted), a("first_tensor", x.first_tensor), a("tensor_stride", x.tensor_stride);
  a("slices", x.slices);
}

void fields(auto& a, Of<ParameterFamily> auto& x) {
  a("name", x.name), a("elements", x.elements), a("layers", x.layers), a("parameter", x.parameter);
  a("gradient", x.gradient), a("master", x.master), a("m", x.m), a("v", x.v), a("parameters", x.parameters);
  a("layer_list", x.layer_list), a("data_group", x.data_group), a("slice_group", x.slice_group);
}

void fields(auto& a, Of<Placement> auto& x) {
  a("offset", x.offset), a("layer_stride", x.layer_stride), a("copy_stride", x.copy_stride);
}

void fields(auto& a, Of<MemoryPlan> auto& x) {
  a("placements", x.placements), a("arena", x.arena), a("persistent", x.persistent), a("slots", x.slots);
  a("holds", x.holds), a("rings", x.rings), a("workspace", x.workspace), a("by_kind", x.by_kind), a("host", x.host);
}

void fields(auto& a, Of<AxisRange> auto& x) {
  a("axis", x.axis), a("first", x.first), a("count", x.count);
}
void fields(auto& a, Of<RankSet> auto& x) {
  a("fixed", x.fixed);
}

void fields(auto& a, Of<Role> auto& x) {
  a("name", x.name), a("ranks", x.ranks), a("streams", x.streams), a("buffers", x.buffers), a("events", x.events);
  a("parameter_families", x.parameter_families), a("blocks", x.blocks), a("segments", x.segments);
  a("program", x.program), a("global_layer", x.global_layer), a("layer_lists", x.layer_lists), a("slots", x.slots),
      a("holds", x.holds);
  a("rings", x.rings);
  a("loss", x.loss), a("logits", x.logits), a("grad_norm", x.grad_norm), a("loss_scale", x.loss_scale);
  a("turns", x.turns), a("memory", x.memory);
}

void fields(auto& a, Of<AxisSpan> auto& x) {
  a("axis", x.axis), a("block", x.block), a("only", x.only), a("stride", x.stride);
}
void fields(auto& a, Of<Group> auto& x) {
  a("name", x.name), a("spans", x.spans), a("weights", x.weights);
}
void fields(auto& a, Of<Mesh> auto& x) {
  a("order", x.order), a("extent", x.extent), a("beside", x.beside);
}

void fields(auto& a, Of<RuntimeExtent> auto& x) {
  a("name", x.name), a("maximum", x.maximum), a("source", x.source), a("mean", x.mean), a("stddev", x.stddev),
      a("group", x.group);
}

void fields(auto& a, Of<DataSet> auto& x) {
  a("sequences", x.sequences), a("per_epoch", x.per_epoch), a("kept", x.kept), a("stays", x.stays);
  a("bytes_per_sequence", x.bytes_per_sequence);
}

void fields(auto& a, Of<PlanGraph> auto& x) {
  a("name", x.name), a("mesh", x.mesh), a("groups", x.groups), a("tags", x.tags);
  a("runtime_extents", x.runtime_extents), a("roles", x.roles), a("tensors", x.tensors);
  a("servers", x.servers), a("loader_ranks", x.loader_ranks), a("asynchronous", x.asynchronous),
      a("elastic", x.elastic);
  a("data", x.data), a("sequences_per_step", x.sequences_per_step), a("seq_len", x.seq_len), a("told_len", x.told_len);
  a("microbatches", x.microbatches), a("microbatches_of", x.microbatches_of);
}

}  // namespace foretrain::plan
