// Whether the rounds of a walk are alike (sim/rounds.h).
#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "sim/role_walk.h"

namespace foretrain::sim {
namespace {

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

bool is_same(const plan::Breakdown& x, const plan::Breakdown& y) {
  using Shares = std::array<std::int64_t, sizeof(plan::Breakdown) / sizeof(std::int64_t)>;
  return std::bit_cast<Shares>(x) == std::bit_cast<Shares>(y);
}

}  // namespace

const std::vector<plan::Instance>& RoleWalk::body() const {
  return cut_ != nullptr ? cut_->bodies[index(step_)] : role_.program.body;
}

void RoleWalk::note_boundary() {
  if (cut_ == nullptr || part_ != 1 || instance_ > cut_->cut || (cut_->cut - instance_) % cut_->length != 0) {
    return;
  }
  boundaries_[index(step_)].push_back(
      {streams_, events_, open_, submitted_, posted.size(), units_.size(), std::exchange(first_, kNever)});
}

// Whether what comes after y finds what comes after x found, a period later. Nothing after y starts before `least`:
// what was over by then is over.
bool RoleWalk::is_alike(const Boundary& x, const Boundary& y, Time period, Time least) const {
  const auto same = [&](const Value& before, const Value& now) {
    const Time was = resolve(before).time + period, is = resolve(now).time;
    return was == is || (was < least && is < least);
  };
  for (std::size_t s = 0; s < x.streams.size(); ++s) {
    if (!same(x.streams[s], y.streams[s])) {
      return false;
    }
  }
  for (std::size_t e = 0; e < x.events.size(); ++e) {
    if (!same(x.events[e], y.events[cut_->events[e]])) {
      return false;
    }
  }
  return std::equal(x.open.begin(), x.open.end(), y.open.begin(), y.open.end(), [&](const Open& a, const Open& b) {
    return posted[index(a.posted)].op == posted[index(b.posted)].op && a.since + period == b.since &&
           a.latency == b.latency && a.remaining == b.remaining;
  });
}

// Whether the meetings from `to` to `end` are those from `from` to `to`, a period later.
bool RoleWalk::meets_alike(const Boundary& from, const Boundary& to, const Boundary& end, Time period) const {
  std::size_t x = from.posted, y = to.posted;
  const auto next = [&](std::size_t& i, std::size_t last) {
    while (i < last && !ranks_.meets_others(*posted[i].op)) {
      ++i;
    }
    return i < last;
  };
  for (;; ++x, ++y) {
    const bool more = next(x, to.posted);
    if (next(y, end.posted) != more) {
      return false;
    }
    if (!more) {
      return true;
    }
    const Posted &a = posted[x], &b = posted[y];
    if (a.op != b.op || a.arrival + period != b.arrival || a.start + period != b.start || a.end + period != b.end ||
        !std::equal(
            a.beside.begin(), a.beside.end(), b.beside.begin(), b.beside.end(),
            [&](const Stretch& s, const Stretch& t) { return s.from + period == t.from && s.to + period == t.to; })) {
      return false;
    }
  }
}

plan::Breakdown RoleWalk::sum_of(const Boundary& from, const Boundary& to) const {
  plan::Breakdown sum;
  for (std::size_t u = from.units; u < to.units; ++u) {
    if (units_[u].call != nullptr) {
      sum += units_[u].call->sum;
    } else {
      sum.*units_[u].piece.share += units_[u].piece.end - units_[u].piece.start;
    }
  }
  return sum;
}

std::optional<RoleWalk::Steady> RoleWalk::steady(int step) const {
  const std::vector<Boundary>& b = boundaries_[index(step)];
  if (b.size() < 3) {
    return std::nullopt;
  }
  const auto computed = [](const Boundary& x) { return x.streams[plan::kCompute].time; };
  const std::size_t last = b.size() - 1;
  Steady s;
  s.begin = computed(b[last - 1]);
  s.period = computed(b[last]) - s.begin;
  s.period_sum = sum_of(b[last - 1], b[last]);
  s.until = first_;
  for (std::size_t later = index(step) + 1; later < boundaries_.size(); ++later) {
    for (const Boundary& x : boundaries_[later]) {
      s.until = std::min(s.until, x.first);
    }
  }
  // The host falls no further behind; where it does not keep its distance, nothing waits for it.
  const auto lag = [&](std::size_t i) { return b[i].submitted - b[i - 1].submitted - s.period; };
  if (lag(last).value > 0 || (lag(last).value < 0 && lag(last - 1).value >= 0)) {
    return std::nullopt;
  }
  std::size_t i = last;
  Time least = std::min(s.until, b[last].first + s.period);  // start of anything after the boundary
  for (; i >= 2; --i, least -= s.period) {
    if (b[i].first + s.period < least || !is_alike(b[i - 1], b[i], s.period, least) ||
        !meets_alike(b[i - 2], b[i - 1], b[i], s.period) ||
        (step == steps_ - 1 && !is_same(sum_of(b[i - 1], b[i]), s.period_sum))) {
      break;
    }
  }
  if (i == last) {
    return std::nullopt;
  }
  // b[i] is the first boundary that the next one is like.
  for (const Value& v : b[i].streams) {
    s.since = std::max(s.since, resolve(v).time);
  }
  for (std::size_t p = b[i].posted; p < b[last].posted; ++p) {
    s.longest = std::max(s.longest, posted[p].end - posted[p].start);
  }
  for (const std::vector<CallShape>& segment : shapes_) {
    for (const CallShape& shape : segment) {
      for (const FoldedCall& call : shape.known) {
        s.longest = std::max(s.longest, call.longest);
      }
    }
  }
  return s;
}

}  // namespace foretrain::sim
