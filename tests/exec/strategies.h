// Every strategy that is executed, for tests that go through all of them.
#pragma once

#include <vector>

#include "tests/exec/overrides.h"

namespace foretrain::testing {

struct Strategy {
  const char* name;
  Overrides overrides;
};

// To be joined with kBase. Small buckets, so that every layer has its own.
const std::vector<Strategy>& strategies();

// Whether a product of some of them is refused: weight gradients that come later than input gradients would be whole
// until then, and so would the head's of a loss in chunks whose forwards follow each other; what is summed elsewhere
// than in an all-reduce goes with little else; owners broadcast after the update; a ring's attention is not computed
// again by itself, and has no window and no documents; sinks stand behind flash attention.
bool is_refused(const Overrides& overrides);

}  // namespace foretrain::testing
