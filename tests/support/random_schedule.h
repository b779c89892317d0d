// Legal pipeline schedules at random: any placement of virtual stages, any order that the rules allow, backwards whole
// or in halves.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "plan/schedule.h"

namespace foretrain::testing {

// One attempt; empty where it ran into a deadlock.
class RandomSchedule {
 public:
  RandomSchedule(std::mt19937& random, int pp, int virtual_stages, int microbatches)
      : random_(random),
        stages_(pp * virtual_stages),
        microbatches_(microbatches),
        rows_(static_cast<std::size_t>(pp)) {
    for (int stage = 0; stage < stages_; ++stage) {
      rank_of_stage_.push_back(stage % pp);
    }
    std::shuffle(rank_of_stage_.begin(), rank_of_stage_.end(), random_);
  }

  plan::Schedule take() {
    const int actions = 2 * stages_ * microbatches_;  // and a weight gradient per input gradient
    for (int done = 0, all = actions; done < all; ++done) {
      const std::vector<plan::Action> ready = all_ready();
      if (ready.empty()) {
        return {};
      }
      const plan::Action a = ready[random_() % ready.size()];
      run(a);
      all += a.kind == plan::ActionKind::backward_input ? 1 : 0;
    }
    return rows_;
  }

 private:
  using Unit = std::pair<int, int>;  // (stage, microbatch)
  using Lane =
      std::tuple<int, int, bool, int>;  // from rank, to rank, is forward, and the stage where the ranks are one

  int rank(int stage) const { return rank_of_stage_[static_cast<std::size_t>(stage)]; }
  bool exists(int stage) const { return stage >= 0 && stage < stages_; }
  Lane lane(int from, int to, bool forward) const {
    return {rank(from), rank(to), forward, rank(from) == rank(to) ? to : -1};
  }

  // Its input is the next one to come, and a stage of the same rank has taken what was left for it.
  bool can_run(int stage, int microbatch, bool forward) const {
    const int from = forward ? stage - 1 : stage + 1, to = forward ? stage + 1 : stage - 1;
    if (exists(from)) {
      const auto queue = queues_.find(lane(from, stage, forward));
      if (queue == queues_.end() || queue->second.empty() || queue->second.front() != Unit{stage, microbatch}) {
        return false;
      }
    }
    if (exists(to) && rank(to) == rank(stage)) {
      const auto queue = queues_.find(lane(stage, to, forward));
      return queue == queues_.end() || queue->second.empty();
    }
    return true;
  }

  std::vector<plan::Action> all_ready() const {
    using plan::ActionKind;
    std::vector<plan::Action> ready;
    for (int stage = 0; stage < stages_; ++stage) {
      for (int m = 0; m < microbatches_; ++m) {
        const Unit unit{stage, m};
        if (forwards_.count(unit) == 0) {
          if (can_run(stage, m, true)) {
            ready.push_back({stage, ActionKind::forward, m});
          }
        } else if (backwards_.count(unit) == 0) {
          if (can_run(stage, m, false)) {
            ready.push_back({stage, ActionKind::backward, m});
            ready.push_back({stage, ActionKind::backward_input, m});
          }
        } else if (open_.count(unit) != 0) {
          ready.push_back({stage, ActionKind::backward_weight, m});
        }
      }
    }
    return ready;
  }

  void run(const plan::Action& a) {
    const Unit unit{a.stage, a.microbatch};
    rows_[static_cast<std::size_t>(rank(a.stage))].push_back(a);
    if (a.kind == plan::ActionKind::backward_weight) {
      open_.erase(unit);
      return;
    }
    const bool forward = a.kind == plan::ActionKind::forward;
    (forward ? forwards_ : backwards_).insert(unit);
    if (a.kind == plan::ActionKind::backward_input) {
      open_.insert(unit);
    }
    const int from = forward ? a.stage - 1 : a.stage + 1, to = forward ? a.stage + 1 : a.stage - 1;
    if (exists(from)) {
      queues_[lane(from, a.stage, forward)].pop_front();
    }
    if (exists(to)) {
      queues_[lane(a.stage, to, forward)].push_back({to, a.microbatch});
    }
  }

  std::mt19937& random_;
  int stages_, microbatches_;
  std::vector<int> rank_of_stage_;
  plan::Schedule rows_;
  std::set<Unit> forwards_, backwards_, open_;
  std::map<Lane, std::deque<Unit>> queues_;
};

inline plan::Schedule random_schedule(std::mt19937& random, int pp, int virtual_stages, int microbatches) {
  for (;;) {
    plan::Schedule s = RandomSchedule(random, pp, virtual_stages, microbatches).take();
    if (!s.empty()) {
      return s;
    }
  }
}

}  // namespace foretrain::testing
