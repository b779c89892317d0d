// Compute beside communication of the same class: what stays open, and how long both take. The rules of
// sim/shared_devices.h without events; nothing else of the class runs.
#include <algorithm>

#include "sim/role_walk.h"

namespace foretrain::sim {
namespace {

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

template <class Work>
Time time_left(const Work& remaining, std::int64_t speed) {
  return Time{std::max<std::int64_t>(0, static_cast<std::int64_t>((remaining + speed - 1) / speed))};
}

}  // namespace

Time RoleWalk::Open::end(bool is_beside) const {
  return since + latency + time_left(remaining, is_beside ? beside : alone);
}

void RoleWalk::Open::move_to(Time t, bool is_beside) {
  const Time passed = t - since, waited = std::min(passed, latency);
  latency -= waited;
  remaining -= static_cast<Work>((passed - waited).value) * (is_beside ? beside : alone);
  since = t;
}

bool RoleWalk::takes(const OpModel& op) const {
  return sharing_ != nullptr &&
         std::any_of(op.meetings.begin(), op.meetings.end(), [](const Meeting& m) { return !m.load.is_none(); });
}

// Off the compute stream: it takes from the device, or it waits for what has no end yet.
bool RoleWalk::stays_open(const OpModel& op) const {
  return takes(op) || std::any_of(waits_.begin(), waits_.end(), [&](const Value& v) { return !is_known(v); });
}

// What the end of a posted op is not known for: an op of another class that has all it waits for, or -1: something
// open.
std::int32_t RoleWalk::first_unknown(std::int32_t self) const {
  const Posted& p = posted[index(self)];
  std::int32_t first = p.is_local ? -1 : self;
  for (const Value& v : waits_of(p)) {
    if (!is_known(v)) {
      first = first_unknown(v.meeting);
      if (first < 0) {
        break;
      }
    }
  }
  return first;
}

RoleWalk::Open RoleWalk::open_of(std::int32_t self, const OpModel& op, Time since) const {
  DeviceLoad load;
  for (const Meeting& m : op.meetings) {
    load += m.load;
  }
  return {self,
          load,
          since,
          {},
          static_cast<Work>(op.duration.value) * kFullSpeed,
          kFullSpeed,
          sharing_ != nullptr ? sharing_->communication_beside_compute() : kFullSpeed};
}

void RoleWalk::open(std::int32_t self) {
  Posted& p = posted[index(self)];
  p.start = p.arrival;
  const Open open = open_of(self, *p.op, p.start);
  if (open.load.is_none()) {
    p.end = p.start + p.op->duration;
    know(self);
    return;
  }
  add_open(open);
}

void RoleWalk::open_flow(std::int32_t self, const AloneFlow& flow) {
  Posted& p = posted[index(self)];
  p.is_local = true;
  pending_.push_back(self);
  p.start = p.arrival;
  const Rate beside = MeetingFlows::slowed(flow.cap, sharing_->communication_beside_compute());
  add_open({self, p.load, p.start, flow.latency, FlowNetwork::work_of(flow.bytes), flow.cap, beside});
}

void RoleWalk::add_open(const Open& o) {
  has_failed_ = has_failed_ || o.since < computed_;
  open_.push_back(o);
  while (is_finished_ && !open_.empty()) {
    end_first_open();
  }
}

void RoleWalk::end_open(std::size_t i, Time end) {
  const std::int32_t self = open_[i].posted;
  open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(i));
  posted[index(self)].end = end;
  know(self);
}

// Nothing computes until then. Requires: something is open.
void RoleWalk::end_first_open() {
  std::size_t first = 0;
  Time least{INT64_MAX};
  for (std::size_t i = 0; i < open_.size(); ++i) {
    const Time end = open_[i].end(false);
    if (end < least) {
      least = end;
      first = i;
    }
  }
  end_open(first, least);
}

// Nothing computes until `t`.
void RoleWalk::idle_until(Time t) {
  for (std::size_t i = 0; i < open_.size();) {
    const Time end = open_[i].end(false);
    if (end <= t) {
      end_open(i, end);
      i = 0;  // what followed it may have opened, and ended too
    } else {
      ++i;
    }
  }
  for (Open& o : open_) {
    if (o.since < t) {
      o.move_to(t, false);
    }
  }
}

// Compute from `from` to `to`, an interval in which the flow neither starts nor ends.
void RoleWalk::note_beside(std::int32_t flow, Time from, Time to) {
  Posted& p = posted[index(flow)];
  if (p.start > from || from == to) {
    return;
  }
  if (!p.beside.empty() && p.beside.back().to == from) {
    p.beside.back().to = to;
  } else {
    p.beside.push_back({from, to});
  }
}

// From `start` on to the end of the op. Requires: idle_until(start).
Time RoleWalk::compute_beside(const OpModel& op, Time start) {
  Work remaining = static_cast<Work>(op.duration.value) * kFullSpeed;
  Time now = start;
  while (remaining > 0) {
    DeviceLoad load;
    Time next{INT64_MAX};
    for (const Open& o : open_) {
      if (o.since <= now) {
        load += o.load;
        next = std::min(next, o.end(true));
      } else {
        next = std::min(next, o.since);
      }
    }
    for (const std::int32_t f : flows_) {
      const Posted& flow = posted[index(f)];
      if (flow.start > now) {
        next = std::min(next, flow.start);
      } else if (flow.end > now) {
        load += flow.load;
        next = std::min(next, flow.end);
      }
    }
    const std::int64_t speed = sharing_->compute(*op.like, load);
    next = std::min(next, now + time_left(remaining, speed));
    for (const std::int32_t f : flows_) {
      if (posted[index(f)].end > now) {
        note_beside(f, now, next);
      }
    }
    remaining -= static_cast<Work>((next - now).value) * speed;
    for (Open& o : open_) {
      if (o.since <= now) {
        note_beside(o.posted, now, next);
        o.move_to(next, true);
      }
    }
    now = next;
    computed_ = now;
    for (std::size_t i = 0; i < open_.size();) {
      if (open_[i].since <= now && open_[i].end(true) <= now) {
        end_open(i, now);
        i = 0;
      } else {
        ++i;
      }
    }
  }
  return now;
}

bool RoleWalk::run_on_compute_stream(const OpModel& op) {
  Time start;
  for (Value& v : waits_) {
    while (!is_known(v)) {
      blocked_on_ = first_unknown(v.meeting);
      if (blocked_on_ >= 0) {
        return false;
      }
      end_first_open();
    }
    v = resolve(v);
    start = std::max(start, v.time);
  }
  bool held_by_host = false;
  if (op.submit.value > 0) {
    submitted_ += op.submit;
    held_by_host = submitted_ > start;
    start = std::max(start, submitted_);
  }
  Value value{start};
  if (op.duration.value > 0) {
    has_failed_ = has_failed_ || start < fixed_until_;
    idle_until(start);
    std::erase_if(flows_, [&](std::int32_t f) { return posted[index(f)].end <= start; });
    value.time = open_.empty() && flows_.empty() ? start + op.duration : compute_beside(op, start);
    computed_ = value.time;
  }
  began(start);
  attribute_gap(start, last_record(waits_), held_by_host);
  piece(start, value.time, op.share);
  leave(op, value);
  reached(part_ == 2 ? -1 : step_, value.time);
  if (op.holds_host) {
    submitted_ = std::max(submitted_, value.time);
  }
  return true;
}

}  // namespace foretrain::sim
