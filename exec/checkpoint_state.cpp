#include "exec/checkpoint_state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/kernels.h"

namespace foretrain::exec {

namespace {

// What a strategy may have that the checkpoint's had not.
bool begins_at_nought(Part part) {
  return part == Part::residual || part == Part::outer_momentum || !is_of_parameters(part);
}

// Where what is stored stands in a checkpoint: in which part, and as which of its quantities.
std::pair<Part, int> place_of(Stored stored) {
  switch (stored) {
    case Stored::parameter:
    case Stored::master: return {Part::state, 0};
    case Stored::first_moment: return {Part::state, 1};
    case Stored::second_moment: return {Part::state, 2};
    case Stored::anchor: return {Part::anchor, 0};
    case Stored::outer_momentum: return {Part::outer_momentum, 0};
    case Stored::residual: return {Part::residual, 0};
  }
  return {};
}

// Who has values of its own: replicas have state, each of their members residuals, and all the same outer state.
Among among(const RankMemory& memory, const plan::ParameterFamily& family, Part part) {
  Among own = among(memory, family);
  if (part != Part::residual) {
    own.member = 0;
    own.members = 1;
  }
  return part == Part::anchor || part == Part::outer_momentum ? Among{} : own;
}

// Numbers of a role that are no parameter's. `name` says of what else they are.
struct Numbers {
  std::string name;
  Part part{};
  std::int64_t elements = 0;
  kernels::Tensor tensor;

  ShardPiece piece() const { return {name, elements, 1, {0, 0, 1, 0, elements}, part, {}}; }
};

// Servers that are dealt other parameters have made other updates, and so have those of other workers.
std::string turns_of(const plan::Role& role) {
  std::vector<std::string> parts;
  for (const plan::ParameterFamily& family : role.parameter_families) {
    if (family.parameter >= 0 && !family.parameters.empty() && family.layers == 0) {
      parts.push_back(family.name);
    }
  }
  const std::int64_t workers = role.buffers[static_cast<std::size_t>(role.turns)].elements;
  return fmt::format("turns of {} workers: {} layers {}", workers, fmt::join(parts, " "),
                     fmt::join(role.global_layer, " "));
}

std::vector<Numbers> numbers_of(const RankMemory& memory) {
  const plan::Role& role = *memory.rank->role;
  std::vector<Numbers> all;
  const auto add = [&](plan::BufferId buffer, const std::string& name, Part part) {
    const auto at = static_cast<std::size_t>(buffer);
    all.push_back({name, part, role.buffers[at].elements, {memory.at(role.memory.placements[at].offset), Dtype::fp64}});
  };
  if (role.loss_scale >= 0) {
    add(role.loss_scale, "loss_scale", Part::loss_scale);
  }
  if (role.turns >= 0) {
    add(role.turns, turns_of(role), Part::turns);
  }
  return all;
}

// A row for each word of the padded vocabulary.
bool is_table(const std::string& tensor) {
  return tensor == "embedding.table" || tensor == "head.weight";
}

bool overlap(const TensorRun& a, const TensorRun& b) {
  return a.row < b.end_row() && b.row < a.end_row() && a.col < b.col + b.width && b.col < a.col + a.width;
}

}  // namespace

ShardSource::ShardSource(const RankMemory& memory, Replicas of) : memory_(memory) {
  header_.rank = memory.rank->rank;
  const plan::Role& role = *memory.rank->role;
  const auto add = [&](const kernels::Tensor& from, std::int64_t elements) {
    stretches_.push_back({from, elements, header_.dtype_of(header_.pieces.back())});
  };
  for_each_counted_piece(memory, of, [&](const OpCall& call, const plan::Piece& piece, std::int64_t first) {
    const plan::Parameter& p = *piece.parameter;
    // The master weights are the last but the moments; without them the parameters are.
    const auto& step = std::get<plan::OptimizerStep>(call.op->work);
    const std::size_t weights = step.precision.has_master() ? 1 : 0;
    header_.dtype = kernels::wide(call.writes.at(weights).dtype);
    header_.moments = static_cast<int>(call.writes.size() - weights) - 1;
    const plan::ParameterFamily& family = role.parameter_families[static_cast<std::size_t>(step.bucket.family)];
    header_.pieces.push_back({plan::global_name(role, p, piece.layer), p.global_rows, p.global_cols, run_of(piece),
                              Part::state, among(memory, family, Part::state)});
    for (std::size_t i = weights; i < call.writes.size(); ++i) {
      add(advanced(call.writes[i], first), piece.elements);
    }
  });
  for_each_stored_range(memory, [&](Stored stored, const TensorRange& range, kernels::Tensor tensor) {
    const plan::Parameter& p = range.parameter;
    const Part part = place_of(stored).first;
    const Among place = exec::among(memory, range.family);
    const bool is_mine = part == Part::residual || (place.replica == 0 && place.member == 0);
    if (part == Part::state || !is_mine || !p.counted || range.slice.replica != 0) {
      return;
    }
    header_.dtype = kernels::wide(tensor.dtype);
    header_.pieces.push_back({plan::global_name(role, p, range.layer), p.global_rows, p.global_cols, run_of(range),
                              part, among(memory, range.family, part)});
    add(tensor, range.elements);
  });
  for (const Numbers& numbers : numbers_of(memory)) {
    // Of all, or who writes what updates were made of.
    const bool is_mine = numbers.part == Part::loss_scale ? header_.rank == 0 : !header_.pieces.empty();
    if (is_mine) {
      header_.pieces.push_back(numbers.piece());
      add(numbers.tensor, numbers.elements);
    }
  }
}

void ShardSource::copy_to(std::byte* payload) const {
  std::vector<std::byte> narrow;
  for (const Stretch& stretch : stretches_) {
    const std::int64_t bytes = size_bytes(stretch.from.dtype, stretch.elements);
    if (stretch.from.dtype == stretch.stored) {
      memory_.read(stretch.from.data, payload, bytes);
    } else {
      narrow.resize(static_cast<std::size_t>(bytes));
      memory_.read(stretch.from.data, narrow.data(), bytes);
      kernels::cast({narrow.data(), stretch.from.dtype}, {payload, stretch.stored}, stretch.elements);
    }
    payload += size_bytes(stretch.stored, stretch.elements);
  }
}

StateTargets::StateTargets(const std::vector<RankMemory>& ranks, std::int64_t vocab) : vocab_(vocab) {
  const auto add = [&](const std::string& name, std::int64_t rows, std::int64_t cols, Target target) {
    Whole& whole = tensors_[name];
    whole.rows = rows;
    whole.cols = cols;
    whole.targets.push_back(std::move(target));
  };
  for (const RankMemory& memory : ranks) {
    for_each_stored_range(memory, [&](Stored stored, const TensorRange& range, kernels::Tensor tensor) {
      const plan::Parameter& p = range.parameter;
      const auto [part, quantity] = place_of(stored);
      add(plan::global_name(*memory.rank->role, p, range.layer), p.global_rows, p.global_cols,
          {memory, part, quantity, run_of(range), among(memory, range.family, part), tensor, 0, 1, {}});
    });
    for (const Numbers& n : numbers_of(memory)) {
      add(n.name, n.elements, 1, {memory, n.part, 0, n.piece().run, {}, n.tensor, 0, 1, {}});
    }
  }
}

void StateTargets::check(const ShardHeader& header, const std::string& origin) {
  for (const ShardPiece& piece : header.pieces) {
    has_anchors_ = has_anchors_ || piece.part == Part::anchor;
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

StateTargets::Gift StateTargets::gift(const ShardHeader& header, const ShardPiece& piece, const Target& target) const {
  const bool is_anchor = target.part == Part::anchor && !has_anchors_ && piece.part == Part::state;
  if ((piece.part != target.part && !is_anchor) || target.quantity >= header.quantities(piece) ||
      !overlap(piece.run, target.run)) {
    return {};
  }
  const Among &from = piece.among, &to = target.among;
  const bool keeps_replicas = from.replicas == to.replicas;
  if (keeps_replicas && from.members == to.members) {
    return {from == to ? 1 : 0, 1};
  }
  if (keeps_replicas) {
    return {from.replica == to.replica ? from.members : 0, 1.0 / static_cast<double>(to.members)};
  }
  return {from.members * from.replicas, 1.0 / static_cast<double>(from.replicas * to.members)};
}

bool StateTargets::wants(const ShardHeader& header, const ShardPiece& piece) const {
  const auto found = tensors_.find(piece.tensor);
  return found != tensors_.end() &&
         std::any_of(found->second.targets.begin(), found->second.targets.end(),
                     [&](const Target& target) { return gift(header, piece, target).givers > 0; });
}

void StateTargets::fill(const ShardHeader& header, const ShardPiece& piece, const std::byte* payload) {
  const auto found = tensors_.find(piece.tensor);
  if (found == tensors_.end()) {
    return;
  }
  const Dtype dtype = header.dtype_of(piece);
  std::vector<double> wide;
  for (Target& target : found->second.targets) {
    const Gift given = gift(header, piece, target);
    if (given.givers == 0) {
      continue;
    }
    const bool adds = given.givers > 1 || given.share != 1;
    target.givers = given.givers;
    if (adds) {
      target.sum.resize(static_cast<std::size_t>(target.run.elements));
    }
    const std::byte* const begin = payload + target.quantity * size_bytes(dtype, piece.run.elements);
    for_each_common(piece.run, target.run, [&](std::int64_t source, std::int64_t at, std::int64_t elements) {
      const kernels::ConstTensor from{begin + size_bytes(dtype, source), dtype};
      target.filled += elements;
      if (!adds) {
        write_on_host(target.memory, advanced(target.tensor, at), elements,
                      [&](kernels::Tensor out) { kernels::cast(from, out, elements); });
        return;
      }
      wide.resize(static_cast<std::size_t>(elements));
      kernels::cast(from, {wide.data(), Dtype::fp64}, elements);
      for (std::int64_t i = 0; i < elements; ++i) {
        target.sum[static_cast<std::size_t>(at + i)] += given.share * wide[static_cast<std::size_t>(i)];
      }
    });
  }
}

void StateTargets::complete() {
  for (auto& [name, whole] : tensors_) {
    for (Target& target : whole.targets) {
      const std::int64_t n = target.run.elements;
      if (!target.sum.empty()) {
        // In 16 bits parameters are the fp32 master weights, rounded.
        std::vector<float> narrow(size_bytes(target.tensor.dtype, 1) == 2 ? target.sum.size() : 0);
        const kernels::ConstTensor sum{target.sum.data(), Dtype::fp64};
        if (!narrow.empty()) {
          kernels::cast(sum, {narrow.data(), Dtype::fp32}, n);
        }
        const kernels::ConstTensor from = narrow.empty() ? sum : kernels::ConstTensor{narrow.data(), Dtype::fp32};
        write_on_host(target.memory, target.tensor, n, [&](kernels::Tensor out) { kernels::cast(from, out, n); });
        target.sum = {};
      } else if (target.filled == 0 && begins_at_nought(target.part)) {
        write_on_host(target.memory, target.tensor, n, [&](kernels::Tensor out) { kernels::fill(out, n, 0.0); });
        target.filled = n;
      }
    }
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
      if (target.filled < expected * target.givers) {
        return name;
      }
    }
  }
  return {};
}

}  // namespace foretrain::exec
