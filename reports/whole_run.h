// A training run from its first token to its last: what it takes when devices fail, checkpoints are written and ranks
// fall behind (search/whole_run.h computes it). Part of foretrain.estimate/1, and the same for people.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"

namespace foretrain::reports {

// One figure over the sampled runs. `expected`: its mean in closed form, which the samples' mean must come to.
struct Spread {
  double mean = 0, p5 = 0, p50 = 0, p95 = 0;
  double expected = 0;
};

// Where the elapsed time goes; sums to it. Seconds.
struct RunShares {
  double useful = 0;      // steps at the forecast's speed
  double checkpoint = 0;  // writing them
  double lost = 0;        // work since the last checkpoint, done again
  double restart = 0;     // until the failure is found, nodes are replaced, the checkpoint is read
  double stragglers = 0;  // slow spells of devices, and steps slower than the median one

  double elapsed() const { return useful + checkpoint + lost + restart + stragglers; }
  double training() const { return useful + stragglers; }
  RunShares& operator+=(const RunShares& o);
  RunShares scaled(double factor) const;
};

struct ComponentFailures {
  std::string name, kind;
  Spread count;
};

// How often checkpoints are written, and why so often.
struct CheckpointPlan {
  Bytes state;
  double write_seconds = 0;
  std::string write_source;  // of write_seconds
  std::int64_t interval_steps = 0;
  double interval_seconds = 0;  // between the ends of two writes, without the write
  bool is_given = false;        // by the user
  // Of the shortest expected run, and what two formulas say: Young (1974) sqrt(2 w M); Daly (2006) his higher order.
  std::int64_t best_steps = 0;
  double best_seconds = 0, young_seconds = 0, daly_seconds = 0;
};

struct WholeRun {
  double tokens = 0, tokens_per_step = 0;
  std::string counted_in;  // "tokens"
  std::int64_t steps = 0, devices = 0;
  double step_seconds = 0;
  double ideal_seconds = 0;  // if nothing ever went wrong and nothing was saved
  // The step's error band over its forecast; not known: NaN.
  double band_low = 0, band_high = 0;

  Spread elapsed_seconds, device_hours, failures, planned_stops;
  Spread goodput, training;  // useful time over elapsed; and with slow steps, as some publish it
  RunShares mean, expected;  // of the elapsed time
  std::optional<double> price;
  Spread money;
  std::optional<double> device_watts, facility_watts;  // of one device while it trains; with node and building
  Spread energy_kwh;                                   // of the facility; device_watts known
  double device_share_of_energy = 0;
  std::vector<ComponentFailures> components;
  CheckpointPlan checkpoint;
  double restart_seconds = 0;  // mean, with reading the checkpoint
  std::vector<std::string> sites;
  double mtbf_seconds = 0, shortest_mtbf = 0, longest_mtbf = 0;  // of the job: at the sites' mean rate, and at each
  std::int64_t runs = 0, seed = 0;
  std::vector<std::string> sources;
};

// "54.2 days", "3.1 h", "12.4 min", "45.0 s".
std::string duration(double seconds);

nlohmann::ordered_json to_json(const WholeRun& r);
std::string to_text(const WholeRun& r, bool colour);

}  // namespace foretrain::reports
