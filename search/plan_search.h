// The best plan of a space, under the model, and the proof.
//
// Shapes are taken in the order of their bounds (search/shape_bound.h), first with one tail each, for a fast plan
// early, then with all, in batches of a fixed size, so that the result does not depend on the number of cores. A plan
// is judged by its bound on memory, then built, by what the graph takes at least (search/graph_bound.h), by closed
// forms of communication (which no shared link makes shorter), and, fastest first, by its memory, replayed, and by the
// whole simulation. It ends when no bound that is left is below the best plan's time: then no plan of the space is
// faster. Ended early, it says how far the best can be from that.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plan/breakdown.h"
#include "plan/device_memory.h"
#include "search/crew.h"
#include "search/plan_space.h"
#include "search/shape_bound.h"

namespace foretrain::search {

// A plan that was built; with its memory where that was replayed, and a time where it was simulated.
struct Found {
  std::size_t at = 0;  // among the shapes of the search
  Shape shape;
  Tail tail;
  Time in_any_order;          // at least, of it and of all that do the same ops
  Time alone;                 // at least, where links were shared with nobody
  std::size_t unlike = 0;     // sim::Options::unlike, from that
  Time step_time;             // simulated
  std::optional<bool> fits;   // known when its memory was replayed
  Bytes memory;               // demanded of the fullest device; at least, until then
  plan::Breakdown breakdown;  // mean over ranks
};

// What is known of the plans of one tp and pp.
struct Cell {
  std::optional<Time> step_time;  // of the fastest that fits and was simulated
  std::optional<Time> at_least;   // of any that fits, as far as bounds and the search say; nothing: none does
};

struct SearchProgress {
  double fraction = 0;  // of the shapes
  std::int64_t judged = 0, simulated = 0;
  const Found* best = nullptr;
};

struct SearchOptions {
  std::vector<std::string> axes;  // "tp=2,4"
  bool less_memory = false;       // also the fastest plans that do with less of a device's memory
  std::size_t kept = 10;          // best plans
  double within = 0;              // ends when no plan can be faster than the best by this part
  double most_seconds = 0;        // ends then; 0: never
  const std::atomic<bool>* interrupted = nullptr;
  Crew crew;  // all of which search alike
  std::function<void(const SearchProgress&)> on_progress;
};

// The fastest plan that demands no more than `limit`; nothing where none is found.
struct WithinMemory {
  Bytes limit;
  std::optional<Found> best;
  bool proved = false;
};
inline constexpr int kMemoryParts = 8;  // limits are eighths of a device's memory

struct SearchResult {
  PlanSpace space;
  std::vector<Found> best;    // fastest first, one of a shape; empty: nothing fits
  std::vector<Found> pareto;  // of the plans that were simulated: none is faster and needs less memory
  // Descending, where wished: each below what the one before demands, the last without a plan or at the least eighth.
  std::vector<WithinMemory> within_memory;
  std::map<std::pair<std::int64_t, std::int64_t>, Cell> cells;  // by tp and pp
  std::int64_t judged = 0, built = 0, simulated = 0;
  Rejected rejected;
  Time best_possible;  // no plan of the space is faster
  bool proved = false, interrupted = false;
  double wall_seconds = 0;
};

// Throws InputError for a word that is no axis.
SearchResult search(const plan::OpenJob& open, const SearchOptions& options);

// The plan that demands least memory, without a time; nothing where the job allows none. The first that fits into a
// device will do.
std::optional<Found> smallest(const plan::OpenJob& open, const SearchOptions& options);
// The same where it fits; nothing where none does, which takes less than to say which comes nearest.
std::optional<Found> smallest_that_fits(const plan::OpenJob& open, const SearchOptions& options);

}  // namespace foretrain::search
