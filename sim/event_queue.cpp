#include "sim/event_queue.h"

#include <algorithm>
#include <array>
#include <bit>

namespace foretrain::sim {
namespace {

constexpr std::uint64_t kSign = std::uint64_t{1} << 63;

}  // namespace

inline EventQueue::Key EventQueue::key_of(Event e) {
  const auto id = static_cast<std::uint64_t>(static_cast<std::uint32_t>(e.id));
  return {static_cast<std::uint64_t>(e.at.value) ^ kSign, (id << 32 | e.generation) ^ kSign};
}

inline Event EventQueue::event_of(const Key& key) {
  const std::uint64_t tie = key.tie ^ kSign;
  return {Time{static_cast<std::int64_t>(key.at ^ kSign)}, static_cast<std::int32_t>(tie >> 32),
          static_cast<std::uint32_t>(tie)};
}

[[gnu::noinline]] void EventQueue::add_node() {
  free_node_ = static_cast<std::int32_t>(nodes_.size());
  nodes_.emplace_back();
}

// Requires: its page is one of the calendar's.
inline void EventQueue::enter(const Key& key) {
  const std::size_t bucket = (key.at >> shift_) & (buckets_ - 1);
  if (free_node_ == kNone) {
    add_node();
  }
  const std::int32_t node = free_node_;
  free_node_ = nodes_[static_cast<std::size_t>(node)].next;
  nodes_[static_cast<std::size_t>(node)] = {key, heads_[bucket]};
  heads_[bucket] = node;
  filled_[bucket / 64] |= std::uint64_t{1} << bucket % 64;
  ++entered_;
}

void EventQueue::push(Event e) {
  const Key key = key_of(e);
  ++size_;
  if ((key.at >> shift_) - next_page_ < buckets_) {
    enter(key);
  } else {
    push_elsewhere(key);
  }
}

// Apart from push(), as are the other rare ways from the common ones: those then need few registers.
[[gnu::noinline]] void EventQueue::push_elsewhere(const Key& key) {
  const std::uint64_t page = key.at >> shift_;
  if (page >= next_page_) {
    aside_.push_back(key);
    first_aside_ = std::min(first_aside_, page);
  } else {
    late_.push_back(key);
    std::push_heap(late_.begin(), late_.end(), is_greater);
  }
}

// Requires: the calendar is not empty.
inline std::uint64_t EventQueue::next_filled_page() const {
  const std::uint64_t from = next_page_ & (buckets_ - 1);
  std::uint64_t word = from / 64;
  std::uint64_t bits = filled_[word] & (~std::uint64_t{0} << from % 64);
  while (bits == 0) {
    word = word + 1 == filled_.size() ? 0 : word + 1;
    bits = filled_[word];
  }
  const std::uint64_t bucket = 64 * word + static_cast<std::uint64_t>(std::countr_zero(bits));
  return next_page_ + ((bucket - from) & (buckets_ - 1));
}

// The bucket of the next page that has events; the page is open from now on. Requires: today_ and late_ are empty,
// events are pending.
inline std::size_t EventQueue::open_page() {
  if (entered_ == 0 || size_ > 4 * laid_out_for_ || 8 * size_ < laid_out_for_) {
    lay_out();
  }
  std::uint64_t page = next_filled_page();
  if (page >= first_aside_) {
    lay_out();
    page = next_filled_page();
  }
  next_page_ = page + 1;
  const std::size_t bucket = page & (buckets_ - 1);
  constexpr std::size_t kAhead = 16;
  __builtin_prefetch(&nodes_[static_cast<std::size_t>(heads_[(bucket + kAhead) & (buckets_ - 1)])]);
  filled_[bucket / 64] &= ~(std::uint64_t{1} << bucket % 64);
  return bucket;
}

// The bucket's events become today_.
[[gnu::noinline]] void EventQueue::sort_page(std::size_t bucket) {
  std::int32_t node = heads_[bucket];
  heads_[bucket] = kNone;
  while (node != kNone) {
    Node& n = nodes_[static_cast<std::size_t>(node)];
    today_.push_back(n.key);
    const std::int32_t next = n.next;
    n.next = free_node_;
    free_node_ = node;
    node = next;
  }
  entered_ -= today_.size();
  if (!std::is_sorted(today_.begin(), today_.end(), is_greater)) {
    sort_today();
  }
}

void EventQueue::sort_today() {
  constexpr std::size_t kFew = 16;
  if (today_.size() > kFew) {
    std::sort(today_.begin(), today_.end(), is_greater);
    return;
  }
  for (std::size_t i = 1; i < today_.size(); ++i) {
    const Key key = today_[i];
    std::size_t hole = i;
    for (; hole > 0 && is_less(today_[hole - 1], key); --hole) {
      today_[hole] = today_[hole - 1];
    }
    today_[hole] = key;
  }
}

// A calendar for the pending events: four to eight pages to an event, and a round that reaches past all
// of them, or, where a few are far off, twice as far as three quarters of them.
[[gnu::noinline]] void EventQueue::lay_out() {
  if (entered_ > 0) {
    for (std::int32_t& head : heads_) {
      for (; head != kNone; head = nodes_[static_cast<std::size_t>(head)].next) {
        aside_.push_back(nodes_[static_cast<std::size_t>(head)].key);
      }
    }
  }
  nodes_.resize(1);
  free_node_ = kNone;
  entered_ = 0;

  const auto by_time = [](const Key& a, const Key& b) { return a.at < b.at; };
  const auto [earliest, latest] = std::minmax_element(aside_.begin(), aside_.end(), by_time);
  const std::uint64_t first = earliest->at;
  std::uint64_t length = latest->at - first;
  constexpr std::size_t kSamples = 16;
  const std::size_t n = aside_.size();
  if (n > kSamples) {
    std::array<std::uint64_t, kSamples> samples;
    for (std::size_t i = 0; i < kSamples; ++i) {
      samples[i] = aside_[i * (n / kSamples)].at - first;
    }
    std::sort(samples.begin(), samples.end());
    length = std::min(length / 2, samples[kSamples * 3 / 4]) * 2;
  }
  constexpr std::uint64_t kPagesPerEvent = 8;
  shift_ = static_cast<int>(std::bit_width(length / (kPagesPerEvent * n)));
  const std::uint64_t pages = (length >> shift_) + 1;
  buckets_ = std::bit_ceil(std::max<std::uint64_t>(64, pages + pages / 4));
  next_page_ = first >> shift_;
  laid_out_for_ = size_;
  heads_.assign(buckets_, kNone);
  filled_.assign(buckets_ / 64, 0);
  first_aside_ = UINT64_MAX;
  std::size_t kept = 0;
  for (const Key& key : aside_) {
    const std::uint64_t page = key.at >> shift_;
    if (page - next_page_ < buckets_) {
      enter(key);
    } else {
      first_aside_ = std::min(first_aside_, page);
      aside_[kept++] = key;
    }
  }
  aside_.resize(kept);
}

inline bool EventQueue::is_sorted_first() const {
  return late_.empty() || (!today_.empty() && is_less(today_.back(), late_.front()));
}

Event EventQueue::top() {
  if (today_.empty() && late_.empty()) {
    sort_page(open_page());
  }
  return event_of(is_sorted_first() ? today_.back() : late_.front());
}

Event EventQueue::pop() {
  if (today_.empty() && late_.empty()) {
    const std::size_t bucket = open_page();
    const std::int32_t head = heads_[bucket];
    Node& node = nodes_[static_cast<std::size_t>(head)];
    if (node.next == kNone) {  // mostly it is alone
      heads_[bucket] = kNone;
      node.next = free_node_;
      free_node_ = head;
      --entered_;
      --size_;
      return event_of(node.key);
    }
    sort_page(bucket);
  }
  --size_;
  if (!is_sorted_first()) {
    return pop_late();
  }
  const Key key = today_.back();
  today_.pop_back();
  return event_of(key);
}

[[gnu::noinline]] Event EventQueue::pop_late() {
  const Key key = late_.front();
  std::pop_heap(late_.begin(), late_.end(), is_greater);
  late_.pop_back();
  return event_of(key);
}

}  // namespace foretrain::sim
