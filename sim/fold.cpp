#include "sim/fold.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/error.h"
#include "sim/role_walk.h"

namespace foretrain::sim {
namespace {

// Step, match key, instance of what meets.
using MeetingKey = std::tuple<std::int32_t, plan::MatchKey, std::int32_t>;

struct Arrival {
  std::size_t walk = 0;
  std::int32_t posted = -1;
};

class FoldedRun {
 public:
  FoldedRun(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, const std::vector<RankClass>& classes,
            int steps, ShareSpeeds* sharing)
      : models_(models), classes_(classes) {
    walks_.reserve(classes.size());
    for (const RankClass& c : classes) {
      waiting_.push_back(walks_.size());
      walks_.emplace_back(graph, c, models[static_cast<std::size_t>(c.model)], steps, sharing);
    }
    is_finished_.resize(classes.size());
  }

  bool run() {
    while (!waiting_.empty() || !ready_.empty()) {
      if (has_failed_) {
        return false;
      }
      if (!ready_.empty()) {
        const Arrival a = ready_.back();
        ready_.pop_back();
        arrive(a);
        continue;
      }
      const std::size_t w = waiting_.back();
      waiting_.pop_back();
      scratch_.clear();
      is_finished_[w] = walks_[w].advance(scratch_) == RoleWalk::State::finished;
      take_ready(w);
    }
    return !has_failed_ && open_.empty() &&
           std::find(is_finished_.begin(), is_finished_.end(), false) == is_finished_.end();
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
  struct OpenMeeting {
    std::vector<Arrival> members;
    Time latest, duration;
  };

  void take_ready(std::size_t walk) {
    has_failed_ = has_failed_ || walks_[walk].has_failed();
    for (const std::int32_t p : scratch_) {
      ready_.push_back({walk, p});
    }
  }

  void arrive(const Arrival& a) {
    const RankClass& ranks = classes_[a.walk];
    const plan::Role& role = *models_[static_cast<std::size_t>(ranks.model)].role;
    const Posted& p = walks_[a.walk].posted[static_cast<std::size_t>(a.posted)];
    const Time arrival = p.arrival;
    const plan::Binding binding = p.binding;
    const std::int32_t step = p.step;
    for (const Meeting& about : p.op->meetings) {
      const MeetingPlace& place = ranks.place(about);
      const MeetingKey key{step, plan::match_key(role, about.tag, binding), place.instance};
      OpenMeeting& meeting = open_[key];
      meeting.members.push_back(a);
      meeting.latest = std::max(meeting.latest, arrival);
      meeting.duration = std::max(meeting.duration, about.duration);
      if (meeting.members.size() == static_cast<std::size_t>(place.arrivals)) {
        const OpenMeeting complete = std::move(meeting);
        open_.erase(key);
        end(complete);
      }
    }
  }

  void end(const OpenMeeting& meeting) {
    for (const Arrival& a : meeting.members) {
      RoleWalk& walk = walks_[a.walk];
      Posted& p = walk.posted[static_cast<std::size_t>(a.posted)];
      p.start = p.start.value < 0 ? meeting.latest : std::min(p.start, meeting.latest);
      p.end = std::max(p.end, meeting.latest + meeting.duration);
      if (--p.open == 0) {
        scratch_.clear();
        walk.know(a.posted, scratch_);
        take_ready(a.walk);
        if (walk.blocked_on() == a.posted) {
          waiting_.push_back(a.walk);
        }
      }
    }
  }

  const std::vector<RoleModel>& models_;
  const std::vector<RankClass>& classes_;
  std::vector<RoleWalk> walks_;       // by class
  std::vector<std::size_t> waiting_;  // walks that can go on
  std::vector<Arrival> ready_;        // at their meetings
  std::vector<bool> is_finished_;
  std::map<MeetingKey, OpenMeeting> open_;
  std::vector<std::int32_t> scratch_;
  bool has_failed_ = false;
};

bool can_fold(const RankClass& ranks, const RoleModel& model, bool shares) {
  for (const std::vector<OpModel>& block : model.blocks) {
    for (const OpModel& op : block) {
      const bool has_speed = !op.speed.empty() || std::any_of(op.meetings.begin(), op.meetings.end(),
                                                              [](const Meeting& m) { return !m.speed.empty(); });
      const bool slows_compute = shares && ((op.kind == OpKind::local && op.stream != plan::kCompute) ||
                                            std::any_of(op.meetings.begin(), op.meetings.end(), [](const Meeting& m) {
                                              return m.is_message && !m.load.is_none();
                                            }));
      if (has_speed || slows_compute || (op.stream == plan::kCompute && ranks.meets_others(op))) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

std::optional<StepTimes> run_folded(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                                    const std::vector<RankClass>& classes, int steps, ShareSpeeds* sharing) {
  if (!std::all_of(classes.begin(), classes.end(), [&](const RankClass& c) {
        return can_fold(c, models[static_cast<std::size_t>(c.model)], sharing != nullptr);
      })) {
    return std::nullopt;
  }
  FoldedRun run(graph, models, classes, steps, sharing);
  if (!run.run()) {
    return std::nullopt;
  }
  return run.times(steps);
}

}  // namespace foretrain::sim
