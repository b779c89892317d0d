#include "tests/support/packet_level.h"

namespace foretrain::sim {

std::optional<FlowRun> run_packets(const LeafSpine&, Traffic&) {
  return std::nullopt;
}

}  // namespace foretrain::sim
