#include "exec/calibrate_probes.h"

#include "plan/work.h"

namespace foretrain::exec {

Bytes touched(const plan::Work& work) {
  plan::Op op;
  op.work = work;
  const plan::OpWork w = plan::work(op);
  return w.read + w.written;
}

Probe square_matmul(std::int64_t extent) {
  plan::Matmul op;
  op.m = op.n = op.k = extent;
  op.trans_b = true;
  const ProbeTensor matrix{Dtype::fp32, extent * extent};
  return {op, {matrix, matrix, matrix}, {0, 1}, {2}};
}

Probe accumulate(std::int64_t elements) {
  const ProbeTensor x{Dtype::fp32, elements};
  return {plan::Accumulate{elements, Dtype::fp32, Dtype::fp32}, {x, x}, {0, 1}, {1}};
}

Probe collective(plan::CollectiveKind kind, std::int64_t elements, int ranks, std::int32_t tag) {
  plan::Collective op;
  op.kind = kind;
  op.group = 0;
  op.elements = elements;
  op.tag = tag;
  const ProbeTensor full{Dtype::fp32, elements}, part{Dtype::fp32, elements / ranks, 0};
  switch (kind) {
    case plan::CollectiveKind::reduce_scatter: return {op, {full, part}, {0}, {1}};
    case plan::CollectiveKind::all_gather: return {op, {full, part}, {1}, {0}};
    default: return {op, {full}, {0}, {0}};
  }
}

}  // namespace foretrain::exec
