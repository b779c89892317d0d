// Folding of block calls: what a call builds on, remembering what it did, and replaying it.
#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "sim/kept_records.h"
#include "sim/role_walk.h"

namespace foretrain::sim {
namespace {

// Time of an input that comes too early to matter.
constexpr std::int64_t kIrrelevant = INT64_MIN;
// Before the index of one that is pending.
constexpr std::int64_t kPending = INT64_MIN + 1;
// Of the host, where an op may start at any time.
constexpr Time kUnknownSlack{INT64_MIN};
// Of a call that did not compute.
constexpr Time kNothingComputed{INT64_MIN / 2};
// Fewer ops are walked as fast as they are looked up.
constexpr std::size_t kWorthFolding = 4;
// Different beginnings of one call that a round remembers; in the steady state there is one.
constexpr std::size_t kRemembered = 64;
// Of these, whose flows held each other back: then those of others will, too.
constexpr std::size_t kHeldBack = 4;

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

CallShape& RoleWalk::shape() {
  if (!shape_->is_known) {
    *shape_ = look_at_call();
    shape_->is_known = true;
  }
  return *shape_;
}

// Nothing of other classes, nor any flow, runs beside the call, and nobody held back its flows in the rounds before.
bool RoleWalk::can_fold() {
  if (foreign_until_ > streams_[plan::kCompute].time || !shape().folds) {
    return false;
  }
  pending_key_.clear();
  if (!pending_.empty() && !note_pending()) {
    return false;
  }
  return shape_->flows == 0 || flow_times_.is_alone({self_, foreign_meetings_}, shape_->flows);
}

// A collective that no other class takes part in, on links that it may share.
bool RoleWalk::is_own_flow(const OpModel& op) const {
  return op.meetings.size() == 1 && ranks_.place(op.meetings.front()).arrivals == 1 &&
         ranks_.route(op.meetings.front()) >= 0;
}

// Keeps what the last round came by: other beginnings are not met again.
void RoleWalk::forget_unused() {
  for (std::vector<CallShape>& segment : shapes_) {
    for (CallShape& shape : segment) {
      std::erase_if(shape.known, [](const FoldedCall& call) { return !call.is_used; });
      std::for_each(shape.known.begin(), shape.known.end(), [](FoldedCall& call) { call.is_used = false; });
      shape.remembered = 0;
    }
  }
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
  const std::vector<OpModel>& block = *block_;
  const plan::BlockCall& call = *block_call_;
  const bool meets = std::any_of(block.begin(), block.end(),
                                 [&](const OpModel& op) { return ranks_.meets_others(op) && !is_own_flow(op); });
  if (meets || block.size() * index(call.count) < kWorthFolding) {
    return shape;
  }
  shape.folds = true;
  shape.host_slack = kNever;
  std::vector<Bound> streams(streams_.size()), ops(block.size());
  std::vector<bool> is_used(streams_.size());
  std::map<EventKey, Bound> recorded;
  std::map<std::int32_t, std::size_t> stream_input;
  std::map<EventKey, std::size_t> event_input;
  streams[plan::kCompute] = {{}, true};
  std::vector<std::size_t> used;
  for (std::int32_t i = 0; i < call.count; ++i) {
    const std::int32_t layer = call.first < 0 ? -1 : call.first + i * call.step;
    const auto key = [&](const EventRef& e) {
      return EventKey{e.first, e.replicas == plan::Replicas::per_layer ? layer : -1};
    };
    for (std::size_t o = 0; o < block.size(); ++o) {
      const OpModel& op = block[o];
      shape.flows += is_own_flow(op) ? 1 : 0;
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
      shape.submit += op.submit;
      if (op.submit.value > 0 && !shape.holds_host) {  // later ones follow what it waited for
        shape.host_slack = start.is_known ? std::min(shape.host_slack, start.time - shape.submit) : kUnknownSlack;
      }
      shape.holds_host = shape.holds_host || op.holds_host;
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
  key_.clear();
  for (const CallShape::Slot& input : shape.inputs) {
    Value& v = slot_value(input);
    if (!is_known(v)) {
      if (const std::int32_t pending = pending_index(v.meeting); pending >= 0) {
        key_.insert(key_.end(), {kPending, pending});
        continue;
      }
      blocked_on_ = v.meeting;
      return false;
    }
    v = resolve(v);
    const Time since = v.time - base;
    key_.push_back(input.bounded && since < input.earliest ? kIrrelevant : since.value);
  }
  const Time host = submitted_ - base;
  key_.push_back(shape.submit.value == 0 || host <= shape.host_slack ? kIrrelevant : host.value);
  key_.insert(key_.end(), pending_key_.begin(), pending_key_.end());
  for (FoldedCall& known : shape.known) {
    if (known.key == key_) {
      known.is_used = true;
      replay(shape, known);
      return true;
    }
  }
  FoldedCall fresh;
  fresh.key = key_;
  outside_ = records_.size();
  touched_outside_ = false;
  last_ = base;
  const std::size_t passed = posted.size(), met = foreign_meetings_;
  std::vector<EarlierPending> earlier;
  for (const std::int32_t p : pending_) {
    earlier.push_back({p, open_index(p) >= 0});
  }
  posted_before_ = passed;
  first_of_earlier_ = kNever;
  const Time computed_before = computed_, first_before = std::exchange(first_, kNever);
  std::vector<Piece> pieces;
  capture_ = &pieces;
  for (iteration_ = 0; iteration_ < block_call_->count; ++iteration_) {
    bind();
    for (op_ = 0; op_ < block_->size(); ++op_) {
      const bool ran = run_op();
      CHECK(ran, "{}: a folded call waits for op {} of another role", role_.name, blocked_on_);
    }
  }
  iteration_ = 0;
  op_ = 0;
  capture_ = nullptr;
  fresh.last = last_ - base;
  fresh.first = first_ - base;
  began(std::min(first_before, first_of_earlier_));
  fresh.computed = computed_ > computed_before ? computed_ - base : kNothingComputed;
  fresh.submitted = submitted_ - base;
  fresh.pieces = std::move(pieces);
  std::optional<CallFlows> flows;
  if (shape.flows == 0) {
    flows.emplace();
  } else if (pending_.empty() && (flows = flows_since(passed, met, base)) == std::nullopt) {
    shape.folds = ++shape.held_back < kHeldBack;
  }
  if (flows && !touched_outside_ && shape.remembered < kRemembered && remember(shape, earlier, base, fresh)) {
    fresh.flows = *std::move(flows);
    for (const CallFlows::Flow& f : fresh.flows.flows) {
      fresh.longest = std::max(fresh.longest, f.used);
    }
    fresh.is_used = true;
    ++shape.remembered;
    shape.known.push_back(std::move(fresh));
    log(&shape.known.back(), base, {});
  } else {
    for (const Piece& p : fresh.pieces) {
      log(nullptr, {}, p);
    }
  }
  outside_ = posted_before_ = 0;
  return true;
}

// Of the ops posted since, which have ended; nothing where they held each other back.
std::optional<CallFlows> RoleWalk::flows_since(std::size_t passed, std::size_t meeting, Time base) const {
  std::vector<CallFlows::Flow> flows;
  for (std::size_t i = passed; i < posted.size(); ++i) {
    const Posted& p = posted[i];
    if (is_own_flow(*p.op)) {
      const Meeting& m = p.op->meetings.front();
      CallFlows::Flow& f = flows.emplace_back();
      f = {p.meetings_before - meeting, ranks_.route(m), m.flow, p.start - base, p.end - p.start, p.beside};
      for (Stretch& s : f.beside) {
        s = {s.from - base, s.to - base};
      }
    }
  }
  return flow_times_.call_of(std::move(flows));
}

// Makes relative what the call left behind. False where that cannot be told without what was before it.
bool RoleWalk::remember(const CallShape& shape, const std::vector<EarlierPending>& earlier, Time base,
                        FoldedCall& folded) {
  const Time busy = streams_[plan::kCompute].time;
  KeptRecords records(records_, outside_, base, busy, folded.records);
  for (const CallShape::Slot& s : shape.outputs) {
    folded.outputs.push_back(kept(slot_value(s), base, records));
  }
  if (!remember_pending(earlier, base, records, folded) || records.has_failed()) {
    return false;
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
  if (!known.ended.empty() || !known.pending.empty()) {
    replay_pending(known, base, offset);
  }
  for (std::size_t i = 0; i < shape.outputs.size(); ++i) {
    slot_value(shape.outputs[i]) = moved(known.outputs[i], base, offset);
  }
  if (shape.flows > 0) {
    flow_times_.begin({self_, foreign_meetings_}, base, known.flows);
    foreign_meetings_ += shape.flows;
  }
  submitted_ = shape.holds_host ? base + known.submitted : submitted_ + shape.submit;
  computed_ = std::max(computed_, base + known.computed);
  log(&known, base, {});
  began(base + known.first);
  reached(part_ == 2 ? -1 : step_, base + known.last);
}

}  // namespace foretrain::sim
