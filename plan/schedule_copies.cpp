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
  std::int32_t take(const Unit& unit) {
    if (free_.empty()) {
      free_.insert(count_++);
    }
    const std::int32_t copy = *free_.begin();
    free_.erase(free_.begin());
    held_[unit] = copy;
    return copy;
  }
  std::int32_t held(const Unit& unit, const Action& a) const {
    const auto at = held_.find(unit);
    CHECK(at != held_.end(), "{} without what comes before it", to_text(a));
    return at->second;
  }
  void release(const Unit& unit) {
    const auto at = held_.find(unit);
    free_.insert(at->second);
    held_.erase(at);
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
  Copies slots, rings;
  for (const Action& a : row) {
    const Unit unit{a.stage, a.microbatch};
    const bool begins = a.kind == ActionKind::backward || a.kind == ActionKind::backward_input;
    const bool ends = a.kind == ActionKind::backward || a.kind == ActionKind::backward_weight;
    result.slot.push_back(a.kind == ActionKind::forward ? slots.take(unit) : slots.held(unit, a));
    result.ring.push_back(a.kind == ActionKind::forward ? -1 : begins ? rings.take(unit) : rings.held(unit, a));
    if (ends) {
      slots.release(unit);
      rings.release(unit);
    }
  }
  result.slots = slots.count();
  result.rings = rings.count();
  return result;
}

}  // namespace foretrain::plan
