#include "sim/flow_network.h"

#include <algorithm>

#include "base/error.h"

namespace foretrain::sim {
namespace {

constexpr Wide kWorkOfByte = static_cast<Wide>(1'000'000'000'000) * kRateUnits;

constexpr std::int64_t kEndless = std::int64_t{1} << 60;  // bytes: 115 days at the highest rate there is

constexpr auto later = [](const auto& a, const auto& b) { return a.due > b.due; };

// When `work` is done, from `now` on.
Time instant_of(Wide work, Rate rate, Time now) {
  if (work <= 0) {  // an end of this very instant that is yet to be applied
    return now;
  }
  if (rate == 0) {
    return kNever;
  }
  __extension__ using Unsigned = unsigned __int128;
  const auto divisor = static_cast<std::uint64_t>(rate);
  const Unsigned duration = (static_cast<Unsigned>(work) + divisor - 1) / divisor;
  const auto room = static_cast<std::uint64_t>(kNever.value - now.value);
  return duration < room ? now + Time{static_cast<std::int64_t>(duration)} : kNever;
}

}  // namespace

Wide FlowNetwork::work_of(Bytes bytes) {
  return bytes.value * kWorkOfByte;
}

FlowNetwork::FlowNetwork(const std::vector<Bandwidth>& capacities) : share_(capacities) {}

// Nothing may happen on the way.
void FlowNetwork::move_to(Time now) {
  if (now == now_) {
    return;
  }
  CHECK(now > now_ && (empty() || now <= next()), "flows are at {} ps and cannot be moved to {} ps", now_.value,
        now.value);
  now_ = now;
}

FlowIndex FlowNetwork::start(const FlowSpec& spec, Time now) {
  CHECK(spec.bytes.value >= 0 && spec.latency.value >= 0 && spec.parts >= 1,
        "a flow of {} / {} bytes and a latency of {} ps", spec.bytes.value, spec.parts, spec.latency.value);
  move_to(now);
  if (free_.empty()) {
    free_.push_back(static_cast<FlowIndex>(transfers_.size()));
    transfers_.emplace_back();
  }
  const FlowIndex flow = free_.back();
  free_.pop_back();
  under_way_ += spec.is_endless ? 0 : 1;
  Transfer& t = transfers_[index(flow)];
  const bool is_instant = !spec.is_endless && (spec.bytes.value == 0 || (spec.route.empty() && spec.cap == kUnlimited));
  const Work bytes = spec.is_endless ? kEndless : spec.bytes.value;
  t.due = is_instant ? 0 : (bytes * kWorkOfByte + spec.parts - 1) / spec.parts;
  t.bottleneck = kNoLink;
  t.share = -1;
  t.copies = spec.copies;
  t.cap = spec.cap;
  if (is_instant || spec.latency.value > 0) {
    t.route.assign(spec.route.begin(), spec.route.end());
    latencies_.push({now + spec.latency, flow, 0});
  } else {
    join(flow, spec.route);
  }
  return flow;
}

void FlowNetwork::join(FlowIndex flow, std::span<const LinkUse> route) {
  Transfer& t = transfers_[index(flow)];
  t.share = share_.add(route, t.copies, t.cap);
  if (index(t.share) >= transfer_of_.size()) {
    transfer_of_.resize(index(t.share) + 1);
  }
  transfer_of_[index(t.share)] = flow;
  has_changed_ = true;
}

void FlowNetwork::set_capacity(LinkIndex link, Bandwidth capacity, Time now) {
  move_to(now);
  share_.set_capacity(link, capacity);
  has_changed_ = true;
}

void FlowNetwork::set_cap(FlowIndex flow, Rate cap, Time now) {
  move_to(now);
  Transfer& t = transfers_[index(flow)];
  if (t.cap == cap) {
    return;
  }
  t.cap = cap;
  if (t.share >= 0) {
    share_.set_cap(t.share, cap);
    has_changed_ = true;
  }
}

FlowNetwork::Work FlowNetwork::count_now(const Clock& clock) const {
  return clock.level == kUnlimited ? clock.count
                                   : clock.count + static_cast<Work>((now_ - clock.since).value) * clock.level;
}

void FlowNetwork::touch(LinkIndex link) {
  if (!clocks_[index(link)].is_touched) {
    clocks_[index(link)].is_touched = true;
    touched_.push_back(link);
  }
}

// The rates from now on.
void FlowNetwork::settle() {
  if (!has_changed_) {
    return;
  }
  has_changed_ = false;
  share_.solve();
  if (share_.links() > clocks_.size()) {
    clocks_.resize(share_.links());
    instants_.resize(share_.links());
  }
  for (const LinkIndex link : share_.relevelled()) {
    Clock& clock = clocks_[index(link)];
    clock.count = count_now(clock);
    clock.since = now_;
    clock.level = share_.level(link);
    touch(link);
  }
  for (const FlowIndex share : share_.moved()) {
    move_flow(share);
  }
  for (const LinkIndex link : touched_) {
    clocks_[index(link)].is_touched = false;
    set_instant(link);
  }
  touched_.clear();
}

// What is left of its bytes goes to the count of its new bottleneck.
void FlowNetwork::move_flow(FlowIndex share) {
  const FlowIndex flow = transfer_of_[index(share)];
  Transfer& t = transfers_[index(flow)];
  Work left = t.due;
  if (t.bottleneck != kNoLink) {
    Clock& before = clocks_[index(t.bottleneck)];
    left -= count_now(before);
    --before.held;
    touch(t.bottleneck);
  }
  t.bottleneck = share_.bottleneck(share);
  Clock& clock = clocks_[index(t.bottleneck)];
  t.due = count_now(clock) + left;
  ++clock.held;
  clock.heap.push_back({t.due, flow, ++t.generation});
  std::push_heap(clock.heap.begin(), clock.heap.end(), later);
  touch(t.bottleneck);
}

bool FlowNetwork::is_void(const Due& due, LinkIndex link) const {
  const Transfer& t = transfers_[index(due.flow)];
  return t.generation != due.generation || t.bottleneck != link;
}

void FlowNetwork::drop_void(Clock& clock, LinkIndex link) {
  auto& heap = clock.heap;
  if (heap.size() > 2 * index(clock.held) + 16) {
    std::erase_if(heap, [&](const Due& due) { return is_void(due, link); });
    std::make_heap(heap.begin(), heap.end(), later);
  }
  while (!heap.empty() && is_void(heap.front(), link)) {
    std::pop_heap(heap.begin(), heap.end(), later);
    heap.pop_back();
  }
}

void FlowNetwork::set_instant(LinkIndex link) {
  Clock& clock = clocks_[index(link)];
  drop_void(clock, link);
  instants_.set(index(link), clock.heap.empty()
                                 ? kNever
                                 : instant_of(clock.heap.front().due - clock.count, clock.level, clock.since));
}

Time FlowNetwork::next() {
  CHECK(!empty(), "no flow is under way");
  settle();
  Time at = instants_.earliest();
  if (!latencies_.empty()) {
    at = std::min(at, latencies_.top().at);
  }
  if (at == kNever) {
    fail_overflow();
  }
  return at;
}

const std::vector<FlowIndex>& FlowNetwork::advance(Time now) {
  ended_.clear();
  if (empty()) {
    move_to(now);
    return ended_;
  }
  settle();
  move_to(now);
  while (!latencies_.empty() && latencies_.top().at == now) {
    const FlowIndex flow = latencies_.pop().id;
    Transfer& t = transfers_[index(flow)];
    if (t.due == 0) {
      ended_.push_back(flow);
    } else {
      join(flow, t.route);
    }
  }
  if (instants_.earliest() == now) {
    due_links_.clear();
    instants_.find(now, due_links_);
    for (const LinkIndex link : due_links_) {
      Clock& clock = clocks_[index(link)];
      const Work count = count_now(clock);
      while (!clock.heap.empty() && clock.heap.front().due <= count) {
        ended_.push_back(clock.heap.front().flow);
        --clock.held;
        std::pop_heap(clock.heap.begin(), clock.heap.end(), later);
        clock.heap.pop_back();
        drop_void(clock, link);
      }
      set_instant(link);
    }
  }
  std::sort(ended_.begin(), ended_.end());
  std::for_each(ended_.rbegin(), ended_.rend(), [this](FlowIndex flow) { end(flow); });
  return ended_;
}

void FlowNetwork::end(FlowIndex flow) {
  Transfer& t = transfers_[index(flow)];
  if (t.share >= 0) {
    share_.remove(t.share);
    has_changed_ = true;
  }
  ++t.generation;
  free_.push_back(flow);
  --under_way_;
}

Rate FlowNetwork::rate(FlowIndex flow) {
  settle();
  const Transfer& t = transfers_[index(flow)];
  return t.share < 0 ? 0 : share_.rate(t.share);
}

}  // namespace foretrain::sim
