#include "sim/flow_times.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <utility>

namespace foretrain::sim {
namespace {

// Ratios of errors that are alike up to so much of them, and no larger than this one, are one and the same.
constexpr double kSameRatio = 0.1, kLargestRatio = 0.5;

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// Flows on their way.
class Carrier {
 public:
  Carrier(const FlowPlan& plan, std::int64_t speed_beside_compute)
      : plan_(plan), network_(plan), beside_(speed_beside_compute), flows_of_(plan.capacities.size()) {}

  struct Flow {
    FlowTimes::Id id;
    Time start, used;
    const AloneFlow* flow = nullptr;
    std::int32_t route = -1;
    const std::vector<Stretch>* beside = nullptr;
    Time shift;  // of those
  };

  bool is_used(LinkIndex link) const { return flows_of_[index(link)] > 0; }

  // Requires: nothing later has been done.
  void add(const Flow& flow) {
    push(coming_, {flow.start, flows_.size(), 0});
    count(flow, 1);
    flows_.push_back({flow, 0, false});
  }

  // All that happens up to then, and at that instant. `ended`: told of flows, and how long they took.
  template <class Ended>
  void carry(Time until, const Ended& ended) {
    for (;;) {
      Time now = network_.empty() ? kNever : network_.next();
      now = coming_.empty() ? now : std::min(now, coming_.front().at);
      now = changes_.empty() ? now : std::min(now, changes_.front().at);
      if (now == kNever || now > until) {
        return;
      }
      if (!network_.empty() && network_.next() == now) {
        for (const std::int32_t number : network_.advance(now)) {
          UnderWay& f = flows_[index(number)];
          f.is_under_way = false;
          count(f.flow, -1);
          ended(f.flow, now - f.flow.start);
        }
      }
      while (!coming_.empty() && coming_.front().at == now) {
        start(pop(coming_).number, now);
      }
      while (!changes_.empty() && changes_.front().at == now) {
        const Instant change = pop(changes_);
        UnderWay& f = flows_[change.number];
        f.computing += change.by;
        if (f.is_under_way) {
          network_.set_speed(static_cast<std::int32_t>(change.number), f.computing > 0 ? beside_ : kFullSpeed, now);
        }
      }
    }
  }

 private:
  struct UnderWay {
    Flow flow;
    std::int32_t computing = 0;  // devices
    bool is_under_way = false;
  };
  struct Instant {
    Time at;
    std::size_t number = 0;
    int by = 0;  // devices of the flow that compute: one more, or one less
  };

  static void push(std::vector<Instant>& heap, const Instant& instant) {
    heap.push_back(instant);
    std::push_heap(heap.begin(), heap.end(), is_later);
  }
  static Instant pop(std::vector<Instant>& heap) {
    std::pop_heap(heap.begin(), heap.end(), is_later);
    const Instant first = heap.back();
    heap.pop_back();
    return first;
  }
  static bool is_later(const Instant& x, const Instant& y) {
    return std::tie(x.at, x.number, y.by) > std::tie(y.at, y.number, x.by);
  }

  void count(const Flow& flow, int by) {
    for (const LinkUse& use : plan_.routes[index(flow.route)]) {
      flows_of_[index(use.link)] += by;
    }
  }

  void start(std::size_t number, Time now) {
    UnderWay& f = flows_[number];
    network_.start(static_cast<std::int32_t>(number), *f.flow.flow, f.flow.route, now);
    f.is_under_way = true;
    for (const Stretch& s : *f.flow.beside) {
      push(changes_, {s.from + f.flow.shift, number, 1});
      push(changes_, {s.to + f.flow.shift, number, -1});
    }
  }

  const FlowPlan& plan_;
  MeetingFlows network_;
  const std::int64_t beside_;
  std::vector<std::int32_t> flows_of_;  // by link: those that are to come or under way
  std::vector<UnderWay> flows_;
  std::vector<Instant> coming_, changes_;  // heaps
};

}  // namespace

FlowTimes::FlowTimes(const FlowPlan& plan, std::int64_t speed_beside_compute)
    : plan_(plan), beside_(speed_beside_compute), is_background_(plan.capacities.size()) {
  for (const FlowPlan::Background& b : plan.background) {
    for (const LinkUse& use : b.route) {
      is_background_[index(use.link)] = true;
    }
  }
}

std::optional<Time> FlowTimes::duration(Id id) const {
  if (is_alone(id, 1)) {
    return std::nullopt;
  }
  return known_[id.walk][id.ordinal].duration;
}

bool FlowTimes::is_alone(Id first, std::size_t meetings) const {
  if (first.walk >= known_.size()) {
    return true;
  }
  const std::vector<Known>& known = known_[first.walk];
  const auto at = [&](std::size_t ordinal) {
    return known.begin() + static_cast<std::ptrdiff_t>(std::min(ordinal, known.size()));
  };
  return std::all_of(at(first.ordinal), at(first.ordinal + meetings),
                     [](const Known& k) { return k.duration.value < 0; });
}

std::size_t FlowTimes::begin(Id id, Time start, const AloneFlow& flow, std::int32_t route, Time used) {
  flows_.push_back({id, start, used, flow, route, {}});
  return flows_.size() - 1;
}

std::optional<CallFlows> FlowTimes::call_of(std::vector<CallFlows::Flow> flows) const {
  CallFlows call;
  call.flows = std::move(flows);
  if (call.flows.empty()) {
    return call;
  }
  call.first = kNever;
  call.last = Time{INT64_MIN};
  for (const CallFlows::Flow& f : call.flows) {
    call.first = std::min(call.first, f.start);
    call.last = std::max(call.last, f.start + f.used);
    for (const LinkUse& use : plan_.routes[index(f.route)]) {
      call.links.push_back(use.link);
    }
  }
  std::sort(call.links.begin(), call.links.end());
  call.links.erase(std::unique(call.links.begin(), call.links.end()), call.links.end());
  Carrier carrier(plan_, beside_);
  const Time begin = Time{} - std::min(call.first, Time{});
  for (const CallFlows::Flow& f : call.flows) {
    carrier.add({{}, begin + f.start, f.used, &f.flow, f.route, &f.beside, begin});
  }
  bool is_right = true;
  carrier.carry(kNever, [&](const Carrier::Flow& f, Time took) { is_right = is_right && took == f.used; });
  return is_right ? std::optional(std::move(call)) : std::nullopt;
}

void FlowTimes::begin(Id first, Time base, const CallFlows& call) {
  calls_.push_back({first, base, &call});
}

void FlowTimes::Known::learn(Time now_used, Time now_took) {
  const double error = static_cast<double>((now_took - now_used).value);
  const double since = static_cast<double>((now_used - used).value);
  const double last_ratio = std::exchange(ratio, 1);
  duration = now_took;
  if (used.value >= 0 && since != 0) {  // errors of the two rounds: took - used
    ratio = static_cast<double>((now_took - took).value) / since;
    if (std::abs(ratio) <= kLargestRatio && std::abs(ratio - last_ratio) <= kSameRatio * std::abs(ratio)) {
      duration = std::max(Time{}, duration + Time{std::llround(error * ratio / (1 - ratio))});
    }
  }
  used = now_used;
  took = now_took;
}

void FlowTimes::know(Id id, Time took, Time used) {
  if (took == used && is_alone(id, 1)) {
    return;
  }
  is_right_ = is_right_ && took == used;
  if (id.walk >= known_.size()) {
    known_.resize(id.walk + 1);
  }
  std::vector<Known>& of_walk = known_[id.walk];
  if (id.ordinal >= of_walk.size()) {
    of_walk.resize(id.ordinal + 1);
  }
  of_walk[id.ordinal].learn(used, took);
}

Time FlowTimes::alone(std::int32_t route, const AloneFlow& flow) {
  const auto [known, is_new] = alone_.try_emplace({route, flow});
  if (is_new) {
    Carrier carrier(plan_, beside_);
    const std::vector<Stretch> none;
    carrier.add({{}, Time{}, Time{}, &flow, route, &none, {}});
    carrier.carry(kNever, [&](const Carrier::Flow&, Time took) { known->second = took; });
  }
  return known->second;
}

// By entry: when the next one on one of its links starts. `entries`: in order.
std::vector<Time> FlowTimes::next_on_links(const std::vector<Entry>& entries) const {
  std::vector<Time> next(entries.size(), kNever), of_link(plan_.capacities.size(), kNever);
  for (std::size_t e = entries.size(); e-- > 0;) {
    const auto see = [&](LinkIndex link) {
      next[e] = std::min(next[e], std::exchange(of_link[index(link)], entries[e].start));
    };
    if (entries[e].is_call) {
      for (const LinkIndex link : calls_[entries[e].number].flows->links) {
        see(link);
      }
    } else {
      for (const LinkUse& use : plan_.routes[index(flows_[entries[e].number].route)]) {
        see(use.link);
      }
    }
  }
  return next;
}

bool FlowTimes::settle() {
  std::vector<Entry> entries;
  entries.reserve(flows_.size() + calls_.size());
  for (std::size_t f = 0; f < flows_.size(); ++f) {
    entries.push_back({flows_[f].start, flows_[f].id, f, false});
  }
  for (std::size_t c = 0; c < calls_.size(); ++c) {
    entries.push_back({calls_[c].base + calls_[c].flows->first, calls_[c].first, c, true});
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& x, const Entry& y) { return std::tie(x.start, x.id) < std::tie(y.start, y.id); });
  const std::vector<Time> next = next_on_links(entries);
  is_right_ = true;
  const auto ended = [&](const Carrier::Flow& f, Time took) { know(f.id, took, f.used); };
  Carrier carrier(plan_, beside_);
  for (std::size_t e = 0; e < entries.size(); ++e) {
    const Entry& entry = entries[e];
    carrier.carry(entry.start, ended);
    if (!entry.is_call) {
      const Flow& f = flows_[entry.number];
      const std::vector<LinkUse>& route = plan_.routes[index(f.route)];
      const bool is_alone = f.beside.empty() && next[e] >= f.start + f.used &&
                            std::none_of(route.begin(), route.end(), [&](const LinkUse& use) {
                              return is_background(use.link) || carrier.is_used(use.link);
                            });
      if (is_alone && f.used == alone(f.route, f.flow)) {
        continue;
      }
      carrier.add({f.id, f.start, f.used, &f.flow, f.route, &f.beside, {}});
      continue;
    }
    const Call& c = calls_[entry.number];
    const CallFlows& call = *c.flows;
    const bool is_alone = next[e] >= c.base + call.last &&
                          std::none_of(call.links.begin(), call.links.end(),
                                       [&](LinkIndex link) { return is_background(link) || carrier.is_used(link); });
    for (std::size_t i = 0; i < call.flows.size() && !is_alone; ++i) {
      const CallFlows::Flow& f = call.flows[i];
      const Id id{c.first.walk, c.first.ordinal + f.ordinal};
      carrier.add({id, c.base + f.start, f.used, &f.flow, f.route, &f.beside, c.base});
    }
  }
  carrier.carry(kNever, ended);
  flows_.clear();
  calls_.clear();
  return is_right_;
}

}  // namespace foretrain::sim
