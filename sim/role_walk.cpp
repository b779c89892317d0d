#include "sim/role_walk.h"

#include <algorithm>

namespace foretrain::sim {
namespace {

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

RoleWalk::RoleWalk(const plan::PlanGraph& graph, const RankClass& ranks, const RoleModel& model, int steps,
                   const RoundCut* cut, ShareSpeeds* sharing, FlowTimes& flows, std::size_t self, std::int64_t& left,
                   std::function<void(std::int32_t)> meets)
    : role_(graph.roles[index(ranks.role)]),
      ranks_(ranks),
      model_(model),
      steps_(steps),
      cut_(cut),
      sharing_(sharing),
      flow_times_(flows),
      self_(self),
      left_(left),
      meets_(std::move(meets)) {
  std::size_t longest = 0;
  for (const std::vector<OpModel>& block : model_.blocks) {
    longest = std::max(longest, block.size());
  }
  block_ops_.resize(longest);
  for (const plan::Segment& segment : role_.segments) {
    shapes_.emplace_back(segment.calls.size());
  }
  restart();
}

void RoleWalk::restart() {
  forget_unused();
  part_ = step_ = 0;
  instances_ = &role_.program.prologue;
  instance_ = call_ = op_ = 0;
  iteration_ = 0;
  binding_ = {};
  blocked_on_ = -1;
  streams_.assign(role_.streams.size(), {});
  events_.assign(index(model_.event_copies), {});
  posted.clear();
  all_waits_.clear();
  records_.clear();
  units_.clear();
  capture_ = nullptr;
  outside_ = posted_before_ = 0;
  touched_outside_ = false;
  step_ends_.assign(index(steps_), {});
  open_.clear();
  boundaries_.assign(index(steps_), {});
  first_ = kNever;
  pending_.clear();
  foreign_meetings_ = 0;
  last_ = submitted_ = computed_ = foreign_until_ = fixed_until_ = {};
  flows_.clear();
  has_failed_ = is_finished_ = false;
}

// Moves to the first op at or after the place; false at the program's end.
bool RoleWalk::find_place() {
  for (;;) {
    if (instance_ == instances_->size()) {
      instance_ = 0;
      if (part_ == 2) {
        return false;
      }
      if (part_ == 0 || step_ + 1 == steps_) {
        instances_ = ++part_ == 1 ? &body() : &role_.program.epilogue;
      } else {
        ++step_;
        instances_ = &body();
      }
      continue;
    }
    const std::size_t segment = index((*instances_)[instance_].segment);
    const std::vector<plan::BlockCall>& calls = role_.segments[segment].calls;
    if (call_ == calls.size()) {
      call_ = 0;
      ++instance_;
      note_boundary();
      continue;
    }
    block_call_ = &calls[call_];
    block_ = &model_.blocks[index(block_call_->block)];
    if (iteration_ < block_call_->count && !block_->empty()) {
      shape_ = &shapes_[segment][call_];
      return true;
    }
    iteration_ = 0;
    ++call_;
  }
}

void RoleWalk::bind() {
  const plan::Instance& instance = (*instances_)[instance_];
  binding_ = plan::bind(role_.segments[index(instance.segment)], instance, *block_call_, iteration_);
  binding_.step = step_;
}

RoleWalk::State RoleWalk::advance() {
  blocked_on_ = -1;
  while (op_ > 0 || find_place()) {
    if (left_ < 0) {
      has_failed_ = true;
      return State::blocked;
    }
    if (op_ == 0) {
      bind();
    }
    if (op_ == 0 && iteration_ == 0 && can_fold()) {
      if (!run_folded()) {
        return State::blocked;
      }
      ++call_;
      continue;
    }
    const std::size_t passed = posted.size();
    if (!run_op()) {
      return State::blocked;
    }
    if (++op_ == block_->size()) {
      op_ = 0;
      ++iteration_;
    }
    if (posted.size() > passed && !posted.back().is_known && !posted.back().is_local && takes(*posted.back().op)) {
      blocked_on_ = static_cast<std::int32_t>(passed);
      return State::paused;
    }
  }
  is_finished_ = true;
  while (!open_.empty()) {
    end_first_open();
  }
  return State::finished;
}

Value RoleWalk::resolve(const Value& v) const {
  return v.meeting < 0 ? v : posted[index(v.meeting)].value;
}

std::int32_t RoleWalk::last_record(std::span<const Value> waits) const {
  std::int32_t last = -1;
  for (const Value& v : waits) {
    if (v.record >= 0 && (last < 0 || records_[index(v.record)].end > records_[index(last)].end)) {
      last = v.record;
    }
  }
  return last;
}

// ---- ops

bool RoleWalk::run_op() {
  --left_;
  const OpModel& op = (*block_)[op_];
  waits_.clear();
  for (const std::uint16_t position : op.after) {
    waits_.push_back(block_ops_[position]);
  }
  for (const EventRef& e : op.waits) {
    waits_.push_back(events_[index(e.copy(binding_))]);
  }
  waits_.push_back(streams_[index(op.stream)]);
  if (ranks_.meets_others(op)) {
    post(op, false);
    return true;
  }
  if (op.stream == plan::kCompute) {
    return run_on_compute_stream(op);
  }
  if (stays_open(op)) {
    post(op, true);
    return true;
  }
  Time start;
  for (Value& v : waits_) {
    v = resolve(v);
    start = std::max(start, v.time);
  }
  if (op.submit.value > 0) {
    submitted_ += op.submit;
    start = std::max(start, submitted_);
  }
  began(start);
  const Value value{start + op.duration, static_cast<std::int32_t>(records_.size())};
  records_.push_back({start, value.time, last_record(waits_), op.share});
  leave(op, value);
  reached(part_ == 2 ? -1 : step_, value.time);
  return true;
}

void RoleWalk::leave(const OpModel& op, Value value) {
  streams_[index(op.stream)] = value;
  block_ops_[op_] = value;
  for (const EventRef& e : op.records) {
    events_[index(e.copy(binding_))] = value;
  }
}

void RoleWalk::reached(std::int32_t step, Time t) {
  last_ = std::max(last_, t);
  end_of(step, t);
}

void RoleWalk::end_of(std::int32_t step, Time t) {
  if (step >= 0) {
    step_ends_[index(step)] = std::max(step_ends_[index(step)], t);
  }
}

// ---- ops whose end is not known when they are passed

void RoleWalk::post(const OpModel& op, bool is_local) {
  const auto self = static_cast<std::int32_t>(posted.size());
  Posted& p = posted.emplace_back();
  p.op = &op;
  p.meetings_before = foreign_meetings_;
  foreign_meetings_ += is_local ? 0 : op.meetings.size();
  p.is_local = is_local;
  if (is_local) {
    pending_.push_back(self);
  }
  p.binding = binding_;
  p.step = part_ == 2 ? -1 : step_;
  p.first_wait = all_waits_.size();
  p.waits = waits_.size();
  all_waits_.insert(all_waits_.end(), waits_.begin(), waits_.end());
  submitted_ += op.submit;
  p.submitted = op.submit.value > 0 ? submitted_ : Time{};
  p.open = op.meetings.size();
  for (const Value& v : waits_) {
    if (!is_known(v)) {
      ++p.unknown;
      posted[index(v.meeting)].followers.push_back(self);
    }
  }
  Value value;
  value.meeting = self;
  leave(op, value);
  if (p.unknown == 0) {
    make_ready(self);
  }
}

void RoleWalk::make_ready(std::int32_t self) {
  Posted& p = posted[index(self)];
  p.arrival = p.submitted;
  const std::span<Value> waits = waits_of(p);
  for (Value& v : waits) {
    v = resolve(v);
    p.arrival = std::max(p.arrival, v.time);
  }
  p.before = last_record(waits);
  p.waits = 0;
  if (p.is_local) {
    open(self);
  } else {
    meets_(self);
  }
}

void RoleWalk::know(std::int32_t self) {
  Posted& p = posted[index(self)];
  p.value = {p.end, static_cast<std::int32_t>(records_.size())};
  p.is_known = true;
  records_.push_back({p.start, p.end, p.before, p.op->share});
  if (capture_ != nullptr && index(self) < posted_before_) {
    first_of_earlier_ = std::min(first_of_earlier_, p.start);
    end_of(p.step, p.end);
  } else {
    began(p.start);
    reached(p.step, p.end);
  }
  if (p.is_local) {
    std::erase(pending_, self);
  } else if (takes(*p.op)) {
    has_failed_ = has_failed_ || p.start < computed_;
    foreign_until_ = std::max(foreign_until_, p.end);
    if (p.load.is_none()) {
      fixed_until_ = std::max(fixed_until_, p.end);
    } else {
      flows_.push_back(self);
    }
  }
  const std::vector<std::int32_t> followers = std::move(p.followers);  // `posted` may grow
  for (const std::int32_t follower : followers) {
    if (--posted[index(follower)].unknown == 0) {
      make_ready(follower);
    }
  }
  while (is_finished_ && !open_.empty()) {
    end_first_open();
  }
}

// ---- where the time went: as plan::BreakdownAccumulator, one op at a time

void RoleWalk::piece(Time start, Time end, plan::Share share) {
  if (start >= end) {
    return;
  }
  if (capture_ != nullptr) {
    capture_->push_back({start, end, share});
  } else {
    log(nullptr, {}, {start, end, share});
  }
}

void RoleWalk::log(const FoldedCall* folded, Time base, const Piece& p) {
  if (step_ == steps_ - 1) {
    units_.push_back({folded, base, p});
  }
}

// From the end of the last compute op to `to`: back along what was waited for.
void RoleWalk::attribute_gap(Time to, std::int32_t waited_for, bool held_by_host) {
  const Time from = streams_[plan::kCompute].time;
  gap_.clear();
  std::int32_t next = waited_for;
  while (to > from) {
    const bool covers = next >= 0 && records_[index(next)].end > from;
    const Time end = covers ? std::min(records_[index(next)].end, to) : from;
    gap_.push_back({end, to, held_by_host ? &plan::Breakdown::host : &plan::Breakdown::bubble});
    held_by_host = false;
    if (!covers) {
      break;
    }
    touched_outside_ = touched_outside_ || index(next) < outside_;
    const Record& r = records_[index(next)];
    to = std::max(std::min(r.start, end), from);
    gap_.push_back({to, end, r.share});
    next = r.before;
  }
  for (auto p = gap_.rbegin(); p != gap_.rend(); ++p) {
    piece(p->start, p->end, p->share);
  }
}

void RoleWalk::sum_piece(const Piece& p, Time begin, Time end, plan::Breakdown& sum) const {
  const Time from = std::max(p.start, begin), to = std::min(p.end, end);
  if (from < to) {
    sum.*p.share += to - from;
  }
}

plan::Breakdown RoleWalk::breakdown(Time begin, Time end) {
  const Time busy = streams_[plan::kCompute].time;
  if (end > busy) {
    std::vector<Value> all;
    for (const Value& v : streams_) {
      all.push_back(resolve(v));
    }
    attribute_gap(end, last_record(all), false);
  }
  plan::Breakdown sum;
  for (const Unit& u : units_) {
    if (u.call == nullptr) {
      sum_piece(u.piece, begin, end, sum);
    } else if (u.base >= begin && u.base + u.call->busy <= end) {
      sum += u.call->sum;
    } else {
      for (const Piece& p : u.call->pieces) {
        sum_piece({p.start + u.base, p.end + u.base, p.share}, begin, end, sum);
      }
    }
  }
  return sum;
}

}  // namespace foretrain::sim
