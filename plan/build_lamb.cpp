// LAMB (You et al. 2020, arXiv:1904.00962) takes each tensor's step as long as its weights are: between the update that
// the moments give and the step stand sums of squares of both, over all ranks that hold parts of a tensor. They are
// taken in pieces, in order, as the gradient's norm is, so that sharded and unsharded optimizers agree bit for bit.
#include "plan/build_update.h"

namespace foretrain::plan {

Operand lamb_norms(RoleContext& c) {
  return c.builder.whole(
      c.builder.buffer("norms.lamb", Dtype::fp64, 2 * c.tensors, BufferKind::workspace, Lifetime::persistent));
}

BlockId lamb_update_block(RoleContext& c, const BucketRange& r) {
  const ParameterFamily& f = c.family(r.family);
  BlockBuilder b(c.role(), "lamb.update." + f.name);
  const LambUpdate op{bucket_of(c, r.family, r.layers), c.job.workload.optimizer, c.job.workload.precision};
  const Operand gradient = own_part(c, op.bucket, f.gradient), m = own_part(c, op.bucket, f.m),
                v = own_part(c, op.bucket, f.v);
  const Operand weight = own_part(c, op.bucket, f.master >= 0 ? f.master : f.parameter);
  const int at = b.emit(op, kCompute, Phase::optimizer, {c.builder.whole(c.role().grad_norm), weight, gradient, m, v},
                        {gradient, m, v});
  guard_update(c, b.op(at));
  Operand sums = lamb_norms(c);
  for (const auto& [tensors, dtype] :
       {std::pair{weight, f.master >= 0 ? c.type.state : c.type.parameter}, std::pair{gradient, c.type.gradient}}) {
    SquaredNorm norm;
    norm.bucket = op.bucket;
    norm.piece_shards = static_cast<std::int32_t>(c.job.strategy.replicas());
    norm.dtype = dtype;
    sums.elements = c.tensors;
    b.emit(norm, kCompute, Phase::optimizer, {tensors}, {sums});
    sums.offset += c.tensors;
  }
  return c.builder.add(b.take());
}

BlockId lamb_begin_block(RoleContext& c) {
  BlockBuilder b(c.role(), "lamb.begin");
  b.emit(Fill{2 * c.tensors, Dtype::fp64}, kCompute, Phase::optimizer, {}, {lamb_norms(c)});
  return c.builder.add(b.take());
}
BlockId lamb_norms_block(RoleContext& c) {
  BlockBuilder b(c.role(), "lamb.norms");
  if (c.shards_state()) {
    reduce_of_tensors(c, b, c.groups.shard, c.dp_stream(), lamb_norms(c), "lamb.reduce.dp");
  }
  if (c.groups.model != kNoGroup) {
    reduce_of_tensors(c, b, c.groups.model, c.world_stream(), lamb_norms(c), "lamb.reduce.model");
  }
  b.join_open(Phase::optimizer);
  return c.builder.add(b.take());
}

}  // namespace foretrain::plan
