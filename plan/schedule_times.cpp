#include "plan/schedule_times.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace foretrain::plan {

namespace {

// When the next stage has what it waits for, by (stage, is forward, microbatch). A weight gradient leaves nothing.
class Outputs {
 public:
  static constexpr std::int64_t kNotYet = -1;

  Outputs(std::size_t stages, std::size_t microbatches)
      : microbatches_(microbatches), ends_(2 * stages * microbatches, kNotYet) {}

  std::int64_t& at(std::int32_t stage, bool is_forward, std::int32_t microbatch) {
    return ends_[(static_cast<std::size_t>(stage) * 2 + (is_forward ? 1 : 0)) * microbatches_ +
                 static_cast<std::size_t>(microbatch)];
  }

 private:
  std::size_t microbatches_;
  std::vector<std::int64_t> ends_;
};

}  // namespace

std::int64_t Durations::of(ActionKind kind) const {
  return kind == ActionKind::forward          ? forward
         : kind == ActionKind::backward       ? backward
         : kind == ActionKind::backward_input ? backward_input
                                              : backward_weight;
}

Room room_of(const Schedule& s) {
  Room room;
  for (const std::vector<Action>& row : s) {
    const CopyAssignment copies = assign_copies(row);
    const bool splits =
        std::any_of(row.begin(), row.end(), [](const Action& a) { return a.kind == ActionKind::backward_input; });
    std::vector<std::int32_t>& by = room.emplace_back(row.size(), -1);
    std::vector<std::int32_t> slot_left(static_cast<std::size_t>(copies.slots), -1), ring_left(kRings, -1);
    std::size_t ring = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (row[i].kind == ActionKind::backward_weight) {
        continue;
      }
      std::int32_t& slot = slot_left[static_cast<std::size_t>(copies.slot[i])];
      if (row[i].kind == ActionKind::forward) {
        by[i] = slot;
        continue;
      }
      slot = static_cast<std::int32_t>(i);
      if (!splits) {
        by[i] = std::exchange(ring_left[ring], slot);
        ring = (ring + 1) % kRings;
      }
    }
  }
  return room;
}

ScheduleTimes times(const Schedule& s, const Durations& durations, int ways) {
  std::int32_t stages = 0;
  for (const std::vector<Action>& row : s) {
    for (const Action& a : row) {
      stages = std::max(stages, a.stage + 1);
    }
  }
  return times(s, std::vector<Durations>(static_cast<std::size_t>(stages), durations), ways);
}

ScheduleTimes times(const Schedule& s, const std::vector<Durations>& by_stage, int ways) {
  return times(s, room_of(s), by_stage, ways);
}

ScheduleTimes times(const Schedule& s, const Room& room, const std::vector<Durations>& by_stage, int ways) {
  std::int32_t microbatches = 0;
  std::vector<std::size_t> rank_of(by_stage.size());
  for (std::size_t rank = 0; rank < s.size(); ++rank) {
    for (const Action& a : s[rank]) {
      microbatches = std::max(microbatches, a.microbatch + 1);
      rank_of[static_cast<std::size_t>(a.stage)] = rank;
    }
  }
  const auto length = static_cast<std::int32_t>(by_stage.size()) / ways;
  ScheduleTimes t{std::vector<std::vector<std::int64_t>>(s.size()), std::vector<std::int64_t>(s.size(), 0), 0};
  Outputs done(by_stage.size(), static_cast<std::size_t>(microbatches));
  std::vector<std::int64_t> clock(s.size(), 0);
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t rank = 0; rank < s.size(); ++rank) {
      std::vector<std::int64_t>& start = t.start[rank];
      start.reserve(s[rank].size());
      for (; start.size() < s[rank].size(); moved = true) {
        const Action& a = s[rank][start.size()];
        const bool is_forward = a.kind == ActionKind::forward, is_weight = a.kind == ActionKind::backward_weight;
        std::int64_t begin = clock[rank];
        if (!is_weight && a.stage % length != (is_forward ? 0 : length - 1)) {
          const std::int32_t from = a.stage + (is_forward ? -1 : 1);
          std::int64_t there = done.at(from, is_forward, a.microbatch);
          if (there == Outputs::kNotYet) {
            break;
          }
          const auto sender = static_cast<std::size_t>(from);
          if (rank_of[sender] != rank) {
            if (const std::int32_t left_by = room[rank][start.size()]; left_by >= 0) {
              const auto l = static_cast<std::size_t>(left_by);
              const Action& before = s[rank][l];
              there = std::max(there, start[l] + by_stage[static_cast<std::size_t>(before.stage)].of(before.kind));
            }
            there += by_stage[sender].message;
          }
          const Durations& own = by_stage[static_cast<std::size_t>(a.stage)];
          begin = std::max(begin, there - (is_forward ? own.forward_lead : own.backward_lead));
        }
        t.waits[rank] += start.empty() ? 0 : begin - clock[rank];
        start.push_back(begin);
        clock[rank] = begin + by_stage[static_cast<std::size_t>(a.stage)].of(a.kind);
        if (!is_weight) {
          done.at(a.stage, is_forward, a.microbatch) = clock[rank];
        }
      }
    }
  }
  for (std::size_t rank = 0; rank < s.size(); ++rank) {
    CHECK(t.start[rank].size() == s[rank].size(), "pipeline rank {} waits for ever", rank);
    t.makespan = std::max(t.makespan, clock[rank]);
  }
  return t;
}

}  // namespace foretrain::plan
