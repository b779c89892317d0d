// What the link between hosts gives a run: measured by sums over all processes, as the executor does them. Sees no job.
#pragma once

#include "base/units.h"
#include "exec/processes.h"

namespace foretrain::exec {

struct LinkFigures {
  int hosts = 0;
  Bandwidth bandwidth;  // nominal: of a host's link, one way, while as much goes the other way; frames, not only data
  Time latency;         // of a small message, from a rank on one host to a rank on another
};

// All processes together, the same number on each host. Throws InputError when they live on one host, or unevenly.
LinkFigures measure_link(Processes& processes);

}  // namespace foretrain::exec
