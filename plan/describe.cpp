#include <fmt/format.h>

#include "plan/dump.h"
#include "plan/locate.h"
#include "plan/op_text.h"

namespace foretrain::plan {

std::string describe(const PlanGraph& g, OpId id) {
  const Place place = locate(g, id);
  if (place.op == nullptr) {
    return fmt::format("no op {}.{}.{}", id.role, id.instance, id.position);
  }
  const Role& role = g.roles[static_cast<std::size_t>(id.role)];
  const Instance& instance = *instance_at(role, id.instance);
  std::string text = role.name + ", " + role.segments[static_cast<std::size_t>(instance.segment)].name;
  if (place.binding.microbatch >= 0) {
    text += fmt::format(" mb {}", place.binding.microbatch);
  }
  if (place.layer >= 0) {
    text += fmt::format(", layer {}", role.global_layer[static_cast<std::size_t>(place.layer)]);
  }
  return text + fmt::format(", {} ({})", op_text(g, *place.op), name(place.op->phase));
}

}  // namespace foretrain::plan
