#include "sim/role_walk.h"

#include <algorithm>
#include <map>

#include "base/error.h"

namespace foretrain::sim {
namespace {

// Time of an input that comes too early to matter.
constexpr std::int64_t kIrrelevant = INT64_MIN;
constexpr Time kNever{INT64_MAX};
// Fewer ops are walked as fast as they are looked up.
constexpr std::size_t kWorthFolding = 4;
// Different beginnings of one call that are remembered; in the steady state there is one.
constexpr std::size_t kRemembered = 64;

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

RoleWalk::RoleWalk(const plan::PlanGraph& graph, int role, const RoleModel& model, int steps)
    : role_(graph.roles[index(role)]), model_(model), steps_(steps) {
  streams_.resize(role_.streams.size());
  events_.resize(index(model.event_copies));
  for (const plan::Segment& segment : role_.segments) {
    shapes_.emplace_back(segment.calls.size());
  }
  step_ends_.resize(index(steps));
}

const std::vector<plan::Instance>& RoleWalk::instances() const {
  const plan::Program& p = role_.program;
  return part_ == 0 ? p.prologue : (part_ == 1 ? p.body : p.epilogue);
}

const plan::BlockCall& RoleWalk::call() const {
  return role_.segments[index(instances()[instance_].segment)].calls[call_];
}

// Moves to the first op at or after the place; false at the program's end.
bool RoleWalk::find_place() {
  for (;;) {
    if (instance_ == instances().size()) {
      instance_ = 0;
      if (part_ == 2) {
        return false;
      }
      if (part_ == 0 || step_ + 1 == steps_) {
        ++part_;
      } else {
        ++step_;
      }
    } else if (call_ == role_.segments[index(instances()[instance_].segment)].calls.size()) {
      call_ = 0;
      ++instance_;
    } else if (iteration_ >= call().count || model_.blocks[index(call().block)].empty()) {
      iteration_ = 0;
      ++call_;
    } else {
      return true;
    }
  }
}

void RoleWalk::bind() {
  const plan::Instance& instance = instances()[instance_];
  const plan::BlockCall& c = call();
  binding_.microbatch = instance.microbatch;
  binding_.slot = instance.slot;
  binding_.ring = instance.ring;
  binding_.layer = c.first < 0 ? -1 : c.first + iteration_ * c.step;
  binding_.first_layer = role_.segments[index(instance.segment)].first_layer;
  binding_.step = step_;
}

RoleWalk::State RoleWalk::advance(std::vector<std::int32_t>& ready) {
  blocked_on_ = -1;
  while (find_place()) {
    if (op_ == 0) {
      bind();
    }
    if (op_ == 0 && iteration_ == 0 && shape().folds) {
      if (!run_folded()) {
        return State::blocked;
      }
      ++call_;
      continue;
    }
    if (!run_op(ready)) {
      return State::blocked;
    }
    if (++op_ == model_.blocks[index(call().block)].size()) {
      op_ = 0;
      ++iteration_;
    }
  }
  return State::finished;
}

Value RoleWalk::resolve(const Value& v) const {
  return v.meeting < 0 ? v : posted[index(v.meeting)].value;
}

std::int32_t RoleWalk::last_record(const std::vector<Value>& waits) const {
  std::int32_t last = -1;
  for (const Value& v : waits) {
    if (v.record >= 0 && (last < 0 || records_[index(v.record)].end > records_[index(last)].end)) {
      last = v.record;
    }
  }
  return last;
}

// ---- ops

bool RoleWalk::run_op(std::vector<std::int32_t>& ready) {
  const std::vector<OpModel>& block = model_.blocks[index(call().block)];
  const OpModel& op = block[op_];
  block_ops_.resize(std::max(block_ops_.size(), block.size()));
  waits_.clear();
  for (const std::uint16_t position : op.after) {
    waits_.push_back(block_ops_[position]);
  }
  for (const EventRef& e : op.waits) {
    waits_.push_back(events_[index(e.copy(binding_))]);
  }
  waits_.push_back(streams_[index(op.stream)]);
  if (op.kind == OpKind::meeting) {
    post(op, ready);
    return true;
  }
  Time start;
  for (Value& v : waits_) {
    if (!is_known(v)) {
      blocked_on_ = v.meeting;
      return false;
    }
    v = resolve(v);
    start = std::max(start, v.time);
  }
  Value value{start + op.duration};
  if (op.stream == plan::kCompute) {
    attribute_gap(start, last_record(waits_));
    piece(start, value.time, op.share);
  } else {
    value.record = static_cast<std::int32_t>(records_.size());
    records_.push_back({start, value.time, last_record(waits_), op.share});
  }
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
  if (step >= 0) {
    step_ends_[index(step)] = std::max(step_ends_[index(step)], t);
  }
}

// ---- ops that meet other roles

void RoleWalk::post(const OpModel& op, std::vector<std::int32_t>& ready) {
  const auto self = static_cast<std::int32_t>(posted.size());
  Posted& p = posted.emplace_back();
  p.op = &op;
  p.binding = binding_;
  p.step = part_ == 2 ? -1 : step_;
  p.waits = waits_;
  p.open = op.meetings.size();
  for (const Value& v : p.waits) {
    if (!is_known(v)) {
      ++p.unknown;
      posted[index(v.meeting)].followers.push_back(self);
    }
  }
  Value value;
  value.meeting = self;
  leave(op, value);
  if (p.unknown == 0) {
    make_ready(self, ready);
  }
}

void RoleWalk::make_ready(std::int32_t self, std::vector<std::int32_t>& ready) {
  Posted& p = posted[index(self)];
  for (Value& v : p.waits) {
    v = resolve(v);
    p.arrival = std::max(p.arrival, v.time);
  }
  p.before = last_record(p.waits);
  p.waits = {};
  ready.push_back(self);
}

void RoleWalk::know(std::int32_t self, std::vector<std::int32_t>& ready) {
  Posted& p = posted[index(self)];
  p.value = {p.end, static_cast<std::int32_t>(records_.size())};
  p.is_known = true;
  records_.push_back({p.start, p.end, p.before, p.op->share});
  reached(p.step, p.end);
  for (const std::int32_t follower : p.followers) {
    if (--posted[index(follower)].unknown == 0) {
      make_ready(follower, ready);
    }
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
void RoleWalk::attribute_gap(Time to, std::int32_t waited_for) {
  const Time from = streams_[plan::kCompute].time;
  gap_.clear();
  std::int32_t next = waited_for;
  while (to > from) {
    const bool covers = next >= 0 && records_[index(next)].end > from;
    const Time end = covers ? std::min(records_[index(next)].end, to) : from;
    gap_.push_back({end, to, &plan::Breakdown::bubble});
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
    attribute_gap(end, last_record(all));
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

// ---- folding

CallShape& RoleWalk::shape() {
  CallShape& s = shapes_[index(instances()[instance_].segment)][call_];
  if (!s.is_known) {
    s = look_at_call();
    s.is_known = true;
  }
  return s;
}

// Walks the call with everything but the compute stream unknown: what it builds on, and when that is used at the
// earliest.
CallShape RoleWalk::look_at_call() const {
  struct Bound {
    Time time;
    bool is_known = false;
    void raise(const Bound& b) {
      if (b.is_known) {
        time = is_known ? std::max(time, b.time) : b.time;
        is_known = true;
      }
    }
  };
  using EventKey = std::pair<std::int32_t, std::int32_t>;  // first copy, layer
  CallShape shape;
  const std::vector<OpModel>& block = model_.blocks[index(call().block)];
  const bool meets =
      std::any_of(block.begin(), block.end(), [](const OpModel& op) { return op.kind == OpKind::meeting; });
  if (meets || block.size() * index(call().count) < kWorthFolding) {
    return shape;
  }
  shape.folds = true;
  std::vector<Bound> streams(streams_.size()), ops(block.size());
  std::vector<bool> is_used(streams_.size());
  std::map<EventKey, Bound> recorded;
  std::map<std::int32_t, std::size_t> stream_input;
  std::map<EventKey, std::size_t> event_input;
  streams[plan::kCompute] = {{}, true};
  std::vector<std::size_t> used;
  for (std::int32_t i = 0; i < call().count; ++i) {
    const std::int32_t layer = call().first < 0 ? -1 : call().first + i * call().step;
    const auto key = [&](const EventRef& e) {
      return EventKey{e.first, e.replicas == plan::Replicas::per_layer ? layer : -1};
    };
    for (std::size_t o = 0; o < block.size(); ++o) {
      const OpModel& op = block[o];
      const auto s = index(op.stream);
      Bound start = streams[s];
      used.clear();
      if (!is_used[s] && op.stream != plan::kCompute) {
        used.push_back(shape.inputs.size());
        shape.inputs.push_back({op.stream, {}, -1, kNever, true});
      }
      is_used[s] = true;
      for (const std::uint16_t position : op.after) {
        start.raise(ops[position]);
      }
      for (const EventRef& e : op.waits) {
        const auto inside = recorded.find(key(e));
        if (inside != recorded.end()) {
          start.raise(inside->second);
          continue;
        }
        const auto [input, is_new] = event_input.try_emplace(key(e), shape.inputs.size());
        if (is_new) {
          shape.inputs.push_back({-1, e, key(e).second, kNever, true});
        }
        used.push_back(input->second);
      }
      for (const std::size_t u : used) {
        CallShape::Slot& input = shape.inputs[u];
        input.bounded = input.bounded && start.is_known;
        input.earliest = std::min(input.earliest, start.time);
      }
      Bound end = start;
      end.time += op.duration;
      streams[s] = ops[o] = end;
      for (const EventRef& e : op.records) {
        if (recorded.insert_or_assign(key(e), end).second) {
          shape.outputs.push_back({-1, e, key(e).second, {}, false});
        }
      }
    }
  }
  for (std::size_t s = 0; s < streams.size(); ++s) {
    if (is_used[s]) {
      shape.outputs.push_back({static_cast<std::int32_t>(s), {}, -1, {}, false});
    }
  }
  return shape;
}

Value& RoleWalk::slot_value(const CallShape::Slot& s) {
  if (s.stream >= 0) {
    return streams_[index(s.stream)];
  }
  plan::Binding b = binding_;
  b.layer = s.layer;
  return events_[index(s.event.copy(b))];
}

bool RoleWalk::run_folded() {
  CallShape& shape = this->shape();
  const Time base = streams_[plan::kCompute].time;
  FoldedCall fresh;
  for (const CallShape::Slot& input : shape.inputs) {
    Value& v = slot_value(input);
    if (!is_known(v)) {
      blocked_on_ = v.meeting;
      return false;
    }
    v = resolve(v);
    const Time since = v.time - base;
    fresh.key.push_back(input.bounded && since < input.earliest ? kIrrelevant : since.value);
  }
  for (const FoldedCall& known : shape.known) {
    if (known.key == fresh.key) {
      replay(shape, known);
      return true;
    }
  }
  outside_ = records_.size();
  touched_outside_ = false;
  last_ = base;
  std::vector<Piece> pieces;
  capture_ = &pieces;
  std::vector<std::int32_t> none;
  const std::size_t ops = model_.blocks[index(call().block)].size();
  for (iteration_ = 0; iteration_ < call().count; ++iteration_) {
    bind();
    for (op_ = 0; op_ < ops; ++op_) {
      const bool ran = run_op(none);
      CHECK(ran, "{}: a folded call waits for op {} of another role", role_.name, blocked_on_);
    }
  }
  iteration_ = 0;
  op_ = 0;
  capture_ = nullptr;
  fresh.last = last_ - base;
  fresh.pieces = std::move(pieces);
  if (!touched_outside_ && shape.known.size() < kRemembered && remember(shape, base, fresh)) {
    shape.known.push_back(std::move(fresh));
    log(&shape.known.back(), base, {});
  } else {
    for (const Piece& p : fresh.pieces) {
      log(nullptr, {}, p);
    }
  }
  outside_ = 0;
  return true;
}

// Makes relative what the call left behind. Only records that end after the compute stream can be waited for later.
// False when such a record waited for one before the call.
bool RoleWalk::remember(const CallShape& shape, Time base, FoldedCall& folded) {
  const Time busy = streams_[plan::kCompute].time;
  std::map<std::int32_t, std::int32_t> renamed;
  const auto keep = [&](std::int32_t record) {
    std::int32_t first = -1;
    std::int32_t* link = &first;
    for (; record >= 0 && records_[index(record)].end > busy; record = records_[index(record)].before) {
      if (index(record) < outside_) {
        return std::pair{-1, false};
      }
      const auto [it, is_new] = renamed.try_emplace(record, static_cast<std::int32_t>(folded.records.size()));
      *link = it->second;
      if (!is_new) {
        break;
      }
      const Record& r = records_[index(record)];
      folded.records.push_back({r.start - base, r.end - base, -1, r.share});
      link = &folded.records.back().before;
    }
    return std::pair{first, true};
  };
  folded.records.reserve(records_.size() - outside_);  // `link` points into it
  for (const CallShape::Slot& s : shape.outputs) {
    const Value& v = slot_value(s);
    const auto [record, reusable] = keep(v.record);
    if (!reusable) {
      return false;
    }
    folded.outputs.push_back({v.time - base, record});
  }
  folded.records.shrink_to_fit();
  folded.busy = busy - base;
  for (Piece& p : folded.pieces) {
    p.start -= base;
    p.end -= base;
    folded.sum.*p.share += p.end - p.start;
  }
  return true;
}

void RoleWalk::replay(const CallShape& shape, const FoldedCall& known) {
  const Time base = streams_[plan::kCompute].time;
  const auto offset = static_cast<std::int32_t>(records_.size());
  for (const Record& r : known.records) {
    records_.push_back({r.start + base, r.end + base, r.before < 0 ? -1 : r.before + offset, r.share});
  }
  for (std::size_t i = 0; i < shape.outputs.size(); ++i) {
    const Value& v = known.outputs[i];
    slot_value(shape.outputs[i]) = {v.time + base, v.record < 0 ? -1 : v.record + offset};
  }
  log(&known, base, {});
  reached(part_ == 2 ? -1 : step_, base + known.last);
}

}  // namespace foretrain::sim
