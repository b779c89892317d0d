// Schedules of pipelines for bounds: what a step's microbatches take at least, and hold, where actions take given
// times.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "plan/schedule.h"
#include "plan/schedule_times.h"
#include "search/plan_space.h"

namespace foretrain::search {

class PipelineRows {
 public:
  // Of each rank, from its first action to its last. `by_stage`: of the virtual stages. Of 1F1B and its interleaved
  // form only the first microbatches are walked: each of the others takes at least what the busiest rank has to do for
  // it. Of other schedules that are too long for a walk, what each rank has to do. REQUIRES: a schedule of one copy of
  // the model (not dualpipe).
  std::vector<std::int64_t> least_by_rank(const Shape& shape, const std::vector<plan::Durations>& by_stage);
  // The same from a walk of all, where that is not too long.
  std::vector<std::int64_t> walked_by_rank(const Shape& shape, const std::vector<plan::Durations>& by_stage);
  // The same, always from the first microbatches alone: about right, and no bound.
  std::vector<std::int64_t> guess_by_rank(const Shape& shape, const std::vector<plan::Durations>& by_stage);
  // The rank's, ascending.
  std::vector<std::int32_t> stages_of(const Shape& shape, std::size_t rank);
  // Forwards of a chunk that wait for their backward on a rank, at most.
  std::int64_t in_flight(const Shape& shape);

 private:
  struct Rows {
    plan::Schedule schedule;
    plan::Room room;
    std::int64_t microbatches = 0, in_flight = 1;
  };
  static bool is_short(const Shape& shape, const std::vector<plan::Durations>& by_stage);
  static std::int64_t least_through(const Rows& rows, const Shape& shape, const std::vector<plan::Durations>& by_stage);
  const Rows& rows(const Shape& shape, std::int64_t microbatches);
  std::vector<std::int64_t> walk(const Shape& shape, const std::vector<plan::Durations>& by_stage,
                                 std::int64_t microbatches);

  std::mutex mutex_;
  // By what of a shape they have in common: microbatches, pp, virtual_stages, overlap_ep, schedule.
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t, bool, std::string>, Rows> rows_;
};

}  // namespace foretrain::search
