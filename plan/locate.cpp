#include "plan/locate.h"

#include <cstddef>

namespace foretrain::plan {

const Instance* instance_at(const Role& role, std::int32_t instance) {
  if (instance < 0) {
    return nullptr;
  }
  std::size_t i = static_cast<std::size_t>(instance);
  for (const std::vector<Instance>* list :
       {&role.program.prologue, &role.program.body, &role.program.epilogue, &role.program.evaluation}) {
    if (i < list->size()) {
      return &(*list)[i];
    }
    i -= list->size();
  }
  return nullptr;
}

Place locate(const PlanGraph& graph, OpId id) {
  if (id.role < 0 || static_cast<std::size_t>(id.role) >= graph.roles.size() || id.position < 0) {
    return {};
  }
  const Role& role = graph.roles[static_cast<std::size_t>(id.role)];
  const Instance* instance = instance_at(role, id.instance);
  if (instance == nullptr) {
    return {};
  }
  std::int64_t rest = id.position;
  const Segment& segment = role.segments[static_cast<std::size_t>(instance->segment)];
  for (const BlockCall& call : segment.calls) {
    const Block& block = role.blocks[static_cast<std::size_t>(call.block)];
    const std::int64_t size = static_cast<std::int64_t>(block.ops.size());
    if (rest < size * call.count) {
      Place place;
      place.block = call.block;
      place.op_in_block = static_cast<int>(rest % size);
      place.iteration = static_cast<std::int32_t>(rest / size);
      place.binding = bind(segment, *instance, call, place.iteration);
      place.layer = place.binding.layer;
      place.op = &block.ops[static_cast<std::size_t>(place.op_in_block)];
      return place;
    }
    rest -= size * call.count;
  }
  return {};
}

}  // namespace foretrain::plan
