// What a plan takes at least, before it is built: of a step's time and of a device's memory. Both are bounds of what a
// simulation, and the replay of its memory, would say.
//
//   time    the pipeline's schedule, with what each stage takes at least (search/layer_probe.h) and messages that take
//   no
//           time. Under a power limit (sim/power_limit.h) at the clock of a plan that is as fast as one already found:
//           one that is faster computes a larger part of its time, and its clock is no higher.
//   memory  parameters, gradients and optimizer state of the layers, as zero shares them out, in the mean over stages;
//           what forwards keep until their backwards, of the rank that has most of them under way.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>

#include "base/units.h"
#include "search/layer_probe.h"
#include "search/pipeline_rows.h"
#include "search/plan_space.h"

namespace foretrain::search {

inline constexpr Time kNever{INT64_MAX};

struct Bound {
  Time step_time;
  Time guess;  // about right, for an order to begin with
  Bytes memory;
};

class ShapeBounds {
 public:
  // `rank_orders`: those of the plans. Exchanges of others than kRankOrder and kDataOutside are not bounded.
  explicit ShapeBounds(const plan::OpenJob& open, const std::vector<std::string>& rank_orders = {});
  ~ShapeBounds();

  // Of a plan that is to take less than `limit`: where step_time is not below that, there is none. At kNever only of
  // what its ranks compute, with a guess. Nothing where the job refuses a plan of this kind; why, is in `why` then.
  // From any thread.
  std::optional<Bound> bound(const Shape& shape, Time limit, std::string& why);
  // Of the shape, with this tail. REQUIRES: bound() gave one.
  Bytes memory(const Shape& shape, const Tail& tail);
  // The highest clock of a plan that takes less than `limit`; 1 without a power limit.
  double clock(const Shape& shape, Time limit);
  // All layers do the same ops, in a plan with any stages.
  bool has_like_layers(const Shape& shape);
  // Groups of ranks lie alike whether pp is outside dp or dp outside pp: what is inside both fills whole nodes, and no
  // way between two nodes is longer than another.
  bool has_like_orders(const Shape& shape) const;
  bool is_power_limited() const;
  PipelineRows& rows() { return rows_; }

 private:
  std::shared_ptr<LayerProbe> probe(const Shape& shape);
  std::vector<std::int64_t> layers(const Shape& shape, const LayerProbe& probe) const;
  Bound times(const Shape& shape, LayerProbe& probe, const std::vector<std::int64_t>& layers, Time limit);
  double clock(const Shape& shape, LayerProbe& probe, Time limit);

  const plan::OpenJob& open_;
  const bool has_usual_orders_;
  const bool has_like_ways_;  // between nodes
  PipelineRows rows_;
  std::mutex mutex_;
  // What shapes of one probe have in common: tp, cp, ep, micro_batch, sequence_parallel, whole_experts, recompute,
  // cp_kind.
  using ProbeKey =
      std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool, bool, std::string, std::string>;
  std::map<ProbeKey, std::shared_ptr<LayerProbe>> probes_;
};

}  // namespace foretrain::search
