#include "exec/checkpoint_state.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/kernels.h"

namespace foretrain::exec {

namespace {

int quantity(Stored stored) {
  return stored == Stored::first_moment ? 1 : stored == Stored::second_moment ? 2 : 0;
}

// A row for each word of the padded vocabulary.
bool is_table(const std::string& tensor) {
  return tensor == "embedding.table" || tensor == "head.weight";
}

bool overlap(const TensorRun& a, const TensorRun& b) {
  return a.row < b.end_row() && b.row < a.end_row() && a.col < b.col + b.width && b.col < a.col + a.width;
}

}  // namespace

ShardSource::ShardSource(const RankMemory& memory) : memory_(memory) {
  header_.rank = memory.rank->rank;
  for_each_counted_piece(memory, [&](const OpCall& call, const plan::Piece& piece, std::int64_t first) {
    const plan::Role& role = *call.rank->role;
    const plan::Parameter& p = *piece.parameter;
    // The master weights are the last but the moments; without them the parameters are.
    const auto& step = std::get<plan::OptimizerStep>(call.op->work);
    const std::size_t weights = step.precision.has_master() ? 1 : 0;
    header_.dtype = kernels::wide(call.writes.at(weights).dtype);
    header_.moments = static_cast<int>(call.writes.size() - weights) - 1;
    header_.pieces.push_back({plan::global_name(role, p, piece.layer), p.global_rows, p.global_cols, run_of(piece)});
    for (std::size_t i = weights; i < call.writes.size(); ++i) {
      const kernels::Tensor from = advanced(call.writes[i], first);
      parts_.push_back({from, piece.elements});
    }
  });
}

void ShardSource::copy_to(std::byte* payload) const {
  std::vector<std::byte> narrow;
  for (const Part& part : parts_) {
    const std::int64_t bytes = size_bytes(part.from.dtype, part.elements);
    if (part.from.dtype == header_.dtype) {
      memory_.read(part.from.data, payload, bytes);
    } else {
      narrow.resize(static_cast<std::size_t>(bytes));
      memory_.read(part.from.data, narrow.data(), bytes);
      kernels::cast({narrow.data(), part.from.dtype}, {payload, header_.dtype}, part.elements);
    }
    payload += size_bytes(header_.dtype, part.elements);
  }
}

StateTargets::StateTargets(const std::vector<RankMemory>& ranks, std::int64_t vocab) : vocab_(vocab) {
  for (const RankMemory& memory : ranks) {
    for_each_stored_range(memory, [&](Stored stored, const TensorRange& range, kernels::Tensor tensor) {
      Whole& whole = tensors_[plan::global_name(*memory.rank->role, range.parameter, range.layer)];
      whole.rows = range.parameter.global_rows;
      whole.cols = range.parameter.global_cols;
      whole.targets.push_back({memory, stored, run_of(range), tensor, 0});
    });
  }
}

void StateTargets::check(const ShardHeader& header, const std::string& origin) const {
  for (const ShardPiece& piece : header.pieces) {
    const auto found = tensors_.find(piece.tensor);
    if (found == tensors_.end()) {
      continue;  // of ranks that live elsewhere
    }
    const Whole& whole = found->second;
    const bool fits =
        whole.cols == piece.cols &&
        (whole.rows == piece.rows || (is_table(piece.tensor) && whole.rows >= vocab_ && piece.rows >= vocab_));
    if (!fits) {
      throw InputError(fmt::format("{}: {} is {} x {}; expected {} x {}", origin, piece.tensor, piece.rows, piece.cols,
                                   whole.rows, whole.cols));
    }
  }
}

bool StateTargets::wants(const ShardPiece& piece) const {
  const auto found = tensors_.find(piece.tensor);
  return found != tensors_.end() && std::any_of(found->second.targets.begin(), found->second.targets.end(),
                                                [&](const Target& target) { return overlap(piece.run, target.run); });
}

void StateTargets::fill(const ShardHeader& header, const ShardPiece& piece, const std::byte* payload) {
  const auto found = tensors_.find(piece.tensor);
  if (found == tensors_.end()) {
    return;
  }
  const std::int64_t bytes = size_bytes(header.dtype, piece.run.elements);
  for (Target& target : found->second.targets) {
    const int which = quantity(target.stored);
    if (which >= header.quantities()) {
      continue;
    }
    // The kernel only reads it.
    const kernels::ConstTensor from{payload + which * bytes, header.dtype};
    for_each_common(piece.run, target.run, [&](std::int64_t source, std::int64_t at, std::int64_t elements) {
      write_on_host(target.memory, advanced(target.tensor, at), elements, [&](kernels::Tensor out) {
        kernels::cast({static_cast<const std::byte*>(from.data) + size_bytes(from.dtype, source), from.dtype}, out,
                      elements);
      });
      target.filled += elements;
    });
  }
}

std::string StateTargets::missing() const {
  for (const auto& [name, whole] : tensors_) {
    for (const Target& target : whole.targets) {
      std::int64_t expected = target.run.elements;
      if (is_table(name) && target.run.end_row() > vocab_) {
        const std::int64_t in_vocab = std::max<std::int64_t>(0, vocab_ - target.run.row) * target.run.width;
        expected = std::max<std::int64_t>(0, in_vocab - target.run.skip);
      }
      if (target.filled < expected) {
        return name;
      }
    }
  }
  return {};
}

}  // namespace foretrain::exec
