#include "sim/fold.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "sim/role_walk.h"

namespace foretrain::sim {
namespace {

struct Arrival {
  std::size_t role = 0;
  std::int32_t posted = -1;
};

class FoldedRun {
 public:
  FoldedRun(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, int steps) : models_(models) {
    walks_.reserve(models.size());
    for (std::size_t r = 0; r < models.size(); ++r) {
      walks_.emplace_back(graph, static_cast<int>(r), models[r], steps);
      waiting_.push_back(r);
    }
    is_finished_.resize(models.size());
  }

  bool run() {
    while (!waiting_.empty() || !ready_.empty()) {
      if (!ready_.empty()) {
        const Arrival a = ready_.back();
        ready_.pop_back();
        arrive(a);
        continue;
      }
      const std::size_t r = waiting_.back();
      waiting_.pop_back();
      scratch_.clear();
      is_finished_[r] = walks_[r].advance(scratch_) == RoleWalk::State::finished;
      take_ready(r);
    }
    return open_.empty() && std::find(is_finished_.begin(), is_finished_.end(), false) == is_finished_.end();
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

  void take_ready(std::size_t role) {
    for (const std::int32_t p : scratch_) {
      ready_.push_back({role, p});
    }
  }

  void arrive(const Arrival& a) {
    const Posted& p = walks_[a.role].posted[static_cast<std::size_t>(a.posted)];
    const Time arrival = p.arrival;
    const plan::Binding binding = p.binding;
    const std::int32_t step = p.step;
    for (const Meeting& about : p.op->meetings) {
      const MeetingKey key = about.key(step, *models_[a.role].role, binding);
      OpenMeeting& meeting = open_[key];
      meeting.members.push_back(a);
      meeting.latest = std::max(meeting.latest, arrival);
      meeting.duration = std::max(meeting.duration, about.duration);
      if (meeting.members.size() == about.arrivals()) {
        const OpenMeeting complete = std::move(meeting);
        open_.erase(key);
        end(complete);
      }
    }
  }

  void end(const OpenMeeting& meeting) {
    for (const Arrival& a : meeting.members) {
      RoleWalk& walk = walks_[a.role];
      Posted& p = walk.posted[static_cast<std::size_t>(a.posted)];
      p.start = p.start.value < 0 ? meeting.latest : std::min(p.start, meeting.latest);
      p.end = std::max(p.end, meeting.latest + meeting.duration);
      if (--p.open == 0) {
        scratch_.clear();
        walk.know(a.posted, scratch_);
        take_ready(a.role);
        if (walk.blocked_on() == a.posted) {
          waiting_.push_back(a.role);
        }
      }
    }
  }

  const std::vector<RoleModel>& models_;
  std::vector<RoleWalk> walks_;
  std::vector<std::size_t> waiting_;  // roles that can go on
  std::vector<Arrival> ready_;        // at their meetings
  std::vector<bool> is_finished_;
  std::map<MeetingKey, OpenMeeting> open_;
  std::vector<std::int32_t> scratch_;
};

bool can_fold(const RoleModel& role) {
  for (const std::vector<OpModel>& block : role.blocks) {
    for (const OpModel& op : block) {
      if ((op.kind == OpKind::meeting && op.stream == plan::kCompute) || !op.speed.empty()) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

std::optional<StepTimes> run_folded(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, int steps) {
  if (!std::all_of(models.begin(), models.end(), can_fold)) {
    return std::nullopt;
  }
  FoldedRun run(graph, models, steps);
  if (!run.run()) {
    return std::nullopt;
  }
  return run.times(steps);
}

}  // namespace foretrain::sim
