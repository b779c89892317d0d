// One rank's place in a graph, and its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "exec/communicator.h"
#include "exec/executor.h"
#include "kernels/tensor.h"
#include "plan/graph.h"
#include "plan/sequence_share.h"

namespace foretrain::exec {

// What the ops of one rank need to know beside their operands. Outlives every call that points to it.
struct RankContext {
  const plan::PlanGraph* graph = nullptr;
  const plan::Role* role = nullptr;
  plan::Rank rank = 0;
  plan::Coordinates coordinates{};
  std::vector<GroupView> groups;  // by GroupId
  // Of the run in progress.
  const DataSource* data = nullptr;
  const StateKeeper* keeper = nullptr;
  std::uint64_t seed = 0;  // of initial values, and of what is rounded by chance

  // Of the sharded dimension an op names; 0 of 1 for kNoGroup.
  int index_in(plan::GroupId group) const {
    return group == plan::kNoGroup ? 0 : groups[static_cast<std::size_t>(group)].index;
  }
  int size_of(plan::GroupId group) const {
    return group == plan::kNoGroup ? 1 : groups[static_cast<std::size_t>(group)].size();
  }
  plan::SequenceShare share_in(plan::GroupId group, std::int64_t tokens) const {
    return {tokens, index_in(group), size_of(group)};
  }
};

RankContext rank_context(const plan::PlanGraph& graph, plan::Rank rank);

// The same tensor from `elements` on.
inline kernels::Tensor advanced(const kernels::Tensor& t, std::int64_t elements) {
  return t ? kernels::Tensor{static_cast<std::byte*>(t.data) + size_bytes(t.dtype, elements), t.dtype} : t;
}

// A rank's memory: its arena, which may be a GPU's, and the buffers on the host.
struct RankMemory {
  const RankContext* rank = nullptr;
  std::byte* arena = nullptr;
  std::byte* host = nullptr;
  Gpu* gpu = nullptr;  // whose memory the arena is; nullptr: the host's

  // What lies so many bytes into the memory plan, whose host buffers begin where the arena ends.
  std::byte* at(std::int64_t offset) const;
  bool is_on_gpu(const void* address) const;

  // Between the host's own memory and the rank's; on a GPU beside all streams.
  void read(const void* from, void* to, std::int64_t bytes) const;
  void write(const void* from, void* to, std::int64_t bytes) const;
  void fill(std::byte* begin, std::byte* end, int byte) const;
};

// Memory of the host's alone, where host buffers lie behind the arena.
RankMemory host_memory_of(const RankContext& rank, std::byte* arena);

// Call fn with the elements, or a copy of them, where the host reaches them: to read them; or to write all of them,
// whatever they were.
void read_on_host(const RankMemory& memory, kernels::ConstTensor tensor, std::int64_t elements,
                  const std::function<void(kernels::ConstTensor)>& fn);
void write_on_host(const RankMemory& memory, kernels::Tensor tensor, std::int64_t elements,
                   const std::function<void(kernels::Tensor)>& fn);

}  // namespace foretrain::exec
