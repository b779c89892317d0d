#include "tests/support/simgrid.h"

namespace foretrain::sim {

std::optional<FlowRun> run_simgrid(const Platform&, Traffic&, SimgridUpdate, int) {
  return std::nullopt;
}

}  // namespace foretrain::sim
