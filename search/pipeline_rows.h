// Schedules of pipelines for bounds: what a step's microbatches take at least, and hold, where actions take given
// times.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "plan/schedule.h"
#include "plan/schedule_times.h"
#include "search/plan_space.h"

namespace foretrain::search {

class PipelineRows {
 public:
  // Of each rank, from its first action to its last. Of more than a few microbatches only the first are walked; each of
  // the others takes at least what the busiest rank has to do for it. `by_stage`: of the virtual stages. REQUIRES: a
  // schedule of one copy of the model (not dualpipe).
  std::vector<std::int64_t> least_by_rank(const Shape& shape, const std::vector<plan::Durations>& by_stage);
  // The rank's, ascending.
  std::vector<std::int32_t> stages_of(const Shape& shape, std::size_t rank);
  // Forwards of a chunk that wait for their backward on a rank, at most.
  std::int64_t in_flight(const Shape& shape);

 private:
  struct Rows {
    plan::Schedule schedule;
    std::int64_t microbatches = 0, in_flight = 1;
  };
  const Rows& rows(const Shape& shape);

  std::mutex mutex_;
  std::map<std::string, Rows> rows_;  // by what of a shape they have in common
};

}  // namespace foretrain::search
