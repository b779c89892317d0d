// What a server knows of workers that do not wait for each other: the one rule of who is taken from next and who may go
// on, for simulator, executor and reports.
//
// A worker's clock is how many of its messages the server has taken; the server's version is how many in all. Staleness
// of an update: versions that the server has gone on since it released the worker that sent it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "plan/cursor.h"
#include "plan/timeline.h"

namespace foretrain::plan {

// Whether all meet at this clock.
using Meets = std::function<bool(std::int64_t clock)>;

class ChannelClocks {
 public:
  // All workers have the server's parameters after so many steps.
  ChannelClocks(int workers, std::int64_t clock)
      : clock_(static_cast<std::size_t>(workers), clock),
        has_(clock_.size(), 0),
        waits_(clock_.size(), false),
        is_left_out_(clock_.size(), false) {}

  int workers() const { return static_cast<int>(clock_.size()); }
  std::int64_t clock(int worker) const { return clock_[static_cast<std::size_t>(worker)]; }

  // A message of the worker is taken; returns its staleness.
  std::int64_t take(int worker);
  // The same of one whose update is made already: nothing comes of it.
  void drop(int worker);
  // Whom to release now, ascending: they count as released. `staleness` as Channel's. A worker whose clock is one at
  // which all meet waits for the slowest: there a checkpoint is of as many steps of each.
  std::vector<int> release(std::int64_t staleness, const Meets& all_meet = {});

  // The worker is lost: it is not released any more, and nobody waits for it.
  void leave_out(int worker) { is_left_out_[static_cast<std::size_t>(worker)] = true; }
  bool is_left_out(int worker) const { return is_left_out_[static_cast<std::size_t>(worker)]; }
  // The first worker that is left out and has no message taken, and no turn passed over, of this step; -1: none. Until
  // that is -1 no other worker's turn is it: so the server's steps keep up with the workers'.
  int overdue(std::int64_t step) const;
  // A worker's that is left out.
  void pass_over(int worker) { ++clock_[static_cast<std::size_t>(worker)]; }

 private:
  std::vector<std::int64_t> clock_;
  std::vector<std::int64_t> has_;  // the version that a worker was released with
  std::vector<bool> waits_;        // for its release
  std::vector<bool> is_left_out_;
  std::int64_t version_ = 0;
};

// Whose turn is the `nth` of a step: a random order of the workers, the same on every machine.
int worker_in_turn(int workers, std::int64_t step, std::int64_t nth);

// Span::sender of a take of which no update came: of no message, since the worker whose turn it was is lost; of a
// message that was dropped.
constexpr std::int32_t passed_over(int worker) {
  return -2 - 2 * worker;
}
constexpr std::int32_t dropped(int worker) {
  return -3 - 2 * worker;
}
constexpr bool is_update(std::int32_t sender) {
  return sender >= 0;
}

// Updates by their staleness.
using Staleness = std::map<std::int64_t, std::int64_t>;

// Of all servers' takes, as the spans say who was taken from. REQUIRES: spans from `first_step` on, of each rank in
// program order.
class StalenessCount : public SpanSink {
 public:
  explicit StalenessCount(const PlanGraph& graph, std::int64_t first_step = 0, Meets all_meet = {});
  void span(const Span& s) override;
  const Staleness& of_updates() const { return updates_; }

 private:
  const PlanGraph& graph_;
  const std::int64_t first_step_;
  const Meets all_meet_;
  std::map<Rank, ChannelClocks> clocks_;
  std::map<std::pair<std::int32_t, std::int32_t>, const Channel*> channels_;  // by role and instance: its ops of one
  Staleness updates_;
};

}  // namespace foretrain::plan
