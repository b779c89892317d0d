#include "exec/context_parallel.h"

#include <vector>

#include "exec/attention_ops.h"
#include "kernels/kernels.h"
#include "plan/sequence_share.h"

namespace foretrain::exec {

namespace {

// Of shares in two runs, an early and a late one: an earlier rank's early keys lie before all of our queries and its
// late ones after them; a later rank's keys lie all between our early and our late queries.
kernels::AttentionPart part_of(const plan::RingAttention& op, int own) {
  const std::int64_t half = op.seq / 2;
  const int other = (own - op.distance + op.parts) % op.parts;
  if (other == own || !op.causal) {
    return {0, op.seq, 0, op.seq, op.causal};
  }
  return other < own ? kernels::AttentionPart{0, op.seq, 0, half, false}
                     : kernels::AttentionPart{half, half, 0, op.seq, false};
}

// Both pieces of a share over the keys of all.
kernels::AttentionPart part_of_all(const plan::RingAttention& op, int own) {
  const plan::SequenceShare share{op.seq, own, op.parts};
  if (!op.causal) {
    return {0, op.seq, 0, share.whole(), false, 0, 0, 0, share.whole()};
  }
  kernels::AttentionPart part{0,           op.seq,       0, share.whole(), true, share.position(0), op.window,
                              op.document, share.whole()};
  part.jump_at = share.run();
  part.jump = share.position(share.run()) - share.run() - part.diagonal;
  return part;
}

// Columns of a matrix that go to one rank, there and here.
struct Columns {
  std::int64_t here, there, width;
};

}  // namespace

void ring_attention(const kernels::Launchers& launch, const OpCall& call, const plan::RingAttention& op) {
  kernels::AttentionShape shape = attention_shape(op);
  shape.value_dim = op.v_dim;
  const int own = call.rank->index_in(op.group);
  const std::vector<kernels::Tensor>& reads = call.reads;
  const std::vector<kernels::Tensor>& writes = call.writes;
  switch (op.step) {
    case plan::RingStep::pack:
      launch.copy_matrix(shape.tokens(), shape.kv_cols(), advanced(reads[0], shape.q_cols()), shape.qkv_cols(),
                         writes[0], shape.kv_cols());
      break;
    case plan::RingStep::attend:
      launch.attention_part_forward(shape, part_of(op, own), reads[0], reads[1], writes[0], writes[1]);
      break;
    case plan::RingStep::merge:
      launch.attention_merge(shape, op.parts, reads[0], reads[1], writes[0], writes[1]);
      break;
    case plan::RingStep::attend_backward:
      launch.attention_part_backward(shape, part_of(op, own), reads[1], reads[2], reads[3], reads[4], reads[0],
                                     writes[0], writes[1], op.accumulate);
      break;
    case plan::RingStep::attend_all:
      launch.attention_part_forward(shape, part_of_all(op, own), reads[0], reads[1], writes[0], writes[1]);
      break;
    case plan::RingStep::attend_all_backward:
      launch.attention_part_backward(shape, part_of_all(op, own), reads[1], reads[2], reads[3], reads[4], reads[0],
                                     writes[0], writes[1], false);
      break;
    case plan::RingStep::unpack:
      launch.copy_matrix(shape.tokens(), shape.kv_cols(), reads[0], shape.kv_cols(),
                         advanced(writes[0], shape.q_cols()), shape.qkv_cols());
      break;
  }
}

void reshard(const kernels::Launchers& launch, const OpCall& call, const plan::Reshard& op) {
  const kernels::Tensor &from = call.reads[0], &to = call.writes[0];
  const std::int64_t all = op.q + op.k + op.v, width = all / op.parts;
  const std::int64_t q = op.q / op.parts, k = op.k / op.parts, v = op.v / op.parts;
  const std::int64_t rows = op.batch * op.seq;
  const bool packs = op.step == plan::ReshardStep::split_heads || op.step == plan::ReshardStep::split_sequence;
  // Between [rows] blocks of one rank and where they come from or go to.
  const auto copy = [&](std::int64_t n, std::int64_t cols, std::int64_t matrix, std::int64_t ld, std::int64_t block) {
    if (packs) {
      launch.copy_matrix(n, cols, advanced(from, matrix), ld, advanced(to, block), width);
    } else {
      launch.copy_matrix(n, cols, advanced(from, block), width, advanced(to, matrix), ld);
    }
  };
  for (std::int32_t part = 0; part < op.parts; ++part) {
    const std::int64_t block = part * rows * width;
    if (op.step == plan::ReshardStep::split_heads || op.step == plan::ReshardStep::join_heads) {
      for (const Columns& c :
           {Columns{part * q, 0, q}, Columns{op.q + part * k, q, k}, Columns{op.q + op.k + part * v, q + k, v}}) {
        copy(rows, c.width, c.here, all, block + c.there);
      }
      continue;
    }
    const plan::SequenceShare share{op.seq, part, op.parts};
    for (std::int64_t token = 0; token < rows; token += share.run()) {
      const std::int64_t place = token / op.seq * share.whole() + share.position(token % op.seq);
      copy(share.run(), width, place * width, width, block + token * width);
    }
  }
}

}  // namespace foretrain::exec
