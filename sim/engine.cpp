#include "sim/engine.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/error.h"
#include "sim/activities.h"
#include "sim/stream_cursor.h"

namespace foretrain::sim {
namespace {

enum class State : std::uint8_t { waiting, wants_core, under_way };

struct StreamState {
  explicit StreamState(StreamCursor c) : cursor(std::move(c)) {}
  StreamCursor cursor;
  State state = State::waiting;
  Time start;
  std::size_t open_meetings = 0;
};

struct Member {
  int role = -1, stream = -1;
};

// What its members reach before it starts: a message, or a collective.
struct OpenMeeting {
  MeetingKey key;
  std::vector<Member> members;
  std::size_t expected = 1;
  bool is_message = false;
  std::size_t shares = 0;  // not done yet, on exclusive devices
  Time duration, startable;
  const std::vector<std::int64_t>* speed = nullptr;
};

class Engine {
 public:
  Engine(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, bool exclusive, int steps,
         plan::SpanSink* sink)
      : models_(models), exclusive_(exclusive), sink_(sink) {
    for (std::size_t r = 0; r < models.size(); ++r) {
      const plan::Role& role = *models[r].role;
      std::vector<StreamState>& streams = roles_.emplace_back().streams;
      for (std::size_t s = 0; s < role.streams.size(); ++s) {
        streams.emplace_back(StreamCursor(models[r], static_cast<int>(r), static_cast<int>(s), steps));
        per_role_ = std::max(per_role_, role.streams.size());
      }
      all_streams_ += role.streams.size();
      accumulators_.emplace_back(graph, static_cast<int>(r));
      first_ranks_.push_back(plan::first_rank(graph.mesh, role.ranks));
    }
    passed_.resize(static_cast<std::size_t>(steps), 0);
    step_ends_.resize(static_cast<std::size_t>(steps));
  }

  StepTimes run() {
    for (std::size_t r = 0; r < roles_.size(); ++r) {
      for (StreamState& s : roles_[r].streams) {
        s.cursor.seek(left_);
      }
      touch(static_cast<int>(r));
    }
    pass_steps();
    settle();
    while (!activities_.empty()) {
      now_ = activities_.next();
      while (!activities_.empty() && activities_.next() == now_) {
        end(activities_.pop());
      }
      settle();
    }
    check_all_done();
    StepTimes result{std::move(step_ends_), {}};
    for (plan::BreakdownAccumulator& a : accumulators_) {
      result.breakdown.push_back(a.finish().back());
    }
    return result;
  }

 private:
  struct RoleState {
    std::vector<StreamState> streams;
    bool is_touched = false;
    bool core_taken = false;
    std::ptrdiff_t share = -1;           // the meeting that the core is at work for
    std::vector<std::size_t> startable;  // meetings that all have reached and that need a share of this role
    std::vector<std::pair<Sequence, plan::Span>> spans;  // of this instant
  };

  RoleState& role(int r) { return roles_[static_cast<std::size_t>(r)]; }
  StreamState& stream(Member m) { return role(m.role).streams[static_cast<std::size_t>(m.stream)]; }
  const RoleModel& model(int r) const { return models_[static_cast<std::size_t>(r)]; }

  void touch(int r) {
    if (!role(r).is_touched) {
      role(r).is_touched = true;
      touched_.push_back(r);
    }
  }

  // The last stream to leave a step fixes the step's end.
  void pass_steps() {
    for (const int step : left_) {
      const auto s = static_cast<std::size_t>(step);
      if (++passed_[s] == all_streams_) {
        step_ends_[s] = std::max(step_ends_[s], step > 0 ? step_ends_[s - 1] : Time{});
        for (plan::BreakdownAccumulator& a : accumulators_) {
          a.end_step(step_ends_[s]);
        }
      }
    }
    left_.clear();
  }

  // ---- beginnings

  void settle() {
    while (!touched_.empty()) {
      const int r = touched_.back();
      touched_.pop_back();
      role(r).is_touched = false;
      for (std::size_t s = 0; s < role(r).streams.size(); ++s) {
        begin_ready({r, static_cast<int>(s)});
      }
    }
    if (exclusive_) {
      for (std::size_t r = 0; r < roles_.size(); ++r) {
        choose(static_cast<int>(r));
      }
    }
    activities_.set_speeds(now_);
    if (activities_.empty() || activities_.next() > now_) {
      flush_spans();
    }
  }

  bool is_ready(const RoleState& state, StreamState& s) {
    std::vector<Dependency>& dependencies = s.cursor.dependencies();
    while (!dependencies.empty()) {
      const Dependency& d = dependencies.back();
      if (state.streams[static_cast<std::size_t>(d.stream)].cursor.head() <= d.op) {
        return false;
      }
      dependencies.pop_back();
    }
    return true;
  }

  void begin_ready(Member m) {
    StreamState& s = stream(m);
    while (s.state == State::waiting && !s.cursor.at_end() && is_ready(role(m.role), s)) {
      switch (s.cursor.op().kind) {
        case OpKind::instant:
          s.start = now_;
          complete(m);
          break;
        case OpKind::local:
          if (exclusive_) {
            s.state = State::wants_core;
          } else {
            start_local(m);
          }
          break;
        case OpKind::together: arrive_together(m); break;
        case OpKind::meeting: arrive(m); break;
      }
    }
  }

  std::int32_t local_id(Member m) const { return m.role * static_cast<std::int32_t>(per_role_) + m.stream; }

  void start_local(Member m) {
    StreamState& s = stream(m);
    s.state = State::under_way;
    s.start = now_;
    const OpModel& op = s.cursor.op();
    activities_.start(local_id(m), now_, op.duration, op.speed, model(m.role).multiplicity);
  }

  // ---- meetings

  void arrive_together(Member m) {
    StreamState& s = stream(m);
    s.state = State::under_way;
    s.start = Time{-1};
    s.open_meetings = 1;
    const std::size_t index = new_meeting();
    OpenMeeting& meeting = meetings_[index];
    meeting.key = {s.cursor.step(), {}, m.role, m.role};
    meeting.members = {m};
    meeting.duration = s.cursor.op().duration;
    meeting.speed = &s.cursor.op().speed;
    all_here(index);
  }

  void arrive(Member m) {
    StreamState& s = stream(m);
    s.state = State::under_way;
    s.start = Time{-1};
    s.open_meetings = s.cursor.op().meetings.size();
    for (const Meeting& about : s.cursor.op().meetings) {
      const MeetingKey key = about.key(s.cursor.step(), *model(m.role).role, s.cursor.binding());
      const auto [it, is_new] = open_.try_emplace(key, 0);
      if (is_new) {
        it->second = new_meeting();
        OpenMeeting& fresh = meetings_[it->second];
        fresh.key = key;
        fresh.expected = about.arrivals();
        fresh.is_message = about.is_message;
        fresh.speed = &about.speed;
      }
      const std::size_t index = it->second;
      OpenMeeting& meeting = meetings_[index];
      meeting.members.push_back(m);
      meeting.duration = std::max(meeting.duration, about.duration);
      if (meeting.members.size() == meeting.expected) {
        open_.erase(it);
        all_here(index);
      }
    }
  }

  std::size_t new_meeting() {
    if (free_meetings_.empty()) {
      meetings_.emplace_back();
      return meetings_.size() - 1;
    }
    const std::size_t index = free_meetings_.back();
    free_meetings_.pop_back();
    meetings_[index] = {};
    return index;
  }

  static std::vector<int> roles_of(const OpenMeeting& meeting) {
    std::vector<int> roles;
    for (const Member& m : meeting.members) {
      if (std::find(roles.begin(), roles.end(), m.role) == roles.end()) {
        roles.push_back(m.role);
      }
    }
    return roles;
  }

  void all_here(std::size_t index) {
    OpenMeeting& meeting = meetings_[index];
    meeting.startable = now_;
    for (const Member& m : meeting.members) {
      StreamState& s = stream(m);
      if (s.start.value < 0) {
        s.start = now_;  // an exchange starts with its first message
      }
    }
    const std::vector<int> roles = roles_of(meeting);
    if (!exclusive_) {
      std::int64_t ranks = 0;
      for (const int r : roles) {
        ranks += model(r).multiplicity;
      }
      activities_.start(static_cast<std::int32_t>(roles_.size() * per_role_ + index), now_, meeting.duration,
                        *meeting.speed, ranks);
      return;
    }
    meeting.shares = meeting.is_message ? 1 : roles.size();
    for (const int r : roles) {
      if (!meeting.is_message || r == std::get<3>(meeting.key)) {
        role(r).startable.push_back(index);
      }
    }
  }

  // What a free core does next.
  void choose(int r) {
    RoleState& state = role(r);
    if (state.core_taken) {
      return;
    }
    if (!state.startable.empty()) {
      const auto first = std::min_element(state.startable.begin(), state.startable.end(), [&](auto a, auto b) {
        return std::tie(meetings_[a].startable, meetings_[a].key) < std::tie(meetings_[b].startable, meetings_[b].key);
      });
      const OpenMeeting& meeting = meetings_[*first];
      state.share = static_cast<std::ptrdiff_t>(*first);
      state.startable.erase(first);
      state.core_taken = true;
      activities_.start(local_id({r, 0}), now_, meeting.duration, *meeting.speed, model(r).multiplicity);
      return;
    }
    const StreamState* next = nullptr;
    for (const StreamState& s : state.streams) {
      if (s.state == State::wants_core && (next == nullptr || s.cursor.head() < next->cursor.head())) {
        next = &s;
      }
    }
    if (next != nullptr) {
      state.core_taken = true;
      start_local({r, next->cursor.op().stream});
    }
  }

  // ---- ends

  // Below roles x streams: a local op, or on an exclusive device a share; then the meetings.
  void end(std::int32_t id) {
    const auto locals = static_cast<std::int32_t>(roles_.size() * per_role_);
    if (id >= locals) {
      end_meeting(static_cast<std::size_t>(id - locals));
      return;
    }
    const auto streams = static_cast<std::int32_t>(per_role_);
    const Member m{id / streams, id % streams};
    RoleState& state = role(m.role);
    state.core_taken = false;
    if (state.share < 0) {
      complete(m);
      return;
    }
    const auto index = static_cast<std::size_t>(state.share);
    state.share = -1;
    if (--meetings_[index].shares == 0) {
      end_meeting(index);
    }
  }

  void end_meeting(std::size_t index) {
    const OpenMeeting meeting = std::move(meetings_[index]);
    free_meetings_.push_back(index);
    for (const Member& m : meeting.members) {
      if (--stream(m).open_meetings == 0) {
        complete(m);
      }
    }
  }

  void complete(Member m) {
    StreamState& s = stream(m);
    plan::Span span;
    span.op = s.cursor.id();
    span.step = s.cursor.step();
    span.stream = s.cursor.op().stream;
    span.multiplicity = static_cast<std::int32_t>(model(m.role).multiplicity);
    span.rank = first_ranks_[static_cast<std::size_t>(m.role)];
    span.start = s.start;
    span.end = now_;
    role(m.role).spans.emplace_back(s.cursor.head(), span);
    if (!s.cursor.in_epilogue()) {
      Time& end = step_ends_[static_cast<std::size_t>(s.cursor.step())];
      end = std::max(end, now_);
    }
    s.state = State::waiting;
    s.cursor.leave(left_);
    pass_steps();
    touch(m.role);
  }

  void flush_spans() {
    for (std::size_t r = 0; r < roles_.size(); ++r) {
      auto& spans = roles_[r].spans;
      std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
      for (const auto& [at, span] : spans) {
        accumulators_[r].add(span);
        if (sink_ != nullptr) {
          sink_->span(span);
        }
      }
      spans.clear();
    }
  }

  void check_all_done() {
    std::string waiting;
    for (std::size_t r = 0; r < roles_.size(); ++r) {
      for (const StreamState& s : roles_[r].streams) {
        if (!s.cursor.at_end()) {
          const plan::OpId id = s.cursor.id();
          waiting += fmt::format("{}{} {}.{}", waiting.empty() ? "" : ", ", model(static_cast<int>(r)).role->name,
                                 id.instance, id.position);
        }
      }
    }
    CHECK(waiting.empty(), "the graph deadlocks; waiting: {}", waiting);
  }

  const std::vector<RoleModel>& models_;
  const bool exclusive_;
  plan::SpanSink* sink_;
  Time now_;
  Activities activities_;
  std::vector<RoleState> roles_;
  std::vector<int> touched_;
  std::size_t per_role_ = 1;  // most streams of a role
  std::size_t all_streams_ = 0;
  std::vector<OpenMeeting> meetings_;
  std::vector<std::size_t> free_meetings_;
  std::map<MeetingKey, std::size_t> open_;
  std::vector<int> left_;            // scratch: steps that a stream has just left
  std::vector<std::size_t> passed_;  // by step: streams that have left it
  std::vector<Time> step_ends_;
  std::vector<plan::BreakdownAccumulator> accumulators_;
  std::vector<plan::Rank> first_ranks_;
};

}  // namespace

StepTimes run_events(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, bool exclusive_streams,
                     int steps, plan::SpanSink* sink) {
  return Engine(graph, models, exclusive_streams, steps, sink).run();
}

}  // namespace foretrain::sim
