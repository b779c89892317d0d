// Which ranks meet, by views (sim/role_model.h): the instances of every group that ops use, the pairs of messages.
//
// Where the job looks the same to every `period`-th rank along the data-parallel axis, only the first `period` of them
// are looked at ("seen"), and every other rank stands for one of these: r for r + period, r + 2 period, … along the
// axis, which wraps around. What holds for seen ranks then holds for all, and the cost does not grow with dp. That it
// does look the same is for the caller to know; period = the axis's extent is always right, and then all are seen.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/graph.h"
#include "sim/role_model.h"

namespace foretrain::sim {

class Orbits {
 public:
  Orbits(const plan::Mesh& mesh, int period);
  std::int64_t copies() const { return copies_; }  // ranks that one seen rank stands for, itself among them
  plan::Rank seen_ranks() const { return ranks_ / copies_; }
  // The seen rank that stands for r; its place among the seen ones, and back.
  plan::Rank seen(plan::Rank r) const { return r - shift(r); }
  std::size_t index(plan::Rank r) const {
    const plan::Rank s = seen(r);
    return static_cast<std::size_t>(s / whole_ * part_ + s % whole_);
  }
  plan::Rank rank(std::size_t index) const {
    const auto i = static_cast<plan::Rank>(index);
    return i / part_ * whole_ + i % part_;
  }
  // r moved as `by` has to be moved to become seen.
  plan::Rank moved_with(plan::Rank r, plan::Rank by) const;

 private:
  plan::Rank shift(plan::Rank r) const { return r % whole_ / part_ * part_; }
  plan::Rank ranks_, whole_, part_;  // whole_: stride x extent of the axis; part_: stride x period
  std::int64_t copies_;
};

// One group instance or one pair, as seen; stands for all that shifts make of it.
struct MeetingInstance {
  plan::GroupId group = plan::kNoGroup;  // kNoGroup: a message
  std::vector<plan::Rank> seen;          // who is in it, seen, each once, ascending; of a message sender and receiver
  plan::Rank member = -1;                // one of `seen` that really is in it; of a message the sender
  std::int32_t hops = 0;                 // of a ring's message: from sender to receiver, one way round
};

struct Meetings {
  Orbits orbits;
  std::vector<std::int32_t> role;  // by seen rank
  std::vector<MeetingInstance> all;
  // Of each seen rank, by its role's views: index in `all`.
  std::vector<std::vector<std::int32_t>> of_rank;
};

Meetings find_meetings(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, const Orbits& orbits);

// The smallest period along dp at which the job repeats on units of `ranks_per_unit` ranks: shifts by it carry roles,
// groups and messages onto each other, and every unit's ranks onto another unit's. The axis's extent if there is none.
int job_period(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, std::int64_t ranks_per_unit);

}  // namespace foretrain::sim
