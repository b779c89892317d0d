#include "exec/pieces.h"

#include <algorithm>
#include <vector>

#include "exec/bucket.h"

namespace foretrain::exec {

namespace {

// Local elements [begin, begin + elements) of a slice, in the whole tensor.
TensorRun run_of(const plan::Parameter& p, const plan::Slice& slice, std::int64_t begin, std::int64_t elements) {
  return {begin / p.cols - slice.local_row + slice.global_row, slice.global_col, p.cols, begin % p.cols, elements};
}

// Calls fn for each optimizer op of a step, bound to the rank.
void for_each_optimizer_step(const RankMemory& memory,
                             const std::function<void(const OpCall&, const plan::OptimizerStep&)>& fn) {
  OpCall call;
  const RankContext& rank = *memory.rank;
  const plan::Role& role = *rank.role;
  for (plan::ProgramCursor c(role, plan::role_of(*rank.graph, rank.rank), role.program.body,
                             plan::first_body_instance(role.program));
       c; c.next()) {
    if (const auto* step = std::get_if<plan::OptimizerStep>(&c.op().work)) {
      bind_call(memory, c, 0, call);
      fn(call, *step);
    }
  }
}

// Calls fn(piece, elements further on in the op's operands) for what this rank's optimizer op owns.
void for_each_owned_piece(const OpCall& call, const plan::OptimizerStep& op,
                          const std::function<void(const plan::Piece&, std::int64_t)>& fn) {
  const std::int64_t shard = call.rank->index_in(op.bucket.shard_group);
  const std::int64_t begin = shard * (op.bucket.elements / op.bucket.shards);
  const plan::ParameterFamily& family = call.rank->role->parameter_families[static_cast<std::size_t>(op.bucket.family)];
  const int slices = call.rank->index_in(family.slice_group);
  plan::for_each_piece(*call.rank->role, op.bucket, first_copy(call, op.bucket), shard, op.bucket.shards, slices,
                       [&](const plan::Piece& piece) { fn(piece, piece.bucket_begin - begin); });
}

// Of a family buffer's layer.
kernels::Tensor layer_tensor(const RankMemory& memory, plan::BufferId buffer, std::int32_t layer) {
  const plan::Role& role = *memory.rank->role;
  const plan::Placement& place = role.memory.placements[static_cast<std::size_t>(buffer)];
  return {memory.at(place.offset + layer * place.layer_stride),
          kernels::stored_type(role.buffers[static_cast<std::size_t>(buffer)].dtype)};
}

// Whether a rank stores all of a family's parameters, and not only those whose updates it makes.
bool is_whole(const plan::Role& role, const plan::ParameterFamily& family) {
  return role.buffers[static_cast<std::size_t>(family.parameter)].elements == family.elements;
}

void for_each_whole_range(const RankMemory& memory,
                          const std::function<void(Stored, const TensorRange&, kernels::Tensor)>& fn) {
  const RankContext& rank = *memory.rank;
  const plan::Role& role = *rank.role;
  for (const plan::ParameterFamily& family : role.parameter_families) {
    if (family.parameter < 0 || !is_whole(role, family)) {
      continue;
    }
    const auto slices = static_cast<std::size_t>(rank.index_in(family.slice_group));
    for (std::int32_t copy = 0; copy < std::max(1, family.layers); ++copy) {
      const kernels::Tensor base = layer_tensor(memory, family.parameter, copy);
      const std::int32_t layer = family.layers == 0 ? 0 : plan::layer_of_copy(role, family.layer_list, copy);
      for (const plan::Parameter& p : family.parameters) {
        for (const plan::Slice& slice : p.slices[slices]) {
          const std::int64_t begin = slice.local_row * p.cols;
          fn(Stored::parameter, {p, slice, layer, plan::global_tensor(role, p, layer), begin, slice.rows * p.cols},
             advanced(base, p.offset + begin));
        }
      }
    }
  }
}

}  // namespace

TensorRun run_of(const TensorRange& range) {
  return run_of(range.parameter, range.slice, range.begin, range.elements);
}

TensorRun run_of(const plan::Piece& piece) {
  return run_of(*piece.parameter, *piece.slice, piece.local_begin, piece.elements);
}

void for_each_stored_range(const RankMemory& memory,
                           const std::function<void(Stored, const TensorRange&, kernels::Tensor)>& fn) {
  for_each_whole_range(memory, fn);
  const plan::Role& role = *memory.rank->role;
  for_each_optimizer_step(memory, [&](const OpCall& call, const plan::OptimizerStep& op) {
    struct Part {
      Stored stored;
      kernels::Tensor tensor;
    };
    std::vector<Part> owned;
    const plan::ParameterFamily& family = role.parameter_families[static_cast<std::size_t>(op.bucket.family)];
    const bool on_host = call.op->writes.at(0).buffer != family.parameter;
    if (on_host || !is_whole(role, family)) {
      owned.push_back({Stored::parameter, call.writes.at(0)});
    }
    // In the order of OptimizerStep's operands.
    std::size_t next = 1;
    for (const auto& [buffer, stored] : {std::pair{family.master, Stored::master},
                                         {family.m, Stored::first_moment},
                                         {family.v, Stored::second_moment}}) {
      if (buffer >= 0) {
        owned.push_back({stored, call.writes.at(next++)});
      }
    }
    for (const Part& part : owned) {
      for_each_owned_piece(call, op, [&](const plan::Piece& piece, std::int64_t i) {
        fn(part.stored,
           {*piece.parameter, *piece.slice, piece.layer, plan::global_tensor(role, *piece.parameter, piece.layer),
            piece.local_begin, piece.elements},
           advanced(part.tensor, i));
      });
    }
  });
}

void for_each_counted_piece(const RankMemory& memory,
                            const std::function<void(const OpCall&, const plan::Piece&, std::int64_t)>& fn) {
  const plan::PlanGraph& g = *memory.rank->graph;
  const auto members = [&](plan::GroupId group) {
    return group == plan::kNoGroup
               ? std::vector<plan::Rank>{memory.rank->rank}
               : plan::members(g.mesh, g.groups[static_cast<std::size_t>(group)], memory.rank->rank);
  };
  for_each_optimizer_step(memory, [&](const OpCall& call, const plan::OptimizerStep& op) {
    // Of those that hold the same, the ranks that share it out with the first one count.
    const plan::ParameterFamily& family =
        memory.rank->role->parameter_families[static_cast<std::size_t>(op.bucket.family)];
    const std::vector<plan::Rank> owners = members(op.bucket.shard_group);
    if (std::find(owners.begin(), owners.end(), members(family.data_group).front()) == owners.end()) {
      return;
    }
    for_each_owned_piece(call, op, [&](const plan::Piece& piece, std::int64_t i) {
      if (plan::is_counted(piece)) {
        fn(call, piece, i);
      }
    });
  });
}

}  // namespace foretrain::exec
