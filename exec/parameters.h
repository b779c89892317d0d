// Parameters and gradients across ranks: initial values from a seed, gathering, and copying from one run to another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "exec/executor.h"
#include "exec/op_call.h"

namespace foretrain::exec {

// Sets the rank's parameters and master weights. A value depends on the seed, the tensor's number and the element's
// place in the whole tensor only, so that every way to shard starts from the same weights.
void initialise_parameters(const RankContext& rank, std::byte* arena, std::uint64_t seed);

// A rank's memory.
struct RankMemory {
  const RankContext* rank = nullptr;
  std::byte* arena = nullptr;
};

enum class Quantity : std::uint8_t { gradient, parameter };

// Whole tensors, put together from the ranks that own their parts: by tensor number, those that the graph has.
// Gradients are what the optimizer reads; parameters what the forward pass reads.
std::vector<FullTensor> gather(const plan::PlanGraph& graph, const std::vector<RankMemory>& ranks, Quantity quantity);

// Copies the parameters of one run into those of another run of the same model; the strategies may differ, `to` has one
// rank. Element types must be equal.
void copy_parameters(const plan::PlanGraph& from_graph, const std::vector<RankMemory>& from, const RankMemory& to);

}  // namespace foretrain::exec
