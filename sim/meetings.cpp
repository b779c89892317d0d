#include "sim/meetings.h"

#include <algorithm>
#include <unordered_map>

#include "base/error.h"

namespace foretrain::sim {
namespace {

using plan::Axis;
using plan::Rank;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// The instances of one group, by seen rank; -1: its role does not use the group.
class GroupInstances {
 public:
  GroupInstances(const plan::PlanGraph& graph, plan::GroupId id, Meetings& meetings)
      : graph_(graph), id_(id), meetings_(meetings), of_seen_(meetings.role.size(), -1) {}

  std::int32_t of(Rank r) {
    std::int32_t& known = of_seen_[meetings_.orbits.index(r)];
    if (known < 0) {
      MeetingInstance instance;
      instance.group = id_;
      instance.member = r;
      for (const Rank member : plan::members(graph_.mesh, graph_.groups[at(id_)], r)) {
        instance.seen.push_back(meetings_.orbits.seen(member));
      }
      std::sort(instance.seen.begin(), instance.seen.end());
      instance.seen.erase(std::unique(instance.seen.begin(), instance.seen.end()), instance.seen.end());
      const auto next = static_cast<std::int32_t>(meetings_.all.size());
      for (const Rank seen : instance.seen) {
        of_seen_[meetings_.orbits.index(seen)] = next;
      }
      meetings_.all.push_back(std::move(instance));
    }
    return known;
  }

 private:
  const plan::PlanGraph& graph_;
  plan::GroupId id_;
  Meetings& meetings_;
  std::vector<std::int32_t> of_seen_;
};

Rank peer_of(const plan::Mesh& mesh, const View& view, Rank rank) {
  return mesh.peer(rank, view.axis, view.peer, view.relative);
}

// Whether every shift by a multiple of `period` leaves the groups of this kind as they are.
bool repeats(const plan::Group& group, int period) {
  return std::all_of(group.spans.begin(), group.spans.end(), [period](const plan::AxisSpan& span) {
    return span.axis != Axis::dp || (span.only.empty() && (span.block == 0 || period % span.block == 0));
  });
}

}  // namespace

Orbits::Orbits(const plan::Mesh& mesh, int period)
    : ranks_(mesh.ranks()),
      whole_(mesh.stride(Axis::dp) * mesh.size(Axis::dp)),
      part_(mesh.stride(Axis::dp) * period),
      copies_(mesh.size(Axis::dp) / period) {
  CHECK(mesh.size(Axis::dp) % period == 0, "a period of {} along {} ranks", period, mesh.size(Axis::dp));
}

Rank Orbits::moved_with(Rank r, Rank by) const {
  const Rank block = r / whole_ * whole_;
  return block + (r - block + whole_ - shift(by)) % whole_;
}

Meetings find_meetings(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, const Orbits& orbits) {
  Meetings m{orbits, {}, {}, {}};
  const auto seen = at(orbits.seen_ranks());
  for (std::size_t i = 0; i < seen; ++i) {
    m.role.push_back(plan::role_of(graph, orbits.rank(i)));
  }
  std::vector<GroupInstances> groups;
  for (std::size_t g = 0; g < graph.groups.size(); ++g) {
    groups.emplace_back(graph, static_cast<plan::GroupId>(g), m);
  }
  std::unordered_map<Rank, std::int32_t> pairs;  // sender x ranks + receiver
  for (std::size_t i = 0; i < seen; ++i) {
    const Rank self = orbits.rank(i);
    std::vector<std::int32_t>& own = m.of_rank.emplace_back();
    for (const View& view : models[at(m.role[i])].views) {
      if (view.group != plan::kNoGroup) {
        own.push_back(groups[at(view.group)].of(self));
        continue;
      }
      const Rank peer = orbits.seen(peer_of(graph.mesh, view, self));
      const Rank from = view.sends ? self : peer, to = view.sends ? peer : self;
      const auto next = static_cast<std::int32_t>(m.all.size());
      const auto [pair, is_new] = pairs.try_emplace(from * graph.mesh.ranks() + to, next);
      if (is_new) {
        m.all.push_back({plan::kNoGroup, {from, to}, from, hops(graph.mesh, view)});
      }
      own.push_back(pair->second);
    }
  }
  return m;
}

int job_period(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, std::int64_t ranks_per_unit) {
  const plan::Mesh& mesh = graph.mesh;
  const int dp = mesh.size(Axis::dp);
  for (const plan::Role& role : graph.roles) {
    for (const plan::AxisRange& fixed : role.ranks.fixed) {
      if (fixed.axis == Axis::dp) {
        return dp;
      }
    }
  }
  for (const RoleModel& model : models) {
    for (const View& view : model.views) {
      if (view.group == plan::kNoGroup && view.axis == Axis::dp) {
        return dp;
      }
    }
  }
  for (int period = 1; period < dp; ++period) {
    if (dp % period == 0 && mesh.stride(Axis::dp) * period % ranks_per_unit == 0 &&
        std::all_of(graph.groups.begin(), graph.groups.end(),
                    [&](const plan::Group& group) { return repeats(group, period); })) {
      return period;
    }
  }
  return dp;
}

}  // namespace foretrain::sim
