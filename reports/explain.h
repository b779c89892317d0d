// Why a step takes as long as it does and what would make it shorter (foretrain.explain/1), and tables of sweeps
// (foretrain.sweep/1): what search/ found, as documents and for people.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "reports/estimate.h"
#include "reports/table.h"

namespace foretrain::reports {

// Ops of one kind over one kind of link, all of the critical path's together.
struct PathPart {
  std::string kind;  // "matmul", "all_reduce"; "" where nothing ran: hosts that submit ops
  std::string link;  // of communication: "tp, in the node", "pp, between nodes"; else ""
  std::int64_t ops = 0;
  Time time;
};

struct ResourceGain {
  std::string name, words;  // "peak_flops", "peak FLOP/s"
  double factor = 1;        // times as much of it
  Time step_time;
  double gain = 0;  // of the step time; > 0: shorter
  std::string why;  // of none
};

struct PlanChange {
  std::string what;                    // "no recomputation"
  std::vector<std::string> overrides;  // "strategy.recompute=none"
};

struct ChangedPlan {
  PlanChange change;
  Bytes demand;  // of the fullest device
  bool fits = false;
  bool fits_with_more = false;  // where memory had a tenth more
  Time step_time;
  double gain = 0;  // of the step time; > 0: shorter
};

struct Explanation {
  const Estimate* estimate = nullptr;  // must outlive it
  std::vector<PathPart> path;          // the longest first; sums to a step
  std::vector<ResourceGain> resources;
  std::vector<ChangedPlan> changes;  // the shortest steps first, also such as do not fit or help
  bool interrupted = false;          // resources and changes that were not simulated by then are missing
};

nlohmann::ordered_json to_json(const ResourceGain& r);
// A row for each, in order; the last column says why one gains nothing.
Table resources_table(const std::vector<ResourceGain>& resources);

nlohmann::ordered_json to_json(const Explanation& e);
std::string to_text(const Explanation& e, bool colour);

struct SweepAxis {
  std::string field;  // "strategy.tp"
  std::vector<std::string> values;
};

struct SweepRow {
  std::vector<std::string> values;  // by axis
  std::string refused;              // why there is no such job; the rest is then empty
  Time step_time;
  double tokens_per_second = 0, mfu = 0;
  Bytes demand, capacity;
  bool fits = false;
};

struct Sweep {
  std::vector<SweepAxis> axes;
  bool dp_follows = false;             // other axes of the mesh are swept, and dp is what the devices leave
  std::vector<SweepRow> rows;          // the last axis fastest
  std::vector<std::string> no_effect;  // by axis: why its values make no difference; "" where they do
};

nlohmann::ordered_json to_json(const Sweep& s);
std::string to_text(const Sweep& s, bool colour);

}  // namespace foretrain::reports
