#include "sim/actor.h"

#include <fmt/format.h>

namespace foretrain::sim {

std::string unfinished(const std::vector<Actor>& actors, const std::vector<StreamState>& streams) {
  std::string waiting;
  for (const Actor& a : actors) {
    for (std::int32_t i = 0; i < a.streams; ++i) {
      const StreamState& s = streams[static_cast<std::size_t>(a.first_stream + i)];
      if (s.state != StreamState::State::finished) {
        waiting += fmt::format("{}{} {}.{}", waiting.empty() ? "" : ", ", a.role->name, s.op->instance, s.op->position);
      }
    }
  }
  return waiting;
}

}  // namespace foretrain::sim
