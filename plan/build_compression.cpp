// Gradients exchanged in fewer bytes. A bucket's code is written where compute has left its gradients, and is on its
// way while compute goes on to the next bucket; what comes back becomes gradients on the stream that brought it. The
// code is an all-reduce's operand in 16 bits, else an all-gather's: sums of codes are none.
#include <algorithm>
#include <cmath>

#include "plan/build_update.h"
#include "plan/workspace.h"

namespace foretrain::plan {

namespace {

// Of a layer of the family, or of all where it has none.
Code code_of_layer(const RoleContext& c, const ParameterFamily& f) {
  const Compression& how = c.job.strategy.compression;
  Code code;
  code.kind = how.kind == CompressionKind::int8 ? Coding::int8 : Coding::top_k;
  code.elements = f.elements;
  code.kept = how.kind == CompressionKind::int8
                  ? 0
                  : static_cast<std::int64_t>(std::ceil(how.share * static_cast<double>(f.elements)));
  code.dtype = c.type.gradient == Dtype::fp64 ? Dtype::fp64 : Dtype::fp32;
  return code;
}

BufferId family_buffer(RoleContext& c, const ParameterFamily& f, const char* what, Dtype dtype, std::int64_t elements,
                       BufferKind kind) {
  return c.builder.buffer(f.name + ".gradients." + what, dtype, elements, kind, Lifetime::persistent, f.layers,
                          f.layer_list);
}

// A code lies across the copies of its bucket's layers, which therefore have no gaps between them.
BufferId code_buffer(RoleContext& c, const ParameterFamily& f, Dtype dtype, std::int64_t bytes_of_layer) {
  return family_buffer(c, f, "code", dtype, align(bytes_of_layer) * 8 / bits(dtype), BufferKind::communication);
}

Code code_of(const RoleContext& c, const BucketRange& range) {
  Code code = code_of_layer(c, c.family(range.family));
  code.elements *= range.layers;
  code.kept *= range.layers;
  return code;
}

std::int32_t members_of(const RoleContext& c, Family f) {
  const PlanGraph& g = c.builder.graph();
  const GroupId group = c.data_group(f);
  return group == kNoGroup ? 1 : group_size(g.mesh, g.groups[static_cast<std::size_t>(group)]);
}

// What the members of a bucket have sent; as large as the largest one's: buckets follow each other on one stream.
Operand gathered_codes(RoleContext& c, std::int64_t bytes) {
  std::int64_t most = 0;
  for (const BucketRange& r : all_buckets(c, false)) {
    most = std::max(most, members_of(c, r.family) * code_of(c, r).bytes());
  }
  const BufferId id =
      c.builder.buffer("gradients.codes", Dtype::u8, most, BufferKind::communication, Lifetime::persistent);
  return {id, 0, kNoGroup, 0, bytes, 0};
}

int emit_coded(RoleContext& c, BlockBuilder& b, const ParameterFamily& f, const BucketRange& range, Operand gradient,
               Collective op) {
  const Code layer = code_of_layer(c, f), code = code_of(c, range);
  const Operand residual{family_buffer(c, f, "residual", layer.dtype, f.elements, BufferKind::optimizer_state),
                         0,
                         kNoGroup,
                         0,
                         code.elements,
                         0};
  const Operand own{code_buffer(c, f, Dtype::u8, layer.bytes()), 0, kNoGroup, 0, code.bytes(), 0};
  const std::int32_t members = members_of(c, range.family);
  b.emit(Encode{code, c.type.gradient}, kCompute, Phase::grad_reduce, {gradient, residual}, {own, residual});
  op.kind = CollectiveKind::all_gather;
  op.elements = members * code.bytes();
  op.dtype = Dtype::u8;
  const Operand all = gathered_codes(c, op.elements);
  b.emit(op, c.dp_stream(), Phase::grad_reduce, {own}, {all});
  return b.emit(Decode{code, members, c.type.gradient}, c.dp_stream(), Phase::grad_reduce, {all}, {gradient});
}

}  // namespace

int emit_compressed_reduce(RoleContext& c, BlockBuilder& b, const BucketRange& range) {
  const ParameterFamily& f = c.family(range.family);
  const Compression& how = c.job.strategy.compression;
  const Operand gradient{f.gradient, 0, kNoGroup, 0, f.elements * range.layers, 0};
  Collective op;
  op.kind = CollectiveKind::all_reduce;
  op.group = c.data_group(range.family);
  op.elements = gradient.elements;
  op.dtype = how.kind == CompressionKind::fp16 ? Dtype::fp16 : Dtype::bf16;
  op.tag = c.builder.tag("gradients.reduce." + f.name);
  if (how.is_coded()) {
    return emit_coded(c, b, f, range, gradient, op);
  }
  const Operand narrow{
      code_buffer(c, f, op.dtype, size_bytes(op.dtype, f.elements)), 0, kNoGroup, 0, gradient.elements, 0};
  b.emit(Cast{gradient.elements, c.type.gradient, op.dtype}, kCompute, Phase::grad_reduce, {gradient}, {narrow});
  b.emit(op, c.dp_stream(), Phase::grad_reduce, {narrow}, {narrow});
  return b.emit(Cast{gradient.elements, op.dtype, c.type.gradient}, c.dp_stream(), Phase::grad_reduce, {narrow},
                {gradient});
}

}  // namespace foretrain::plan
