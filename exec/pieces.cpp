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

struct Kept {
  Stored stored;
  plan::BufferId buffer;
};

// What a rank keeps of all of a family's elements: parameters, and what exchanges leave for later ones.
std::vector<Kept> kept_whole(const plan::Role& role, const plan::ParameterFamily& family) {
  std::vector<Kept> all;
  if (family.parameter < 0 || !is_whole(role, family)) {
    return all;
  }
  const auto add = [&](Stored stored, plan::BufferId buffer) {
    if (std::none_of(all.begin(), all.end(), [&](const Kept& k) { return k.buffer == buffer; })) {
      all.push_back({stored, buffer});
    }
  };
  add(Stored::parameter, family.parameter);
  const plan::BufferId weights = family.master >= 0 ? family.master : family.parameter;
  for (const plan::Block& block : role.blocks) {
    for (const plan::Op& op : block.ops) {
      if (std::holds_alternative<plan::Encode>(op.work) && op.reads[0].buffer == family.gradient) {
        add(Stored::residual, op.reads[1].buffer);
      } else if (std::holds_alternative<plan::OuterStep>(op.work) && op.reads[0].buffer == weights) {
        for (std::size_t i = 1; i < op.reads.size(); ++i) {
          add(i == 1 ? Stored::anchor : Stored::outer_momentum, op.reads[i].buffer);
        }
      }
    }
  }
  return all;
}

void for_each_whole_range(const RankMemory& memory,
                          const std::function<void(Stored, const TensorRange&, kernels::Tensor)>& fn) {
  const RankContext& rank = *memory.rank;
  const plan::Role& role = *rank.role;
  for (const plan::ParameterFamily& family : role.parameter_families) {
    const auto slices = static_cast<std::size_t>(rank.index_in(family.slice_group));
    for (const Kept& kept : kept_whole(role, family)) {
      for (std::int32_t copy = 0; copy < std::max(1, family.layers); ++copy) {
        const kernels::Tensor base = layer_tensor(memory, kept.buffer, copy);
        const std::int32_t layer = family.layers == 0 ? 0 : plan::layer_of_copy(role, family.layer_list, copy);
        for (const plan::Parameter& p : family.parameters) {
          for (const plan::Slice& slice : p.slices[slices]) {
            const std::int64_t begin = slice.local_row * p.cols;
            fn(kept.stored, {family, p, slice, layer, plan::global_tensor(role, p, layer), begin, slice.rows * p.cols},
               advanced(base, p.offset + begin));
          }
        }
      }
    }
  }
}

// How many replicas drift apart, as whoever averages their weights says.
std::int64_t drifting(const RankContext& rank) {
  for (const plan::Block& block : rank.role->blocks) {
    for (const plan::Op& op : block.ops) {
      if (const auto* const step = std::get_if<plan::OuterStep>(&op.work)) {
        return step->replicas;
      }
    }
  }
  return 1;
}

// The members of a family's data group that hold the same as this rank, and the replica that they are.
struct Alike {
  std::int64_t replica = 0, replicas = 1;
  std::vector<plan::Rank> ranks;
};

Alike alike(const RankContext& rank, const plan::ParameterFamily& family) {
  if (family.data_group == plan::kNoGroup) {
    return {0, 1, {rank.rank}};
  }
  const plan::PlanGraph& g = *rank.graph;
  Alike all{0, drifting(rank), {}};
  const std::int64_t each = g.mesh.size(plan::Axis::dp) / all.replicas;
  const auto replica_of = [&](plan::Rank r) {
    return all.replicas == 1 ? 0 : g.mesh.coordinates(r)[static_cast<std::size_t>(plan::Axis::dp)] / each;
  };
  all.replica = replica_of(rank.rank);
  for (const plan::Rank r : rank.groups[static_cast<std::size_t>(family.data_group)].members) {
    if (replica_of(r) == all.replica) {
      all.ranks.push_back(r);
    }
  }
  return all;
}

}  // namespace

Among among(const RankMemory& memory, const plan::ParameterFamily& family) {
  const Alike all = alike(*memory.rank, family);
  const auto own = std::find(all.ranks.begin(), all.ranks.end(), memory.rank->rank);
  return {all.replica, all.replicas, own - all.ranks.begin(), static_cast<std::int64_t>(all.ranks.size())};
}

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
           {family, *piece.parameter, *piece.slice, piece.layer,
            plan::global_tensor(role, *piece.parameter, piece.layer), piece.local_begin, piece.elements},
           advanced(part.tensor, i));
      });
    }
  });
}

bool is_replica_of_server(const plan::PlanGraph& graph, plan::Rank rank) {
  const plan::Role& role = graph.roles[static_cast<std::size_t>(plan::role_of(graph, rank))];
  const int along_dp = graph.mesh.coordinates(rank)[static_cast<std::size_t>(plan::Axis::dp)];
  return along_dp >= graph.data_ranks() &&
         std::any_of(role.parameter_families.begin(), role.parameter_families.end(), [&](const auto& family) {
           return family.data_group != plan::kNoGroup &&
                  plan::index_in_group(graph.mesh, graph.groups[static_cast<std::size_t>(family.data_group)], rank) > 0;
         });
}

void for_each_counted_piece(const RankMemory& memory, Replicas of,
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
    const Alike all = alike(*memory.rank, family);
    const bool is_first = std::find(owners.begin(), owners.end(), all.ranks.front()) != owners.end();
    if ((of == Replicas::first && all.replica != 0) || (of != Replicas::in_its_place && !is_first)) {
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
