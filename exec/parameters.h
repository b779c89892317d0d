// Parameters and gradients across ranks: initial values from a seed, and gathering.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "exec/executor.h"
#include "exec/pieces.h"

namespace foretrain::exec {

// Sets the rank's parameters and master weights. A value depends on the seed, the tensor's number and the element's
// place in the whole tensor only, so that every way to shard starts from the same weights.
void initialise_parameters(const RankMemory& memory, std::uint64_t seed);

enum class Quantity : std::uint8_t { gradient, parameter };

// What these ranks answer for of whole tensors, as bytes for another process. Gradients are what the optimizer reads;
// parameters what the forward pass reads.
std::string owned_parts(const std::vector<RankMemory>& ranks, Quantity quantity);
// Whole tensors, put together from ranks here and from what others have sent: by tensor number, those that the graph
// has.
std::vector<FullTensor> gather(const plan::PlanGraph& graph, const std::vector<RankMemory>& ranks, Quantity quantity,
                               const std::vector<std::string>& of_others);

// The other way: sets parameters and master weights of all ranks from whole tensors; those of others stay.
void scatter(const plan::PlanGraph& graph, const std::vector<RankMemory>& ranks,
             const std::vector<FullTensor>& tensors);

// Element i of a tensor of a floating-point type.
double element(const kernels::ConstTensor& t, std::int64_t i);

}  // namespace foretrain::exec
