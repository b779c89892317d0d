#include "sim/fold.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "sim/flow_times.h"
#include "sim/open_meetings.h"
#include "sim/role_walk.h"

namespace foretrain::sim {
namespace {

struct Arrival {
  std::size_t walk = 0;
  std::int32_t posted = -1;
};

class FoldedRun {
 public:
  FoldedRun(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, const std::vector<RankClass>& classes,
            int steps, const Rounds* rounds, FlowTimes& flows, ShareSpeeds* sharing, std::int64_t most_walked)
      : models_(models), classes_(classes), flows_(flows), shares_(sharing != nullptr), left_(most_walked) {
    walks_.reserve(classes.size());
    for (const RankClass& c : classes) {
      const RoundCut* const cut = rounds != nullptr ? &rounds->roles[static_cast<std::size_t>(c.role)] : nullptr;
      walks_.emplace_back(graph, c, models[static_cast<std::size_t>(c.model)], steps, cut, sharing, flows,
                          walks_.size(), left_, [this, w = walks_.size()](std::int32_t posted) {
                            be_ready({w, posted});
                          });
    }
    is_finished_.resize(classes.size());
  }

  std::int64_t left() const { return left_; }
  // One round. When it holds: the flows know what they were slowed by.
  bool run() {
    for (RoleWalk& walk : walks_) {
      waiting_.push_back(waiting_.size());
      walk.restart();
    }
    slowed_.clear();
    while (!waiting_.empty() || !ready_.empty() || !paused_.empty()) {
      if (!ready_.empty()) {
        const Arrival a = ready_.back();
        ready_.pop_back();
        arrive(a);
        continue;
      }
      running_ = next_walk();
      const RoleWalk::State state = walks_[running_].advance();
      if (walks_[running_].has_failed()) {
        return false;
      }
      is_finished_[running_] = state == RoleWalk::State::finished;
      if (state == RoleWalk::State::paused) {
        paused_.push_back(running_);
      }
      running_ = kNone;
    }
    for (const auto& [number, a] : slowed_) {
      flows_.set_used(number, posted(a).end - posted(a).start);
      for (const Stretch& s : posted(a).beside) {
        flows_.slow_down(number, s.from, s.to);
      }
    }
    return open_.empty() && std::find(is_finished_.begin(), is_finished_.end(), false) == is_finished_.end() &&
           std::none_of(walks_.begin(), walks_.end(), [](const RoleWalk& w) { return w.has_failed(); });
  }

  // What `rounds` left out was like the rest; nothing where that is not certain.
  std::optional<StepTimes> times(int steps, const Rounds& rounds) {
    StepTimes result = times(steps);
    result.rounds_left_out = rounds.left_out;
    Time later, begin;
    for (int step = 0; step < steps; ++step) {
      const auto s = static_cast<std::size_t>(step);
      const std::optional<Time> period = steady_period(step, begin);
      if (!period) {
        return std::nullopt;
      }
      later += Time{period->value * rounds.left_out};
      begin = std::exchange(result.step_ends[s], result.step_ends[s] + later);
    }
    for (std::size_t w = 0; w < walks_.size(); ++w) {
      const plan::Breakdown period = walks_[w].steady(steps - 1)->period_sum;
      for (std::int32_t i = 0; i < rounds.left_out; ++i) {
        result.breakdown[w] += period;
      }
    }
    return result;
  }

  StepTimes times(int steps) {
    StepTimes result;
    Time end;
    for (std::size_t s = 0; s < static_cast<std::size_t>(steps); ++s) {
      for (const RoleWalk& walk : walks_) {
        end = std::max(end, walk.step_ends()[s]);
      }
      result.step_ends.push_back(end);
    }
    const Time begin = steps > 1 ? result.step_ends[result.step_ends.size() - 2] : Time{};
    for (RoleWalk& walk : walks_) {
      result.breakdown.push_back(walk.breakdown(begin, end));
    }
    return result;
  }

 private:
  struct FoldedMeeting {
    std::vector<Arrival> members;
    Time latest, duration;
    AloneFlow flow;           // of the member that says the longest duration
    std::int32_t route = -1;  // of its flow; -1: it takes `duration`
    FlowTimes::Id id;         // the lowest of its members'
    DeviceLoad load;
  };

  // Of a step that begins then: what sim/rounds.h asks for.
  std::optional<Time> steady_period(int step, Time begin) const {
    std::optional<Time> period;
    Time since, until = kNever, longest;
    for (const RoleWalk& walk : walks_) {
      const std::optional<RoleWalk::Steady> s = walk.steady(step);
      if (!s || s->period != period.value_or(s->period) || s->begin < begin) {
        return std::nullopt;
      }
      period = s->period;
      since = std::max(since, s->since);
      until = std::min(until, s->until);
      longest = std::max(longest, s->longest);
    }
    return since + longest + *period <= until ? period : std::nullopt;
  }

  Posted& posted(const Arrival& a) { return walks_[a.walk].posted[static_cast<std::size_t>(a.posted)]; }

  // One that waits for nothing; else one that would rather wait.
  std::size_t next_walk() {
    std::vector<std::size_t>& from = waiting_.empty() ? paused_ : waiting_;
    const std::size_t w = from.back();
    from.pop_back();
    return w;
  }

  // Of the walk that runs: at once, before it goes on. A chain of others would nest without end.
  void be_ready(const Arrival& a) {
    if (a.walk == running_) {
      arrive(a);
    } else {
      ready_.push_back(a);
    }
  }

  void arrive(const Arrival& a) {
    const RankClass& ranks = classes_[a.walk];
    const plan::Role& role = *models_[static_cast<std::size_t>(ranks.model)].role;
    const Posted& p = posted(a);
    const Time arrival = p.arrival;
    const plan::Binding binding = p.binding;
    const std::int32_t step = p.step;
    FlowTimes::Id id{a.walk, p.meetings_before};
    for (const Meeting& about : p.op->meetings) {
      const MeetingPlace& place = ranks.place(about);
      const plan::MatchKey match = plan::match_key(role, about.tag, binding);
      const MeetingKey key{step, match.tag, match.layer, match.microbatch, place.instance};
      FoldedMeeting& meeting = find(key, place.arrivals);
      meeting.id = meeting.members.empty() ? id : std::min(meeting.id, id);
      ++id.ordinal;
      if (meeting.members.empty() || about.duration > meeting.duration ||
          (about.duration == meeting.duration && about.flow > meeting.flow)) {
        meeting.duration = about.duration;
        meeting.flow = about.flow;
        meeting.route = ranks.route(about);
      }
      meeting.load = larger(meeting.load, about.load);
      meeting.members.push_back(a);
      meeting.latest = std::max(meeting.latest, arrival);
      if (meeting.members.size() == static_cast<std::size_t>(place.arrivals)) {
        if (place.arrivals > 1) {
          open_.erase(key);
        }
        end(meeting);
        free_.push_back(&meeting);
      }
    }
  }

  // The meeting with this key, begun with it if there is none.
  FoldedMeeting& find(const MeetingKey& key, std::int32_t arrivals) {
    if (arrivals == 1) {
      return begin();
    }
    FoldedMeeting*& meeting = open_[key];
    if (meeting == nullptr) {
      meeting = &begin();
    }
    return *meeting;
  }

  FoldedMeeting& begin() {
    if (free_.empty()) {
      return meetings_.emplace_back();
    }
    FoldedMeeting& meeting = *free_.back();
    free_.pop_back();
    meeting.members.clear();
    meeting.latest = meeting.duration = {};
    meeting.load = {};
    return meeting;
  }

  void end(const FoldedMeeting& meeting) {
    if (meeting.route < 0) {
      end(meeting, meeting.latest + meeting.duration);
      return;
    }
    const bool slows = shares_ && !meeting.load.is_none();
    const std::optional<Time> known = flows_.duration(meeting.id);
    const Time used = known.value_or(meeting.duration);
    const std::size_t number = flows_.begin(meeting.id, meeting.latest, meeting.flow, meeting.route, used);
    if (slows) {
      for (const Arrival& a : meeting.members) {
        posted(a).load = meeting.load;
        slowed_.emplace_back(number, a);
      }
    }
    if (!slows || known || meeting.members.size() > 1) {
      end(meeting, meeting.latest + used);
      return;
    }
    const Arrival& only = meeting.members.front();
    walks_[only.walk].open_flow(only.posted, meeting.flow);
    resume(only);
  }

  void end(const FoldedMeeting& meeting, Time end) {
    for (const Arrival& a : meeting.members) {
      Posted& p = posted(a);
      p.start = p.start.value < 0 ? meeting.latest : std::min(p.start, meeting.latest);
      p.end = std::max(p.end, end);
      if (--p.open == 0) {
        walks_[a.walk].know(a.posted);
        resume(a);
      }
    }
  }

  void resume(const Arrival& a) {
    if (walks_[a.walk].blocked_on() == a.posted) {
      std::erase(paused_, a.walk);
      waiting_.push_back(a.walk);
    }
  }

  const std::vector<RoleModel>& models_;
  const std::vector<RankClass>& classes_;
  FlowTimes& flows_;
  const bool shares_;
  std::int64_t left_;                                    // ops to walk
  std::vector<RoleWalk> walks_;                          // by class
  std::vector<std::size_t> waiting_;                     // walks that can go on
  std::vector<std::size_t> paused_;                      // that could go on, but would know more later
  std::vector<Arrival> ready_;                           // at their meetings
  std::vector<std::pair<std::size_t, Arrival>> slowed_;  // flows, by number, and who may slow them
  std::vector<bool> is_finished_;
  std::deque<FoldedMeeting> meetings_;  // references into it stay
  std::vector<FoldedMeeting*> free_;    // of them
  std::unordered_map<MeetingKey, FoldedMeeting*, MeetingKeyHash> open_;
  static constexpr std::size_t kNone = SIZE_MAX;
  std::size_t running_ = kNone;
};

std::int64_t ops_per_step(const plan::Role& role, const std::vector<plan::Instance>& body) {
  std::int64_t ops = 0;
  for (const plan::Instance& instance : body) {
    for (const plan::BlockCall& call : role.segments[static_cast<std::size_t>(instance.segment)].calls) {
      ops += call.count * static_cast<std::int64_t>(role.blocks[static_cast<std::size_t>(call.block)].ops.size());
    }
  }
  return ops;
}

bool can_fold(const RankClass& ranks, const RoleModel& model, bool shares) {
  for (const std::vector<OpModel>& block : model.blocks) {
    for (const OpModel& op : block) {
      const bool has_speed = !op.speed.empty() || std::any_of(op.meetings.begin(), op.meetings.end(),
                                                              [](const Meeting& m) { return !m.speed.empty(); });
      const bool slows_compute = shares && std::any_of(op.meetings.begin(), op.meetings.end(), [](const Meeting& m) {
                                   return m.is_message && !m.load.is_none();
                                 });
      if (has_speed || slows_compute || (op.stream == plan::kCompute && ranks.meets_others(op))) {
        return false;
      }
    }
  }
  return true;
}

bool can_fold(const std::vector<RoleModel>& models, const std::vector<RankClass>& classes, bool shares) {
  return std::all_of(classes.begin(), classes.end(), [&](const RankClass& c) {
    return can_fold(c, models[static_cast<std::size_t>(c.model)], shares);
  });
}

}  // namespace

FoldedSteps run_folded(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                       const std::vector<RankClass>& classes, const FlowPlan& plan, int steps, const Rounds* rounds,
                       ShareSpeeds* sharing, double most_walked) {
  if (!can_fold(models, classes, sharing != nullptr)) {
    return {};
  }
  std::int64_t ops = 0;
  for (const RankClass& c : classes) {
    const auto r = static_cast<std::size_t>(c.role);
    const plan::Role& role = graph.roles[r];
    ops += steps * ops_per_step(role, rounds != nullptr ? rounds->roles[r].bodies[0] : role.program.body);
  }
  FlowTimes flows(plan, sharing != nullptr ? sharing->communication_beside_compute() : kFullSpeed);
  const std::int64_t most = plan.empty() ? INT64_MAX : std::llround(most_walked * static_cast<double>(ops));
  FoldedRun run(graph, models, classes, steps, rounds, flows, sharing, most);
  for (bool is_first = true; run.run(); is_first = false) {
    const auto times = [&] { return rounds != nullptr ? run.times(steps, *rounds) : run.times(steps); };
    std::optional<StepTimes> found;
    if (is_first && rounds != nullptr) {
      found = times();
      if (!found) {  // flows bring nobody into step
        return {std::nullopt, true};
      }
    }
    if (flows.settle()) {
      if (!found) {
        found = times();
      }
      if (found) {
        found->walked = most - run.left();
      }
      const bool not_alike = !found;
      return {std::move(found), not_alike};
    }
  }
  return {};
}

}  // namespace foretrain::sim
