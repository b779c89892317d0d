#include "search/pipeline_rows.h"

#include <algorithm>
#include <set>

namespace foretrain::search {

namespace {

// From here on every microbatch more of 1F1B takes no less than the busiest rank's work
// (tests/search/pipeline_rows_test.cpp).
constexpr std::int64_t kWalkedRounds = 4;
constexpr std::int64_t kMostActions = 200'000;  // a few milliseconds

// A name of none is the path of one.
plan::ScheduleKind kind_of(const Shape& s) {
  for (const plan::ScheduleKind kind :
       {plan::ScheduleKind::gpipe, plan::ScheduleKind::one_f_one_b, plan::ScheduleKind::interleaved,
        plan::ScheduleKind::zb_h1, plan::ScheduleKind::zb_h2, plan::ScheduleKind::zb_v, plan::ScheduleKind::dualpipe_v,
        plan::ScheduleKind::dualpipe}) {
    if (s.schedule == plan::name(kind)) {
      return kind;
    }
  }
  return plan::ScheduleKind::text;
}

plan::Schedule schedule_of(const Shape& s, std::int64_t microbatches) {
  plan::Strategy strategy;
  strategy.pp = s.pp;
  strategy.virtual_stages = s.virtual_stages;
  strategy.overlap_ep = s.overlap_ep;
  strategy.schedule = kind_of(s);
  strategy.schedule_path = strategy.schedule == plan::ScheduleKind::text ? s.schedule : "";
  return plan::make_schedule(strategy, static_cast<int>(microbatches));
}

// Of a schedule in a file, all: it is written for so many.
std::int64_t few(const Shape& s) {
  return kind_of(s) == plan::ScheduleKind::text ? s.microbatches : std::min(s.microbatches, kWalkedRounds * s.pp);
}

}  // namespace

const PipelineRows::Rows& PipelineRows::rows(const Shape& s, std::int64_t microbatches) {
  const std::lock_guard lock(mutex_);
  const auto [at, is_new] = rows_.try_emplace({microbatches, s.pp, s.virtual_stages, s.overlap_ep, s.schedule});
  Rows& r = at->second;
  if (is_new) {
    r.schedule = schedule_of(s, microbatches);
    r.room = plan::room_of(r.schedule);
    r.microbatches = microbatches;
    for (const std::vector<plan::Action>& row : r.schedule) {
      std::int64_t open = 0;
      for (const plan::Action& a : row) {
        open += a.kind == plan::ActionKind::forward ? 1 : a.kind == plan::ActionKind::backward_input ? 0 : -1;
        r.in_flight = std::max(r.in_flight, open);
      }
    }
  }
  return r;
}

std::vector<std::int64_t> PipelineRows::walk(const Shape& shape, const std::vector<plan::Durations>& by_stage,
                                             std::int64_t microbatches) {
  const Rows& r = rows(shape, microbatches);
  const plan::ScheduleTimes t = plan::times(r.schedule, r.room, by_stage);
  std::vector<std::int64_t> all;
  std::int64_t busiest = 0;
  for (std::size_t rank = 0; rank < r.schedule.size(); ++rank) {
    const plan::Action& last = r.schedule[rank].back();
    all.push_back(t.start[rank].back() + by_stage[static_cast<std::size_t>(last.stage)].of(last.kind) -
                  t.start[rank].front());
    busiest = std::max(busiest, (all.back() - t.waits[rank]) / microbatches);
  }
  for (std::int64_t& took : all) {
    took += (shape.microbatches - microbatches) * busiest;
  }
  return all;
}

// 1F1B, by way of each rank: the first forward's way there, all that the rank does, its forwards' waits for what sets
// out when the action before has ended, the last backward's way back.
std::int64_t PipelineRows::least_through(const Rows& r, const Shape& shape,
                                         const std::vector<plan::Durations>& by_stage) {
  const auto at = [&](std::size_t stage) -> const plan::Durations& { return by_stage[stage]; };
  const auto arrival = [&](std::size_t stage) { return at(stage - 1).message - at(stage).forward_lead; };
  std::int64_t longest = 0, ways = 0;
  for (std::size_t rank = 0; rank < r.schedule.size(); ++rank) {
    if (rank > 0) {
      ways +=
          at(rank - 1).forward + arrival(rank) + at(rank).message - at(rank - 1).backward_lead + at(rank - 1).backward;
    }
    std::int64_t takes = 0;
    const std::vector<plan::Action>& row = r.schedule[rank];
    for (std::size_t i = 0; i < row.size(); ++i) {
      const plan::Action& a = row[i];
      const auto stage = static_cast<std::size_t>(a.stage);
      const bool waits = shape.pp > 1 && a.kind == plan::ActionKind::forward && stage > 0 && i > 0 &&
                         r.room[rank][i] == static_cast<std::int32_t>(i) - 1;
      // The microbatches that are not in the rows are like the last one that is.
      const std::int64_t times = a.microbatch + 1 == r.microbatches ? 1 + shape.microbatches - r.microbatches : 1;
      takes += times * (at(stage).of(a.kind) + (waits ? std::max<std::int64_t>(0, arrival(stage)) : 0));
    }
    longest = std::max(longest, ways + takes);
  }
  return longest;
}

std::vector<std::int64_t> PipelineRows::guess_by_rank(const Shape& shape,
                                                      const std::vector<plan::Durations>& by_stage) {
  return walk(shape, by_stage, few(shape));
}

std::vector<std::int64_t> PipelineRows::least_by_rank(const Shape& shape,
                                                      const std::vector<plan::Durations>& by_stage) {
  const plan::ScheduleKind kind = kind_of(shape);
  if (kind == plan::ScheduleKind::one_f_one_b || kind == plan::ScheduleKind::interleaved) {
    std::vector<std::int64_t> all = guess_by_rank(shape, by_stage);
    // Rank 0 is the first to begin and the last to end.
    all.front() = std::max(all.front(), least_through(rows(shape, few(shape)), shape, by_stage));
    return all;
  }
  if (is_short(shape, by_stage)) {
    return walk(shape, by_stage, shape.microbatches);
  }
  const Rows& r = rows(shape, few(shape));
  std::vector<std::int64_t> all;
  for (const std::vector<plan::Action>& row : r.schedule) {
    std::int64_t work = 0;
    for (const plan::Action& a : row) {
      work += by_stage[static_cast<std::size_t>(a.stage)].of(a.kind);
    }
    all.push_back(work / few(shape) * shape.microbatches);
  }
  return all;
}

bool PipelineRows::is_short(const Shape& shape, const std::vector<plan::Durations>& by_stage) {
  return 3 * shape.microbatches * std::ssize(by_stage) <= kMostActions;
}

std::vector<std::int64_t> PipelineRows::walked_by_rank(const Shape& shape,
                                                       const std::vector<plan::Durations>& by_stage) {
  return is_short(shape, by_stage) ? walk(shape, by_stage, shape.microbatches) : least_by_rank(shape, by_stage);
}

std::vector<std::int32_t> PipelineRows::stages_of(const Shape& shape, std::size_t rank) {
  std::set<std::int32_t> stages;
  for (const plan::Action& a : rows(shape, few(shape)).schedule[rank]) {
    stages.insert(a.stage);
  }
  return {stages.begin(), stages.end()};
}

std::int64_t PipelineRows::in_flight(const Shape& shape) {
  return rows(shape, few(shape)).in_flight;
}

}  // namespace foretrain::search
