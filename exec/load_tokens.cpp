#include "exec/load_tokens.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "exec/permutation.h"
#include "kernels/philox.h"

namespace foretrain::exec {

namespace {

constexpr std::uint64_t kStream = 0x6D61736B;  // "mask"
constexpr double kReplaced = 0.8, kRandom = 0.1;

// Calls fn(position, number): of the masked ones, by a number that is the sequence's own.
template <class Fn>
void for_each_masked(const plan::Masking& masking, std::int64_t step, std::int64_t index, std::int64_t seq_len,
                     const Fn& fn) {
  CHECK(masking.count <= seq_len, "{} masked of {} tokens", masking.count, seq_len);
  const auto words = kernels::philox4x32(kStream, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(index));
  const std::uint64_t own = std::uint64_t{words[1]} << 32 | words[0];
  for (std::int64_t i = 0; i < masking.count; ++i) {
    fn(static_cast<std::size_t>(permuted(i, seq_len, own)), own);
  }
}

plan::SequenceShare share_of(const RankContext& rank, const plan::Host& op) {
  if (op.for_rank < 0 || op.seq_group == plan::kNoGroup) {
    return rank.share_in(op.seq_group, op.seq);
  }
  const plan::Mesh& mesh = rank.graph->mesh;
  const plan::Group& group = rank.graph->groups[static_cast<std::size_t>(op.seq_group)];
  return {op.seq, plan::index_in_group(mesh, group, op.for_rank), plan::group_size(mesh, group)};
}

// The tokens of the part, as the model reads them or is to tell them.
std::int32_t* copy_part(const plan::Host& op, std::span<const std::int32_t> sequence, std::int32_t* out) {
  const bool shifted = op.task == plan::HostTask::load_inputs && op.part.first > 0;
  if (shifted) {
    *out++ = static_cast<std::int32_t>(op.part.start);
  }
  return std::copy_n(sequence.begin() + op.part.first, op.seq - (shifted ? 1 : 0), out);
}

}  // namespace

std::int64_t first_sequence(const OpCall& call, const plan::Host& op) {
  const RankContext& rank = *call.rank;
  const plan::Coordinates of = op.for_rank < 0 ? rank.coordinates : rank.graph->mesh.coordinates(op.for_rank);
  return op.sequences *
         rank.graph->microbatches_before(of[static_cast<std::size_t>(plan::Axis::dp)], call.binding.microbatch);
}

void load_tokens(const OpCall& call, const plan::Host& op) {
  const RankContext& rank = *call.rank;
  const std::int64_t first = first_sequence(call, op);
  const bool targets = op.task == plan::HostTask::load_targets, masks = op.masking.count > 0;
  const std::int64_t shift = targets && !masks ? 1 : 0;
  const plan::SequenceShare share = share_of(rank, op);
  const std::int64_t length = op.part.length > 0 ? op.part.length : share.whole();
  std::vector<std::int32_t> sequence(static_cast<std::size_t>(length) + 1);
  auto* out = static_cast<std::int32_t*>(call.writes[0].data);
  for (std::int64_t s = 0; s < op.sequences; ++s) {
    rank.data->sequence(call.binding.step, first + s, length, sequence.data());
    if (op.part.length > 0) {
      out = copy_part(op, sequence, out);
      continue;
    }
    if (masks) {
      (targets ? mask_targets : mask_inputs)(op.masking, call.binding.step, first + s,
                                             std::span(sequence).first(sequence.size() - 1));
    }
    for (std::int64_t token = 0; token < op.seq; token += share.run()) {
      out = std::copy_n(sequence.begin() + share.position(token) + shift, share.run(), out);
    }
  }
}

void mask_inputs(const plan::Masking& masking, std::int64_t step, std::int64_t index, std::span<std::int32_t> ids) {
  for_each_masked(masking, step, index, std::ssize(ids), [&](std::size_t position, std::uint64_t own) {
    const auto [what, which] = kernels::philox_uniform(own, position, 0);
    if (what < kReplaced) {
      ids[position] = static_cast<std::int32_t>(masking.token);
    } else if (what < kReplaced + kRandom) {
      ids[position] = static_cast<std::int32_t>(which * static_cast<double>(masking.vocab));
    }
  });
}

void mask_targets(const plan::Masking& masking, std::int64_t step, std::int64_t index, std::span<std::int32_t> ids) {
  std::vector<std::int32_t> targets(ids.size(), -1);
  for_each_masked(masking, step, index, std::ssize(ids),
                  [&](std::size_t position, std::uint64_t) { targets[position] = ids[position]; });
  std::copy(targets.begin(), targets.end(), ids.begin());
}

}  // namespace foretrain::exec
