#include "sim/engine.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "sim/activities.h"
#include "sim/actor.h"
#include "sim/lowered_role.h"
#include "sim/meeting_flows.h"
#include "sim/open_channels.h"
#include "sim/open_meetings.h"
#include "sim/shared_devices.h"
#include "sim/span_log.h"

namespace foretrain::sim {
namespace {

using State = StreamState::State;

class Engine {
 public:
  Engine(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, const std::vector<RankClass>& classes,
         const EventOptions& options, plan::SpanSink* sink)
      : graph_(graph),
        classes_(classes),
        exclusive_(options.exclusive_streams),
        jitter_(options.jitter),
        log_(sink),
        flows_(options.flows) {
    const int steps = options.steps;
    std::vector<std::int32_t> lowered(models.size(), -1);
    lowered_.reserve(models.size());
    std::int64_t ops = 0;
    for (const RankClass& c : classes) {
      const auto m = static_cast<std::size_t>(c.model);
      if (lowered[m] < 0) {
        lowered[m] = static_cast<std::int32_t>(lowered_.size());
        lowered_.emplace_back(models[m], c.role, steps);
      }
      Actor& actor = actors_.emplace_back();
      actor.program = &lowered_[static_cast<std::size_t>(lowered[m])];
      actor.first_stream = static_cast<std::int32_t>(streams_.size());
      actor.streams = static_cast<std::int32_t>(models[m].role->streams.size());
      actor.role = models[m].role;
      actor.reads = models[m].reads.value_or(plan::Reads{});
      streams_.resize(streams_.size() + models[m].role->streams.size());
      owner_.resize(streams_.size(), static_cast<std::int32_t>(actors_.size() - 1));
      log_.add_class(graph, c.role);
      ops += actor.program->ops_per_step();
    }
    open_ops_.assign(static_cast<std::size_t>(steps), ops);
    step_ends_.resize(static_cast<std::size_t>(steps));
    if (options.sharing != nullptr) {
      shared_.emplace(actors_.size(), *options.sharing, activities_, flows_);
    }
  }

  StepTimes run() {
    for (std::int32_t a = 0; a < static_cast<std::int32_t>(actors_.size()); ++a) {
      for (std::int32_t s = 0; s < actor(a).streams; ++s) {
        advance({a, s});
      }
      touch(a);
    }
    for (std::size_t step = 0; step < open_ops_.size() && open_ops_[step] == 0; ++step) {
      end_step(step);
    }
    settle();
    while (!activities_.empty() || !flows_.empty()) {
      now_ = next();
      end_those_due();
      settle();
    }
    check_all_done();
    return {std::move(step_ends_), log_.breakdowns(), ops_};
  }

 private:
  Actor& actor(std::int32_t a) { return actors_[static_cast<std::size_t>(a)]; }
  const RankClass& rank_class(std::int32_t a) const { return classes_[static_cast<std::size_t>(a)]; }
  std::int32_t id_of(Member m) { return actor(m.actor).first_stream + m.stream; }
  StreamState& stream(Member m) { return streams_[static_cast<std::size_t>(id_of(m))]; }

  void touch(std::int32_t a) {
    if (!actor(a).is_touched) {
      actor(a).is_touched = true;
      touched_.push_back(a);
    }
  }

  void advance(Member m) {
    StreamState& s = stream(m);
    const LoweredRole& program = *actor(m.actor).program;
    s.met = 0;
    s.held_by_host = false;
    if (program.advance(m.stream, s.place)) {
      s.state = State::waiting;
      s.op = &program.op(s.place);
    } else {
      s.state = State::finished;
    }
  }

  void end_step(std::size_t step) {
    step_ends_[step] = std::max(step_ends_[step], step > 0 ? step_ends_[step - 1] : Time{});
    log_.end_step(step_ends_[step]);
  }

  // The next instant at which anything happens.
  Time next() {
    if (flows_.empty()) {
      return activities_.next();
    }
    const Time flow = flows_.next();
    return activities_.empty() ? flow : std::min(flow, activities_.next());
  }

  void end_those_due() {
    while (!activities_.empty() && activities_.next() == now_) {
      const std::int32_t id = activities_.pop();
      if (shared_) {
        shared_->end(id);
      }
      end(id);
    }
    if (!flows_.empty() && flows_.next() == now_) {
      for (const std::int32_t meeting : flows_.advance(now_)) {
        if (shared_) {
          shared_->end(meeting_id(static_cast<std::size_t>(meeting)));
        }
        end_meeting(static_cast<std::size_t>(meeting));
      }
    }
  }

  // ---- beginnings

  void settle() {
    while (!touched_.empty()) {
      const std::int32_t a = touched_.back();
      touched_.pop_back();
      actor(a).is_touched = false;
      for (std::int32_t s = 0; s < actor(a).streams; ++s) {
        begin_ready({a, s});
      }
    }
    channels_.serve(meet_, [this](const ChannelEnd& take, int worker) { stream(take.member).sender = worker; });
    if (exclusive_) {
      for (std::int32_t a = 0; a < static_cast<std::int32_t>(actors_.size()); ++a) {
        choose(a);
      }
    }
    if (shared_) {
      shared_->set_speeds(now_);
    }
    activities_.set_speeds(now_);
    if ((activities_.empty() && flows_.empty()) || next() > now_) {
      log_.flush();
    }
  }

  // Streams are asked far more often than they can go on: what held one back is looked at first, and by itself.
  bool is_ready(const Actor& of, StreamState& s) {
    const auto has_ended = [&](std::int32_t on, Sequence place) {
      return streams_[static_cast<std::size_t>(of.first_stream + on)].place.sequence > place;
    };
    if (s.awaited >= 0) {
      if (!has_ended(s.awaited, s.until)) {
        return false;
      }
      s.awaited = -1;
      ++s.met;
    }
    const LoweredRole::Range waits = of.program->dependencies(s.place);
    for (const Dependency* d = waits.begin + s.met; d != waits.end; ++d, ++s.met) {
      const Sequence place = of.program->resolve(s.place, *d);
      if (!has_ended(d->stream, place)) {
        s.awaited = d->stream;
        s.until = place;
        return false;
      }
    }
    return true;
  }

  void begin_ready(Member m) {
    StreamState& s = stream(m);
    while (s.state == State::waiting && is_ready(actor(m.actor), s)) {
      if (s.op->model->submit.value > 0 && wait_for_host(m)) {
        return;
      }
      switch (s.op->model->kind) {
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
        case OpKind::read: start_read(m); break;
        case OpKind::meeting: arrive(m); break;
        case OpKind::channel: reach_channel(m); break;
      }
    }
  }

  bool wait_for_host(Member m) {
    StreamState& s = stream(m);
    const Actor& self = actor(m.actor);
    const Sequence held_by = self.program->held_by(s.place);
    if (held_by > self.held_by) {
      s.held_by_host = true;
      return true;
    }
    const Time submitted = self.late + self.program->submitted(s.place);
    if (held_by < self.held_by || submitted <= now_) {  // what comes before an op that has ended was submitted
      return false;
    }
    s.state = State::with_host;
    s.held_by_host = true;
    activities_.start(id_of(m), now_, submitted - now_, {}, 0);
    return true;
  }

  void start_local(Member m) {
    StreamState& s = stream(m);
    s.state = State::under_way;
    s.start = now_;
    const OpModel& op = *s.op->model;
    const RankClass& ranks = rank_class(m.actor);
    const Time duration = jitter_(op.duration, ranks.first, s.place.sequence);
    if (shared_ && op.stream == plan::kCompute) {
      shared_->start_compute(m.actor, id_of(m), now_, duration, *op.like);
    } else {
      activities_.start(id_of(m), now_, duration, op.speed, ranks.multiplicity, op.at_work);
    }
  }

  // It takes no core: nobody but the rank waits for it.
  void start_read(Member m) {
    StreamState& s = stream(m);
    s.start = now_;
    const Time there = actor(m.actor).reads.take(now_);
    if (there == now_) {
      complete(m);
      return;
    }
    s.state = State::under_way;
    activities_.start(id_of(m), now_, there - now_, {}, 0);
  }

  // ---- meetings

  void arrive(Member m) {
    StreamState& s = stream(m);
    const LoweredOp& op = *s.op;
    s.state = State::under_way;
    s.start = Time{-1};
    s.open_meetings = static_cast<std::uint32_t>(op.model->meetings.size());
    for (const Meeting& about : op.model->meetings) {
      const MeetingPlace place = rank_class(m.actor).place(about);
      const std::int32_t step = s.place.part == LoweredRole::kEpilogue ? -1 : s.place.step;
      const MeetingKey key{step, about.tag, op.layer, op.microbatch, place.instance};
      const std::size_t index = meetings_.find(key, place.arrivals, about);
      if (meetings_.join(index, place.arrivals, about, rank_class(m.actor).route(about), m)) {
        all_here(index);
      }
    }
  }

  void reach_channel(Member m) {
    StreamState& s = stream(m);
    const OpModel& op = *s.op->model;
    const auto& channel = std::get<plan::Channel>(op.op->work);
    const plan::Group& group = graph_.groups[static_cast<std::size_t>(channel.group)];
    const RankClass& ranks = rank_class(m.actor);
    const Meeting& about = op.meetings.front();
    s.state = State::under_way;
    s.start = Time{-1};
    const std::int32_t instance = ranks.place(about).instance;
    const int index = plan::index_in_group(graph_.mesh, group, ranks.first);
    const ChannelEnd end{&channel, &about, instance, s.place.step, s.op->microbatch, index, m};
    s.open_meetings = channels_.reach(end, plan::group_size(graph_.mesh, group) - 1, now_, meet_);
    if (s.open_meetings == 0) {
      s.start = now_;
      complete(m);
    }
  }

  std::int32_t meeting_id(std::size_t index) const { return static_cast<std::int32_t>(streams_.size() + index); }

  // Actors of a meeting, each once (both ends of a message may be one).
  const std::vector<std::int32_t>& actors_of(const OpenMeeting& meeting) {
    scratch_.clear();
    for (const Member& m : meeting.members) {
      if (!meeting.is_message || scratch_.empty() || scratch_.front() != m.actor) {
        scratch_.push_back(m.actor);
      }
    }
    return scratch_;
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
    const std::int32_t id = meeting_id(index);
    const bool takes = shared_ && !meeting.load.is_none();
    if (meeting.route >= 0) {
      const auto flow = static_cast<std::int32_t>(index);
      flows_.start(flow, meeting.flow, meeting.route, now_);
      if (takes) {
        shared_->start_flow(actors_of(meeting), id, flow, meeting.load);
      }
      return;
    }
    if (takes) {
      shared_->start_communication(actors_of(meeting), id, now_, meeting.duration, meeting.load);
      return;
    }
    if (!exclusive_ || meeting.is_carried) {
      std::int64_t ranks = 0;
      if (!meeting.speed->empty()) {
        for (const std::int32_t a : actors_of(meeting)) {
          ranks += rank_class(a).multiplicity;
        }
      }
      activities_.start(id, now_, meeting.duration, *meeting.speed, ranks);
      return;
    }
    meeting.shares = 0;
    for (const std::int32_t a : actors_of(meeting)) {
      if (!meeting.is_message || a == meeting.receiver) {
        ++meeting.shares;
        actor(a).startable.push_back(index);
      }
    }
  }

  // What a free core does next.
  void choose(std::int32_t a) {
    Actor& self = actor(a);
    if (self.core_taken) {
      return;
    }
    if (!self.startable.empty()) {
      const auto first = std::min_element(self.startable.begin(), self.startable.end(), [&](auto x, auto y) {
        return std::tie(meetings_[x].startable, meetings_[x].key) < std::tie(meetings_[y].startable, meetings_[y].key);
      });
      const OpenMeeting& meeting = meetings_[*first];
      self.share = static_cast<std::ptrdiff_t>(*first);
      self.startable.erase(first);
      self.core_taken = true;
      activities_.start(id_of({a, 0}), now_, meeting.duration, *meeting.speed, rank_class(a).multiplicity);
      return;
    }
    std::int32_t next = -1;
    Sequence first = kProgramEnd;
    for (std::int32_t i = 0; i < self.streams; ++i) {
      const StreamState& s = stream({a, i});
      if (s.state == State::wants_core && s.place.sequence < first) {
        first = s.place.sequence;
        next = i;
      }
    }
    if (next >= 0) {
      self.core_taken = true;
      start_local({a, next});
    }
  }

  // ---- ends

  // Below the number of streams: a local op, or on an exclusive device (as the actor's stream 0) a share; then the
  // meetings.
  void end(std::int32_t id) {
    const auto streams = static_cast<std::int32_t>(streams_.size());
    if (id >= streams) {
      end_meeting(static_cast<std::size_t>(id - streams));
      return;
    }
    const std::int32_t a = owner_[static_cast<std::size_t>(id)];
    Actor& self = actor(a);
    const Member m{a, id - self.first_stream};
    if (StreamState& s = stream(m); s.state == State::with_host) {
      s.state = State::waiting;
      touch(a);
      return;
    } else if (s.state == State::under_way && s.op->model->kind == OpKind::read) {
      complete(m);
      return;
    }
    self.core_taken = false;
    if (self.share < 0) {
      complete(m);
      return;
    }
    const auto index = static_cast<std::size_t>(self.share);
    self.share = -1;
    if (--meetings_[index].shares == 0) {
      end_meeting(index);
    }
  }

  void end_meeting(std::size_t index) {
    meetings_.end(index);
    for (const Member& m : meetings_[index].members) {  // completing starts no meeting: the place is not used again yet
      if (--stream(m).open_meetings == 0) {
        complete(m);
      }
    }
  }

  void complete(Member m) {
    StreamState& s = stream(m);
    if (s.op->model->holds_host) {
      Actor& self = actor(m.actor);
      self.held_by = s.place.sequence;
      self.late = now_ - self.program->submitted(s.place);
    }
    const RankClass& ranks = rank_class(m.actor);
    plan::Span& span = log_.add(m.actor, s.place.sequence);
    span.op = {ranks.role, s.op->instance, s.op->position};
    span.step = s.place.step;
    span.stream = s.op->model->stream;
    span.multiplicity = static_cast<std::int32_t>(ranks.multiplicity);
    span.rank = ranks.first;
    span.start = s.start;
    span.end = now_;
    span.held_by_host = s.held_by_host;
    span.sender = std::exchange(s.sender, -1);
    if (s.place.part != LoweredRole::kEpilogue) {
      const auto step = static_cast<std::size_t>(s.place.step);
      step_ends_[step] = std::max(step_ends_[step], now_);
      if (s.place.part == LoweredRole::kBody && --open_ops_[step] == 0) {
        end_step(step);
      }
    }
    ++ops_;
    advance(m);
    touch(m.actor);
  }

  void check_all_done() {
    const std::string waiting = unfinished(actors_, streams_);
    CHECK(waiting.empty(), "the graph deadlocks; waiting: {}", waiting);
  }

  const plan::PlanGraph& graph_;
  const std::vector<RankClass>& classes_;
  const bool exclusive_;
  const Jitter jitter_;
  SpanLog log_;
  Time now_;
  std::int64_t ops_ = 0;
  Activities activities_;
  std::vector<LoweredRole> lowered_;  // of the models in use
  std::vector<Actor> actors_;         // by class
  std::vector<StreamState> streams_;  // of all actors in a row
  std::vector<std::int32_t> owner_;   // by stream: its actor
  std::vector<std::int32_t> touched_, scratch_;
  OpenMeetings meetings_;
  OpenChannels channels_;
  const OpenChannels::Meet meet_ = [this](const MeetingKey& key, const ChannelEnd& end) {
    const std::size_t index = meetings_.find(key, 2, *end.about);
    const bool is_last = meetings_.join(index, 2, *end.about, -1, end.member);
    meetings_[index].duration = std::max(meetings_[index].duration, Time{end.about->duration.value * end.turn});
    if (is_last) {
      all_here(index);
    }
  };
  MeetingFlows flows_;
  std::optional<SharedDevices> shared_;
  std::vector<std::int64_t> open_ops_;  // by step: of its body, not ended yet
  std::vector<Time> step_ends_;
};

}  // namespace

StepTimes run_events(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                     const std::vector<RankClass>& classes, const EventOptions& options, plan::SpanSink* sink) {
  return Engine(graph, models, classes, options, sink).run();
}

}  // namespace foretrain::sim
