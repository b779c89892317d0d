#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "plan/schedule.h"

namespace foretrain::plan {

namespace {

using Unit = std::pair<std::int32_t, std::int32_t>;  // (virtual stage, microbatch)

// Numbered copies, the lowest free one first.
class Copies {
 public:
  // The unit's copy, taken where it `begins` and given back where it `ends`.
  std::int32_t next(const Unit& unit, const Action& a, bool begins, bool ends) {
    if (begins) {
      if (free_.empty()) {
        free_.insert(count_++);
      }
      held_[unit] = *free_.begin();
      free_.erase(free_.begin());
    }
    const auto at = held_.find(unit);
    CHECK(at != held_.end(), "{} without what comes before it", to_text(a));
    const std::int32_t copy = at->second;
    if (ends) {
      free_.insert(copy);
      held_.erase(at);
    }
    return copy;
  }
  std::int32_t count() const { return count_; }

 private:
  std::map<Unit, std::int32_t> held_;
  std::set<std::int32_t> free_;
  std::int32_t count_ = 0;
};

}  // namespace

std::vector<std::int32_t> placement(const Schedule& s, int stages) {
  std::vector<std::int32_t> rank_of_stage;
  for (int stage = 0; stage < stages; ++stage) {
    rank_of_stage.push_back(stage % static_cast<int>(s.size()));
  }
  for (std::size_t rank = 0; rank < s.size(); ++rank) {
    for (const Action& a : s[rank]) {
      rank_of_stage[static_cast<std::size_t>(a.stage)] = static_cast<std::int32_t>(rank);
    }
  }
  return rank_of_stage;
}

CopyAssignment assign_copies(const std::vector<Action>& row) {
  CopyAssignment result;
  Copies slots, holds, rings;
  for (const Action& a : row) {
    const Unit unit{a.stage, a.microbatch};
    const bool forward = a.kind == ActionKind::forward, weight = a.kind == ActionKind::backward_weight;
    const bool input = a.kind == ActionKind::backward || a.kind == ActionKind::backward_input;
    const bool last = a.kind == ActionKind::backward || weight;
    result.slot.push_back(weight ? -1 : slots.next(unit, a, forward, input));
    result.hold.push_back(holds.next(unit, a, forward, last));
    result.ring.push_back(forward ? -1 : rings.next(unit, a, input, last));
  }
  result.slots = slots.count();
  result.holds = holds.count();
  result.rings = rings.count();
  return result;
}

}  // namespace foretrain::plan
