#include "plan/held_memory.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "plan/caching_allocator.h"
#include "plan/held_step.h"

namespace foretrain::plan {

namespace {

std::size_t at(int id) {
  return static_cast<std::size_t>(id);
}

// A step as the allocator sees it: lives i that begin, and ~i that end.
struct Order {
  std::vector<std::int32_t> turns;
  std::vector<std::size_t> late;  // of late lives: the turn before which they begin
};

Order order_of(const HeldStep& step) {
  const std::vector<HeldLife>& lives = step.lives();
  std::vector<std::size_t> from(at(step.events()) + 1, 0);  // by event: its turns
  for (const HeldLife& life : lives) {
    ++from[at(life.first) + 1];
    ++from[at(life.last) + 1];
  }
  std::partial_sum(from.begin(), from.end(), from.begin());
  Order order{std::vector<std::int32_t>(2 * lives.size()), {}};
  for (std::size_t i = 0; i < lives.size(); ++i) {
    order.turns[from[at(lives[i].first)]++] = static_cast<std::int32_t>(i);
  }
  for (const HeldLife& late : step.late()) {
    order.late.push_back(from[at(late.first)]);
  }
  for (std::size_t i = 0; i < lives.size(); ++i) {
    order.turns[from[at(lives[i].last)]++] = ~static_cast<std::int32_t>(i);
  }
  return order;
}

// Two steps through the allocator, with what each kind has of it.
class Replay {
 public:
  Replay(const HeldStep& step, const Order& order, bool expandable_segments, Bytes limit)
      : step_(step), order_(order), allocator_(expandable_segments, limit.value), handles_(step.lives().size(), -1) {
    allocator_.stop_at_limit(true);
  }

  // To the end, or to the first tensor that is beyond the limit: false, and goes on where it stopped.
  bool run() {
    for (const std::vector<HeldLife>& lives = step_.persistent_lives(); persistent_ < lives.size(); ++persistent_) {
      if (take(lives[persistent_]) < 0) {
        return false;
      }
    }
    for (; steps_ < kSteps; ++steps_, turn_ = 0) {
      for (;; ++turn_) {
        for (; late_ < order_.late.size() && order_.late[late_] == turn_; ++late_) {
          if (take(step_.late()[late_]) < 0) {
            return false;
          }
        }
        if (turn_ == order_.turns.size()) {
          break;
        }
        if (!turn(order_.turns[turn_])) {
          return false;
        }
      }
    }
    return true;
  }
  CachingAllocator& allocator() { return allocator_; }

  HeldMemory result() const {
    HeldMemory held{{peak_}, {allocator_.peak_reserved()}, {allocator_.peak_reserved()}, {}};
    std::int64_t rest = peak_;
    for (std::size_t k = 0; k < at_peak_.size(); ++k) {
      held.by_kind[k] = {at_peak_[k]};
      rest -= at_peak_[k];
    }
    held.by_kind[at(static_cast<int>(HeldKind::workspace))] += Bytes{rest};
    return held;
  }

 private:
  static constexpr int kSteps = 2;

  bool turn(std::int32_t life) {
    if (life >= 0) {
      return (handles_[at(life)] = take(step_.lives()[at(life)])) >= 0;
    }
    const HeldLife& ended = step_.lives()[at(~life)];
    by_kind_[static_cast<std::size_t>(ended.kind)] -= ended.bytes;
    allocator_.release(handles_[at(~life)]);
    return true;
  }

  CachingAllocator::Handle take(const HeldLife& life) {
    const CachingAllocator::Handle handle = allocator_.allocate(life.bytes);
    if (handle >= 0) {
      by_kind_[static_cast<std::size_t>(life.kind)] += life.bytes;
      if (allocator_.allocated() > peak_) {
        peak_ = allocator_.allocated();
        at_peak_ = by_kind_;
      }
    }
    return handle;
  }

  const HeldStep& step_;
  const Order& order_;
  CachingAllocator allocator_;
  std::vector<CachingAllocator::Handle> handles_;  // by life
  std::size_t persistent_ = 0, late_ = 0, turn_ = 0;
  int steps_ = 0;
  std::array<std::int64_t, kHeldKinds> by_kind_{}, at_peak_{};
  std::int64_t peak_ = 0;
};

}  // namespace

std::string_view name(HeldKind k) {
  constexpr std::string_view kNames[] = {"parameters",  "gradients", "master_weights", "optimizer_state",
                                         "activations", "logits",    "communication",  "workspace"};
  return kNames[static_cast<std::size_t>(k)];
}

HeldMemory held_memory(const Role& role, const HeldRules& rules, Bytes limit) {
  const HeldStep step(role, rules);
  const Order order = order_of(step);
  Replay replay(step, order, rules.expandable_segments, limit);
  if (replay.run()) {
    return replay.result();
  }
  Replay limited = replay;
  limited.allocator().stop_at_limit(false);
  limited.run();
  replay.allocator().lift_limit();
  replay.run();
  HeldMemory held = replay.result();
  held.needed = limited.result().reserved;
  return held;
}

}  // namespace foretrain::plan
