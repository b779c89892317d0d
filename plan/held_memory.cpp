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

// The allocator with what each kind has of it.
class Account {
 public:
  Account(bool expandable_segments, std::int64_t limit) : allocator_(expandable_segments, limit) {}
  const CachingAllocator& allocator() const { return allocator_; }
  CachingAllocator::Handle take(const HeldLife& life) {
    by_kind_[at(static_cast<int>(life.kind))] += life.bytes;
    const CachingAllocator::Handle handle = allocator_.allocate(life.bytes);
    if (allocator_.allocated() > peak_) {
      peak_ = allocator_.allocated();
      at_peak_ = by_kind_;
    }
    return handle;
  }
  void give(const HeldLife& life, CachingAllocator::Handle handle) {
    by_kind_[at(static_cast<int>(life.kind))] -= life.bytes;
    allocator_.release(handle);
  }
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
  CachingAllocator allocator_;
  std::array<std::int64_t, kHeldKinds> by_kind_{}, at_peak_{};
  std::int64_t peak_ = 0;
};

// Lives in the order of the events after which they end.
std::vector<std::int32_t> endings(const HeldStep& step) {
  std::vector<std::int32_t> from(at(step.events()) + 1, 0);
  for (const HeldLife& life : step.lives()) {
    ++from[at(life.last) + 1];
  }
  std::partial_sum(from.begin(), from.end(), from.begin());
  std::vector<std::int32_t> result(step.lives().size());
  for (std::size_t i = 0; i < step.lives().size(); ++i) {
    result[at(from[at(step.lives()[i].last)]++)] = static_cast<std::int32_t>(i);
  }
  return result;
}

Account replay(const HeldStep& step, const std::vector<std::int32_t>& ending, Account account) {
  for (const HeldLife& life : step.persistent_lives()) {
    account.take(life);
  }
  std::vector<CachingAllocator::Handle> handles(step.lives().size(), -1);
  constexpr int kSteps = 2;
  auto late = step.late().begin();
  for (int s = 0; s < kSteps; ++s) {
    std::size_t next = 0;
    auto end = ending.begin();
    for (std::int32_t event = 0; event < step.events(); ++event) {
      for (; next < step.lives().size() && step.lives()[next].first == event; ++next) {
        handles[next] = account.take(step.lives()[next]);
      }
      for (; late != step.late().end() && late->first <= event; ++late) {
        account.take(*late);
      }
      for (; end != ending.end() && step.lives()[at(*end)].last == event; ++end) {
        account.give(step.lives()[at(*end)], handles[at(*end)]);
      }
    }
  }
  return account;
}

}  // namespace

std::string_view name(HeldKind k) {
  constexpr std::string_view kNames[] = {"parameters",  "gradients", "master_weights", "optimizer_state",
                                         "activations", "logits",    "communication",  "workspace"};
  return kNames[static_cast<std::size_t>(k)];
}

HeldMemory held_memory(const Role& role, const HeldRules& rules, Bytes limit) {
  const HeldStep step(role, rules);
  const std::vector<std::int32_t> ending = endings(step);
  HeldMemory held = replay(step, ending, {rules.expandable_segments, CachingAllocator::kNoLimit}).result();
  if (held.reserved > limit) {
    held.needed = replay(step, ending, {rules.expandable_segments, limit.value}).result().reserved;
  }
  return held;
}

}  // namespace foretrain::plan
