// The best plan of a space, under the model, and the proof.
//
// Shapes are taken in the order of their bounds (search/shape_bound.h), in batches of a fixed size, so that the result
// does not depend on the number of cores. Of each shape every tail is judged: by its bound on memory, then built, by
// what the graph takes at least, by closed forms of communication (which no shared link makes shorter), by the whole
// simulation, and by its memory, replayed. It ends when no bound that is left is below the best plan's time: then no
// plan of the space is faster, and the search is exact. Interrupted, it says how far it can be from that.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "plan/breakdown.h"
#include "plan/device_memory.h"
#include "search/plan_space.h"
#include "search/shape_bound.h"

namespace foretrain::search {

// A plan that was simulated and fits.
struct Found {
  Shape shape;
  Tail tail;
  nlohmann::json strategy;  // as in a job file
  Time step_time;
  Bytes memory;             // demanded of the fullest device
  plan::Breakdown breakdown;  // mean over ranks
};

struct Progress {
  double fraction = 0;  // of the shapes
  std::int64_t judged = 0, simulated = 0;
  const Found* best = nullptr;
};

struct SearchOptions {
  std::vector<std::string> axes;                 // "tp=2,4"
  std::size_t kept = 10;                         // best plans
  const std::atomic<bool>* interrupted = nullptr;
  std::function<void(const Progress&)> on_progress;
};

struct SearchResult {
  PlanSpace space;
  std::vector<Found> best;          // fastest first; empty: nothing fits
  std::vector<Found> pareto;        // of the plans that were simulated: none is faster and needs less memory
  std::vector<Found> nearest_miss;  // where nothing fits: the plan that demands least
  std::int64_t judged = 0, simulated = 0;
  Rejected rejected;
  Time best_possible;  // no plan of the space is faster
  bool proved = false;
  double wall_seconds = 0;
};

// Throws InputError for a space without any plan that the job allows, with why.
SearchResult search(const plan::OpenJob& open, const SearchOptions& options);

}  // namespace foretrain::search
