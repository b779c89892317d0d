// Which elements of which tensors lie where in a rank's memory: what is stored, and what of it this rank alone answers
// for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "exec/op_call.h"
#include "exec/tensor_run.h"
#include "plan/parameters.h"

namespace foretrain::exec {

// What is kept of a parameter from step to step. Master weights are where parameters are stored in fewer bits.
// anchor, outer_momentum: of local SGD's outer optimizer. residual: what a rank's codes of gradients have left out so
// far.
enum class Stored : std::uint8_t { parameter, master, first_moment, second_moment, anchor, outer_momentum, residual };

// Local elements [begin, begin + elements) of a tensor; they lie in one slice.
struct TensorRange {
  const plan::ParameterFamily& family;
  const plan::Parameter& parameter;
  const plan::Slice& slice;
  std::int32_t layer = 0;   // role-local
  std::int32_t tensor = 0;  // global number
  std::int64_t begin = 0, elements = 0;
};

// Where they lie in the whole tensor.
TensorRun run_of(const TensorRange& range);
TensorRun run_of(const plan::Piece& piece);

// The rank's place in the family's data group: replicas of local SGD differ between two averages, and every member has
// residuals of its own.
Among among(const RankMemory& memory, const plan::ParameterFamily& family);

// Calls fn for every range that the rank stores, replicas among them, with its place in memory. What is gathered again
// in every step is not stored.
void for_each_stored_range(const RankMemory& memory,
                           const std::function<void(Stored, const TensorRange&, kernels::Tensor)>& fn);

// Whether a rank makes, beside a server, the same updates.
bool is_replica_of_server(const plan::PlanGraph& graph, plan::Rank rank);

// Calls fn(the optimizer's op, piece, elements further on in the op's operands) for the pieces that this rank, of all
// that hold the same, answers for: over all ranks of a replica, each element of each tensor once. `of`: all replicas
// that drift apart, or the first; in_its_place: as if the rank were the server that it is a replica of.
enum class Replicas : std::uint8_t { first, all, in_its_place };
void for_each_counted_piece(const RankMemory& memory, Replicas of,
                            const std::function<void(const OpCall&, const plan::Piece&, std::int64_t)>& fn);

}  // namespace foretrain::exec
