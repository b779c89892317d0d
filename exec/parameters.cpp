#include "exec/parameters.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <string>

#include "base/error.h"
#include "exec/bucket.h"
#include "kernels/bf16.h"
#include "kernels/kernels.h"
#include "plan/parameters.h"

namespace foretrain::exec {

namespace {

// Local elements [begin, begin + elements) of a tensor; they lie in one slice.
struct Range {
  const plan::Parameter& parameter;
  const plan::Slice& slice;
  std::int32_t tensor = 0;
  std::int64_t begin = 0, elements = 0;
};

// Initial values of a tensor as any range of any rank asks for them.
class Initialiser {
 public:
  explicit Initialiser(std::uint64_t seed) : seed_(seed) {}

  void write(const Range& range, kernels::Tensor out) {
    const plan::Parameter& p = range.parameter;
    const std::int64_t begin = range.begin, n = range.elements;
    if (p.init != plan::Init::normal) {
      kernels::fill(out, n, p.init == plan::Init::ones ? 1.0 : 0.0);
      return;
    }
    // The range's first and last row may be cut; what lies between is a dense piece.
    for (std::int64_t done = 0; done < n;) {
      const std::int64_t column = (begin + done) % p.cols;
      kernels::InitShape shape;
      shape.rows = column == 0 ? std::max<std::int64_t>(1, (n - done) / p.cols) : 1;
      shape.cols = std::min(p.cols - column, n - done);
      shape.rows = std::min(shape.rows, std::max<std::int64_t>(1, kPieceElements / shape.cols));
      shape.row_offset = (begin + done) / p.cols - range.slice.local_row + range.slice.global_row;
      shape.col_offset = range.slice.global_col + column;
      shape.global_cols = p.global_cols;
      shape.seed = seed_;
      shape.tensor = static_cast<std::uint64_t>(range.tensor);
      normal(shape, p.init_std, advanced(out, done));
      done += shape.rows * shape.cols;
    }
  }

 private:
  static constexpr std::int64_t kPieceElements = 1 << 16;

  // 16-bit parameters are the rounded fp32 values that their master weights start from.
  void normal(const kernels::InitShape& shape, double deviation, kernels::Tensor out) {
    if (out.dtype != Dtype::bf16) {
      kernels::init_normal(shape, deviation, out);
      return;
    }
    const std::int64_t n = shape.rows * shape.cols;
    wide_.resize(static_cast<std::size_t>(n));
    kernels::init_normal(shape, deviation, {wide_.data(), Dtype::fp32});
    kernels::cast({wide_.data(), Dtype::fp32}, out, n);
  }

  std::uint64_t seed_;
  std::vector<float> wide_;
};

// Calls fn for each optimizer op of a step, bound to the rank.
void for_each_optimizer_step(const RankContext& rank, std::byte* arena,
                             const std::function<void(const OpCall&, const plan::OptimizerStep&)>& fn) {
  OpCall call;
  const plan::Role& role = *rank.role;
  for (plan::ProgramCursor c(role, plan::role_of(*rank.graph, rank.rank), role.program.body,
                             plan::first_body_instance(role.program));
       c; c.next()) {
    if (const auto* step = std::get_if<plan::OptimizerStep>(&c.op().work)) {
      bind_call(rank, arena, c, 0, call);
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
kernels::Tensor layer_tensor(const plan::Role& role, std::byte* arena, plan::BufferId buffer, std::int32_t layer) {
  const plan::Placement& place = role.memory.placements[static_cast<std::size_t>(buffer)];
  return {arena + place.offset + layer * place.layer_stride,
          stored_type(role.buffers[static_cast<std::size_t>(buffer)].dtype)};
}

// Pieces of every rank that owns parts which no earlier one owns: one rank of each replicated set.
void for_each_unique_piece(const std::vector<RankMemory>& ranks,
                           const std::function<void(const OpCall&, const plan::Piece&, std::int64_t)>& fn) {
  for (const RankMemory& memory : ranks) {
    const plan::PlanGraph& g = *memory.rank->graph;
    const auto members = [&](plan::GroupId group) {
      return group == plan::kNoGroup
                 ? std::vector<plan::Rank>{memory.rank->rank}
                 : plan::members(g.mesh, g.groups[static_cast<std::size_t>(group)], memory.rank->rank);
    };
    for_each_optimizer_step(*memory.rank, memory.arena, [&](const OpCall& call, const plan::OptimizerStep& op) {
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
}

// Whether a rank stores all of a family's parameters, and not only those whose updates it makes.
bool is_whole(const plan::Role& role, const plan::ParameterFamily& family) {
  return role.buffers[static_cast<std::size_t>(family.parameter)].elements == family.elements;
}

// Calls write for every range of the rank's parameters and of its master weights.
void write_parameters(const RankContext& rank, std::byte* arena,
                      const std::function<void(const Range&, kernels::Tensor)>& write) {
  const plan::Role& role = *rank.role;
  for (const plan::ParameterFamily& family : role.parameter_families) {
    if (family.parameter < 0 || !is_whole(role, family)) {
      continue;
    }
    const auto slices = static_cast<std::size_t>(rank.index_in(family.slice_group));
    for (std::int32_t copy = 0; copy < std::max(1, family.layers); ++copy) {
      const kernels::Tensor base = layer_tensor(role, arena, family.parameter, copy);
      const std::int32_t layer = family.layers == 0 ? 0 : plan::layer_of_copy(role, family.layer_list, copy);
      for (const plan::Parameter& p : family.parameters) {
        for (const plan::Slice& slice : p.slices[slices]) {
          const std::int64_t begin = slice.local_row * p.cols;
          write({p, slice, plan::global_tensor(role, p, layer), begin, slice.rows * p.cols},
                advanced(base, p.offset + begin));
        }
      }
    }
  }
  for_each_optimizer_step(rank, arena, [&](const OpCall& call, const plan::OptimizerStep& op) {
    std::vector<kernels::Tensor> owned;
    const plan::ParameterFamily& family = role.parameter_families[static_cast<std::size_t>(op.bucket.family)];
    const bool on_host = call.op->writes.at(0).buffer != family.parameter;
    if (on_host || !is_whole(role, family)) {
      owned.push_back(call.writes.at(0));
    }
    if (op.precision.has_master()) {
      owned.push_back(call.writes.at(1));
    }
    for (const kernels::Tensor& tensor : owned) {
      for_each_owned_piece(call, op, [&](const plan::Piece& piece, std::int64_t i) {
        write({*piece.parameter, *piece.slice, plan::global_tensor(role, *piece.parameter, piece.layer),
               piece.local_begin, piece.elements},
              advanced(tensor, i));
      });
    }
  });
}

}  // namespace

void initialise_parameters(const RankContext& rank, std::byte* arena, std::uint64_t seed) {
  Initialiser initialiser(seed);
  write_parameters(rank, arena, [&](const Range& range, kernels::Tensor out) { initialiser.write(range, out); });
}

void scatter(const plan::PlanGraph& graph, const std::vector<RankMemory>& ranks,
             const std::vector<FullTensor>& tensors) {
  // By tensor number: their names are unique.
  std::map<std::string, const FullTensor*> by_name;
  for (const FullTensor& tensor : tensors) {
    by_name[tensor.name] = &tensor;
  }
  std::vector<const FullTensor*> by_number(static_cast<std::size_t>(graph.tensors), nullptr);
  for (const plan::Role& role : graph.roles) {
    for (const plan::ParameterFamily& family : role.parameter_families) {
      for (std::int32_t copy = 0; copy < std::max(1, family.layers); ++copy) {
        const std::int32_t layer = family.layers == 0 ? 0 : plan::layer_of_copy(role, family.layer_list, copy);
        for (const plan::Parameter& p : family.parameters) {
          const auto found = by_name.find(plan::global_name(role, p, layer));
          CHECK(found != by_name.end(), "no values for {}", plan::global_name(role, p, layer));
          by_number[static_cast<std::size_t>(plan::global_tensor(role, p, layer))] = found->second;
        }
      }
    }
  }
  std::vector<double> wide;
  for (const RankMemory& memory : ranks) {
    write_parameters(*memory.rank, memory.arena, [&](const Range& range, kernels::Tensor out) {
      const std::vector<double>& values = by_number[static_cast<std::size_t>(range.tensor)]->values;
      wide.resize(static_cast<std::size_t>(range.elements));
      for (std::int64_t i = 0; i < range.elements; ++i) {
        wide[static_cast<std::size_t>(i)] =
            values.at(static_cast<std::size_t>(plan::global_index(range.parameter, range.slice, range.begin + i)));
      }
      kernels::cast({wide.data(), Dtype::fp64}, out, range.elements);
    });
  }
}

double element(const kernels::ConstTensor& t, std::int64_t i) {
  switch (t.dtype) {
    case Dtype::fp64: return static_cast<const double*>(t.data)[i];
    case Dtype::fp32: return static_cast<double>(static_cast<const float*>(t.data)[i]);
    case Dtype::bf16: return static_cast<double>(static_cast<float>(static_cast<const kernels::Bf16*>(t.data)[i]));
    default: CHECK(false, "a parameter of type {}", name(t.dtype));
  }
  return 0.0;
}

std::vector<FullTensor> gather(const plan::PlanGraph& graph, const std::vector<RankMemory>& ranks, Quantity quantity) {
  std::vector<FullTensor> all(static_cast<std::size_t>(graph.tensors));
  for_each_unique_piece(ranks, [&](const OpCall& call, const plan::Piece& piece, std::int64_t first) {
    const plan::Role& role = *call.rank->role;
    const plan::Parameter& p = *piece.parameter;
    FullTensor& full = all[static_cast<std::size_t>(plan::global_tensor(role, p, piece.layer))];
    if (full.name.empty()) {
      full.name = plan::global_name(role, p, piece.layer);
      full.values.assign(static_cast<std::size_t>(p.global_rows * p.global_cols), 0.0);
    }
    const kernels::Tensor& source = quantity == Quantity::gradient ? call.reads[0] : call.writes[0];
    for (std::int64_t i = 0; i < piece.elements; ++i) {
      full.values[static_cast<std::size_t>(plan::global_index(p, *piece.slice, piece.local_begin + i))] =
          element(source, first + i);
    }
  });
  std::erase_if(all, [](const FullTensor& t) { return t.name.empty(); });
  return all;
}

}  // namespace foretrain::exec
