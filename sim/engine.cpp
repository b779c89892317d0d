#include "sim/engine.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <tuple>

#include "base/error.h"
#include "sim/event_queue.h"

namespace foretrain::sim {
namespace {

using plan::ProgramCursor;

// Place in a rank's program, over all steps.
using Sequence = std::int64_t;
constexpr Sequence kPositions = Sequence{1} << 24;  // ops in one instance at most
constexpr Sequence kDone = std::numeric_limits<Sequence>::max();

struct Dependency {
  int stream = -1;
  Sequence op = -1;
};

enum class State : std::uint8_t { waiting, wants_core, under_way, done };

struct StreamState {
  explicit StreamState(ProgramCursor c) : cursor(std::move(c)) {}
  ProgramCursor cursor;
  int part = 0;  // prologue, body, epilogue
  int step = 0;
  State state = State::waiting;
  Sequence head = 0;  // all earlier ops of the stream are complete
  const OpModel* op = nullptr;
  std::vector<Dependency> dependencies;
  std::vector<Dependency> latest_record;  // by event copy, as of this place in the program
  Time start;
  std::size_t open_meetings = 0;
};

struct Member {
  int role = -1, stream = -1;
};

// What several roles reach before it starts.
struct OpenMeeting {
  MeetingKey key;
  std::vector<Member> members;
  std::size_t expected = 1, entered = 0;
  Time duration, startable;
  const std::vector<std::int64_t>* speed = nullptr;
};

// __int128: a long op in picoseconds times the speed's denominator exceeds 63 bits.
__extension__ using Work = __int128;
struct Running {
  Work remaining = 0;
  Time since;
  std::int64_t speed = 0;  // 0: not running
  std::int64_t ranks = 0;
  std::uint32_t generation = 0;
  const std::vector<std::int64_t>* by_active = nullptr;
};

class Engine {
 public:
  Engine(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, bool exclusive, int steps,
         plan::SpanSink* sink)
      : graph_(graph), models_(models), exclusive_(exclusive), steps_(steps), sink_(sink) {
    for (std::size_t r = 0; r < models.size(); ++r) {
      const plan::Role& role = *models[r].role;
      std::vector<StreamState>& streams = roles_.emplace_back().streams;
      for (std::size_t s = 0; s < role.streams.size(); ++s) {
        streams.emplace_back(ProgramCursor(role, static_cast<int>(r), role.program.prologue, 0));
        streams.back().latest_record.resize(static_cast<std::size_t>(models[r].event_copies));
        per_role_ = std::max(per_role_, role.streams.size());
      }
      all_streams_ += role.streams.size();
      accumulators_.emplace_back(graph, static_cast<int>(r));
      first_ranks_.push_back(plan::first_rank(graph.mesh, role.ranks));
    }
    running_.resize(roles_.size() * per_role_);
    passed_.resize(static_cast<std::size_t>(steps) + 1, 0);
    step_ends_.resize(static_cast<std::size_t>(steps));
  }

  StepTimes run() {
    for (std::size_t r = 0; r < roles_.size(); ++r) {
      for (std::size_t s = 0; s < roles_[r].streams.size(); ++s) {
        seek(static_cast<int>(r), static_cast<int>(s));
      }
      touch(static_cast<int>(r));
    }
    settle();
    while (!queue_.empty()) {
      now_ = queue_.next();
      while (!queue_.empty() && queue_.next() == now_) {
        const Event e = queue_.pop();
        if (running_[static_cast<std::size_t>(e.id)].generation == e.generation) {
          end(e.id);
        }
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
    std::vector<std::size_t> startable;                  // meetings that all members have reached
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

  // ---- cursors

  const OpModel& op_at(int r, const ProgramCursor& c) const {
    return model(r).blocks[static_cast<std::size_t>(c.block())][static_cast<std::size_t>(c.op_in_block())];
  }
  Sequence sequence(int r, const StreamState& s) const {
    const plan::OpId id = s.cursor.id();
    const auto body = static_cast<Sequence>(model(r).role->program.body.size());
    CHECK(id.position < kPositions, "an instance of {} ops", id.position);
    return (id.instance + s.step * body) * kPositions + id.position;
  }

  void note_records(StreamState& s, const OpModel& op, Sequence at) {
    for (const EventRef& e : op.records) {
      s.latest_record[static_cast<std::size_t>(e.copy(s.cursor.binding()))] = {op.stream, at};
    }
  }

  // To the stream's next op at or after the cursor; notes what other streams record on the way.
  void seek(int r, int index) {
    StreamState& s = role(r).streams[static_cast<std::size_t>(index)];
    for (;;) {
      if (!s.cursor) {
        if (!next_part(r, s)) {
          s.state = State::done;
          s.head = kDone;
          return;
        }
        continue;
      }
      const OpModel& op = op_at(r, s.cursor);
      if (op.stream == index) {
        s.op = &op;
        s.head = sequence(r, s);
        s.state = State::waiting;
        find_dependencies(r, s);
        return;
      }
      if (!op.records.empty()) {
        note_records(s, op, sequence(r, s));
      }
      s.cursor.next();
    }
  }

  bool next_part(int r, StreamState& s) {
    const plan::Role& plan_role = *model(r).role;
    const plan::Program& program = plan_role.program;
    const int body = plan::first_body_instance(program);
    if (s.part == 1) {
      pass(s.step);
    }
    if (s.part == 0 || (s.part == 1 && s.step + 1 < steps_)) {
      s.step += s.part;
      s.part = 1;
      s.cursor = ProgramCursor(plan_role, r, program.body, body);
      return true;
    }
    if (s.part == 1) {
      s.part = 2;
      s.cursor = ProgramCursor(plan_role, r, program.epilogue, body + static_cast<int>(program.body.size()));
      return true;
    }
    return false;
  }

  // The last stream to leave a step fixes the step's end.
  void pass(int step) {
    if (++passed_[static_cast<std::size_t>(step)] == all_streams_) {
      Time& end = step_ends_[static_cast<std::size_t>(step)];
      if (step > 0) {
        end = std::max(end, step_ends_[static_cast<std::size_t>(step) - 1]);
      }
      for (plan::BreakdownAccumulator& a : accumulators_) {
        a.end_step(end);
      }
    }
  }

  void find_dependencies(int r, StreamState& s) {
    s.dependencies.clear();
    const int position = s.cursor.op_in_block();
    const std::vector<OpModel>& block = model(r).blocks[static_cast<std::size_t>(s.cursor.block())];
    for (const std::uint16_t p : s.op->after) {
      s.dependencies.push_back({block[p].stream, s.head - (position - p)});
    }
    for (const EventRef& e : s.op->waits) {
      const Dependency& record = s.latest_record[static_cast<std::size_t>(e.copy(s.cursor.binding()))];
      if (record.stream >= 0) {
        s.dependencies.push_back(record);
      }
    }
  }

  bool is_ready(const RoleState& state, StreamState& s) {
    while (!s.dependencies.empty()) {
      const Dependency& d = s.dependencies.back();
      if (state.streams[static_cast<std::size_t>(d.stream)].head <= d.op) {
        return false;
      }
      s.dependencies.pop_back();
    }
    return true;
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
    set_speeds();
    if (queue_.empty() || queue_.next() > now_) {
      flush_spans();
    }
  }

  void begin_ready(Member m) {
    StreamState& s = stream(m);
    while (s.state == State::waiting && is_ready(role(m.role), s)) {
      switch (s.op->kind) {
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

  void start_local(Member m) {
    StreamState& s = stream(m);
    s.state = State::under_way;
    s.start = now_;
    start(m.role * static_cast<std::int32_t>(per_role_) + m.stream, s.op->duration, s.op->speed,
          model(m.role).multiplicity);
  }

  void arrive_together(Member m) {
    StreamState& s = stream(m);
    s.state = State::under_way;
    s.start = Time{-1};
    s.open_meetings = 1;
    const std::size_t index = new_meeting();
    OpenMeeting& meeting = meetings_[index];
    meeting.key = {s.step, {}, m.role, m.role};
    meeting.members = {m};
    meeting.duration = s.op->duration;
    meeting.speed = &s.op->speed;
    all_here(index);
  }

  void arrive(Member m) {
    StreamState& s = stream(m);
    s.state = State::under_way;
    s.open_meetings = s.op->meetings.size();
    s.start = Time{-1};
    for (const Meeting& about : s.op->meetings) {
      const MeetingKey key = about.key(s.step, *model(m.role).role, s.cursor.binding());
      const auto [it, is_new] = open_.try_emplace(key, 0);
      if (is_new) {
        it->second = new_meeting();
        OpenMeeting& fresh = meetings_[it->second];
        fresh.key = key;
        fresh.expected = about.arrivals();
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
      running_.emplace_back();
      return meetings_.size() - 1;
    }
    const std::size_t index = free_meetings_.back();
    free_meetings_.pop_back();
    meetings_[index] = {};
    return index;
  }

  void all_here(std::size_t index) {
    OpenMeeting& meeting = meetings_[index];
    meeting.startable = now_;
    if (!exclusive_) {
      start_meeting(index);
      return;
    }
    for (const int r : roles_of(meeting)) {
      role(r).startable.push_back(index);
    }
  }

  // A message between two streams of one role has that role once.
  static std::vector<int> roles_of(const OpenMeeting& meeting) {
    std::vector<int> roles;
    for (const Member& m : meeting.members) {
      if (std::find(roles.begin(), roles.end(), m.role) == roles.end()) {
        roles.push_back(m.role);
      }
    }
    return roles;
  }

  void start_meeting(std::size_t index) {
    OpenMeeting& meeting = meetings_[index];
    std::int64_t ranks = 0;
    for (const int r : roles_of(meeting)) {
      ranks += model(r).multiplicity;
    }
    for (const Member& m : meeting.members) {
      StreamState& s = stream(m);
      if (s.start.value < 0) {
        s.start = now_;  // an exchange starts with its first message
      }
    }
    start(static_cast<std::int32_t>(roles_.size() * per_role_ + index), meeting.duration, *meeting.speed, ranks);
  }

  // A free core takes the meeting that was startable first, else the lowest ready stream.
  void choose(int r) {
    RoleState& state = role(r);
    if (state.core_taken) {
      return;
    }
    if (!state.startable.empty()) {
      const auto first = std::min_element(state.startable.begin(), state.startable.end(), [&](auto a, auto b) {
        return std::tie(meetings_[a].startable, meetings_[a].key) < std::tie(meetings_[b].startable, meetings_[b].key);
      });
      const std::size_t index = *first;
      state.startable.erase(first);
      state.core_taken = true;
      if (++meetings_[index].entered == roles_of(meetings_[index]).size()) {
        start_meeting(index);
      }
      return;
    }
    for (std::size_t s = 0; s < state.streams.size(); ++s) {
      if (state.streams[s].state == State::wants_core) {
        state.core_taken = true;
        start_local({r, static_cast<int>(s)});
        return;
      }
    }
  }

  // ---- what runs

  void start(std::int32_t id, Time duration, const std::vector<std::int64_t>& by_active, std::int64_t ranks) {
    Running& run = running_[static_cast<std::size_t>(id)];
    ++run.generation;
    run.ranks = ranks;
    if (by_active.empty()) {
      queue_.push({now_ + duration, id, run.generation});
      return;
    }
    run.remaining = static_cast<Work>(duration.value) * kFullSpeed;
    run.since = now_;
    run.speed = 0;
    run.by_active = &by_active;
    active_ranks_ += ranks;
    sharing_.push_back(id);
    sharing_changed_ = true;
  }

  void set_speeds() {
    if (!sharing_changed_) {
      return;
    }
    sharing_changed_ = false;
    for (const std::int32_t id : sharing_) {
      Running& run = running_[static_cast<std::size_t>(id)];
      const std::int64_t speed = (*run.by_active)[static_cast<std::size_t>(active_ranks_)];
      if (speed == run.speed) {
        continue;
      }
      run.remaining -= static_cast<Work>((now_ - run.since).value) * run.speed;
      run.since = now_;
      run.speed = speed;
      const auto left = static_cast<std::int64_t>((run.remaining + speed - 1) / speed);
      queue_.push({now_ + Time{left}, id, ++run.generation});
    }
  }

  void end(std::int32_t id) {
    Running& run = running_[static_cast<std::size_t>(id)];
    ++run.generation;
    if (run.by_active != nullptr) {
      run.by_active = nullptr;
      active_ranks_ -= run.ranks;
      sharing_.erase(std::find(sharing_.begin(), sharing_.end(), id));
      sharing_changed_ = true;
    }
    const auto locals = static_cast<std::int32_t>(roles_.size() * per_role_);
    if (id < locals) {
      const auto streams = static_cast<std::int32_t>(per_role_);
      const Member m{id / streams, id % streams};
      role(m.role).core_taken = false;
      complete(m);
      return;
    }
    const auto index = static_cast<std::size_t>(id - locals);
    const OpenMeeting meeting = std::move(meetings_[index]);
    free_meetings_.push_back(index);
    for (const int r : roles_of(meeting)) {
      role(r).core_taken = false;
    }
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
    span.step = s.step;
    span.stream = s.op->stream;
    span.multiplicity = static_cast<std::int32_t>(model(m.role).multiplicity);
    span.rank = first_ranks_[static_cast<std::size_t>(m.role)];
    span.start = s.start;
    span.end = now_;
    role(m.role).spans.emplace_back(s.head, span);
    if (s.part < 2) {
      Time& end = step_ends_[static_cast<std::size_t>(s.step)];
      end = std::max(end, now_);
    }
    note_records(s, *s.op, s.head);
    s.cursor.next();
    seek(m.role, m.stream);
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
        if (s.state != State::done) {
          const plan::OpId id = s.cursor.id();
          waiting += fmt::format("{}{} {}.{}", waiting.empty() ? "" : ", ", model(static_cast<int>(r)).role->name,
                                 id.instance, id.position);
        }
      }
    }
    CHECK(waiting.empty(), "the graph deadlocks; waiting: {}", waiting);
  }

  const plan::PlanGraph& graph_;
  const std::vector<RoleModel>& models_;
  const bool exclusive_;
  const int steps_;
  plan::SpanSink* sink_;
  Time now_;
  EventQueue queue_;
  std::vector<RoleState> roles_;
  std::vector<int> touched_;
  std::size_t per_role_ = 1;  // running_: role x per_role_ + stream, then the meetings
  std::size_t all_streams_ = 0;
  std::vector<Running> running_;
  std::vector<OpenMeeting> meetings_;
  std::vector<std::size_t> free_meetings_;
  std::map<MeetingKey, std::size_t> open_;
  std::vector<std::int32_t> sharing_;  // running on shared cores
  std::int64_t active_ranks_ = 0;
  bool sharing_changed_ = false;
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
