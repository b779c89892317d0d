#include <algorithm>
#include <functional>

#include "base/error.h"
#include "plan/schedule.h"

namespace foretrain::plan {

namespace {

// Numbered copies, the lowest free one first.
class Copies {
 public:
  explicit Copies(std::size_t units) : held_(units, -1) {}
  // The unit's copy, taken where it `begins` and given back where it `ends`.
  std::int32_t next(std::size_t unit, const Action& a, bool begins, bool ends) {
    if (begins) {
      if (free_.empty()) {
        free_.push_back(count_++);
      }
      held_[unit] = free_.back();
      free_.pop_back();
    }
    const std::int32_t copy = held_[unit];
    CHECK(copy >= 0, "{} without what comes before it", to_text(a));
    if (ends) {
      free_.insert(std::lower_bound(free_.begin(), free_.end(), copy, std::greater<>()), copy);
      held_[unit] = -1;
    }
    return copy;
  }
  std::int32_t count() const { return count_; }

 private:
  std::vector<std::int32_t> held_;  // by unit
  std::vector<std::int32_t> free_;  // descending
  std::int32_t count_ = 0;
};

// A row's virtual stages and microbatches, numbered.
class Units {
 public:
  explicit Units(const std::vector<Action>& row) {
    for (const Action& a : row) {
      if (std::find(stages_.begin(), stages_.end(), a.stage) == stages_.end()) {
        stages_.push_back(a.stage);
      }
      microbatches_ = std::max(microbatches_, static_cast<std::size_t>(a.microbatch) + 1);
    }
  }
  std::size_t count() const { return stages_.size() * microbatches_; }
  std::size_t operator()(const Action& a) const {
    const auto stage = std::find(stages_.begin(), stages_.end(), a.stage) - stages_.begin();
    return static_cast<std::size_t>(stage) * microbatches_ + static_cast<std::size_t>(a.microbatch);
  }

 private:
  std::vector<std::int32_t> stages_;
  std::size_t microbatches_ = 0;
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
  const Units units(row);
  Copies slots(units.count()), holds(units.count()), rings(units.count());
  for (const Action& a : row) {
    const std::size_t unit = units(a);
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
