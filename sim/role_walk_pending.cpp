// Folding of block calls with communication of the same class under way, or waiting for some that is, where they begin
// or end: what of it can matter to the call, and what the call does to it.
#include <algorithm>

#include "base/error.h"
#include "sim/kept_records.h"
#include "sim/role_walk.h"

namespace foretrain::sim {
namespace {

// Of a time that has passed, and before the index of one that is pending.
constexpr std::int64_t kPassed = INT64_MIN, kPending = INT64_MIN + 1;
// More are seldom the same again.
constexpr std::size_t kMostPending = 64;

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

std::int32_t RoleWalk::pending_index(std::int32_t self) const {
  const auto found = std::find(pending_.begin(), pending_.end(), self);
  return found == pending_.end() ? -1 : static_cast<std::int32_t>(found - pending_.begin());
}

std::int32_t RoleWalk::open_index(std::int32_t self) const {
  const auto found = std::find_if(open_.begin(), open_.end(), [&](const Open& o) { return o.posted == self; });
  return found == open_.end() ? -1 : static_cast<std::int32_t>(found - open_.begin());
}

// False where more than pending_key_ can tell decides about what comes: flows, what other classes wait for, or wait
// that this class waits for.
bool RoleWalk::note_pending() {
  if (shape_->flows > 0 || pending_.size() > kMostPending) {
    return false;
  }
  const Time base = streams_[plan::kCompute].time;
  const auto since = [&](Time t) { return t > base ? (t - base).value : kPassed; };
  for (const std::int32_t self : pending_) {
    const Posted& p = posted[index(self)];
    if (!p.load.is_none() || std::any_of(p.followers.begin(), p.followers.end(),
                                         [&](std::int32_t f) { return !posted[index(f)].is_local; })) {
      return false;
    }
    const std::int32_t place = open_index(self);
    pending_key_.insert(pending_key_.end(), {reinterpret_cast<std::intptr_t>(p.op), place});
    if (place >= 0) {
      const Open& o = open_[index(place)];
      if (o.remaining > INT64_MAX) {
        return false;
      }
      pending_key_.insert(pending_key_.end(),
                          {(o.since - base).value, o.latency.value, static_cast<std::int64_t>(o.remaining)});
      continue;
    }
    pending_key_.push_back(since(p.submitted));
    for (const Value& v : waits_of(p)) {
      const std::int32_t waits_for = is_known(v) ? -1 : pending_index(v.meeting);
      if (is_known(v)) {
        pending_key_.push_back(since(resolve(v).time));
      } else if (waits_for >= 0) {
        pending_key_.insert(pending_key_.end(), {kPending, waits_for});
      } else {
        return false;
      }
    }
  }
  return true;
}

Value RoleWalk::kept(const Value& value, Time base, KeptRecords& records) const {
  if (!is_known(value)) {
    const std::int32_t pending = pending_index(value.meeting);
    CHECK(pending >= 0, "{}: a folded call waits for op {} of another role", role_.name, value.meeting);
    return {{}, -1, pending};
  }
  const Value v = resolve(value);
  return {v.time - base, records.keep(v.record)};
}

// False where more is left of one than a word of the key holds.
bool RoleWalk::remember_pending(const std::vector<EarlierPending>& earlier, Time base, KeptRecords& records,
                                FoldedCall& folded) const {
  for (const EarlierPending& e : earlier) {
    const Posted& p = posted[index(e.posted)];
    EndedPending& ended = folded.ended.emplace_back();
    if (p.is_known) {
      ended = {true, !e.was_open, p.start - base, p.end - base, records.keep(p.value.record)};
    }
  }
  for (const std::int32_t self : pending_) {
    const Posted& p = posted[index(self)];
    const auto e =
        std::find_if(earlier.begin(), earlier.end(), [&](const EarlierPending& x) { return x.posted == self; });
    Pending& left = folded.pending.emplace_back();
    left.op = p.op;
    left.open = open_index(self);
    left.earlier = e == earlier.end() ? -1 : static_cast<std::int32_t>(e - earlier.begin());
    if (left.open >= 0) {
      const Open& o = open_[index(left.open)];
      if (o.remaining > INT64_MAX) {
        return false;
      }
      left.began = left.earlier < 0 || !e->was_open;
      left.start = p.start - base;
      left.before = left.began ? records.keep(p.before) : -1;
      left.since = o.since - base;
      left.latency = o.latency;
      left.remaining = static_cast<std::int64_t>(o.remaining);
    } else if (left.earlier < 0) {
      left.submitted = p.submitted - base;
      for (const Value& v : waits_of(p)) {
        left.waits.push_back(kept(v, base, records));
      }
    }
  }
  return true;
}

// `records`: where those of the call begin.
void RoleWalk::replay_pending(const FoldedCall& known, Time base, std::int32_t records) {
  const auto record = [&](std::int32_t r) { return r < 0 ? -1 : r + records; };
  for (std::size_t i = 0; i < known.ended.size(); ++i) {
    const EndedPending& e = known.ended[i];
    if (!e.has_ended) {
      continue;
    }
    Posted& p = posted[index(pending_[i])];
    p.start = e.began ? base + e.start : p.start;
    p.end = base + e.end;
    p.value = {p.end, record(e.record)};
    p.is_known = true;
    p.waits = p.unknown = 0;
    p.followers.clear();
    began(p.start);
    end_of(p.step, p.end);
  }
  std::vector<std::int32_t> left;
  std::size_t open = 0;
  for (const Pending& q : known.pending) {
    left.push_back(q.earlier < 0 ? static_cast<std::int32_t>(posted.size()) : pending_[index(q.earlier)]);
    if (q.earlier < 0) {
      Posted& p = posted.emplace_back();
      p.op = q.op;
      p.is_local = true;
      p.binding = binding_;
      p.step = part_ == 2 ? -1 : step_;
      p.meetings_before = foreign_meetings_;
      p.submitted = q.op->submit.value > 0 ? base + q.submitted : Time{};
      p.open = q.op->meetings.size();
    }
    open += q.open >= 0 ? 1 : 0;
  }
  pending_ = std::move(left);
  open_.resize(open);
  for (std::size_t i = 0; i < known.pending.size(); ++i) {
    const Pending& q = known.pending[i];
    Posted& p = posted[index(pending_[i])];
    p.followers.clear();
    if (q.open >= 0) {
      if (q.began) {
        p.start = p.arrival = base + q.start;
        p.before = record(q.before);
        p.waits = p.unknown = 0;
      }
      open_[index(q.open)] = open_of(pending_[i], *q.op, base + q.since);
      open_[index(q.open)].latency = q.latency;
      open_[index(q.open)].remaining = q.remaining;
    } else if (q.earlier < 0) {
      p.first_wait = all_waits_.size();
      p.waits = q.waits.size();
      for (const Value& v : q.waits) {
        all_waits_.push_back(moved(v, base, records));
      }
    }
  }
  for (const std::int32_t self : pending_) {
    Posted& p = posted[index(self)];
    p.unknown = 0;
    for (const Value& v : waits_of(p)) {
      if (!is_known(v)) {
        ++p.unknown;
        posted[index(v.meeting)].followers.push_back(self);
      }
    }
  }
}

// Of a remembered call: one that is pending is as it is named now.
Value RoleWalk::moved(const Value& v, Time base, std::int32_t records) const {
  return v.meeting >= 0 ? Value{{}, -1, pending_[index(v.meeting)]}
                        : Value{v.time + base, v.record < 0 ? -1 : v.record + records};
}

}  // namespace foretrain::sim
