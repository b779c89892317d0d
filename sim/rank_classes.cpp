#include "sim/rank_classes.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <unordered_map>

#include "base/error.h"

namespace foretrain::sim {
namespace {

using plan::PlanGraph;
using plan::Rank;

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

Rank peer_of(const plan::Mesh& mesh, const View& view, Rank rank) {
  return mesh.peer(rank, view.axis, view.peer, view.relative);
}

using ClassOf = std::function<std::int32_t(Rank)>;

// Finds the places of all classes. `groups`: as the graph's, or those of their members that are needed to see all
// classes.
void find_places(const PlanGraph& graph, const std::vector<RoleModel>& models, const std::vector<plan::Group>& groups,
                 const ClassOf& class_of, std::vector<RankClass>& classes) {
  // What meets: the group and its classes in ascending order, or kNoGroup, sender, receiver and hops.
  std::map<std::vector<std::int32_t>, std::int32_t> instances;
  std::vector<std::int32_t> who;
  for (std::size_t c = 0; c < classes.size(); ++c) {
    RankClass& self = classes[c];
    for (const View& view : models[index(self.role)].views) {
      who.clear();
      std::int32_t arrivals = 2;
      bool is_within = false;
      if (view.group == plan::kNoGroup) {
        const auto own = static_cast<std::int32_t>(c);
        const std::int32_t peer = class_of(peer_of(graph.mesh, view, self.first));
        is_within = view.relative && peer == own;
        who = {plan::kNoGroup, view.sends ? own : peer, view.sends ? peer : own, hops(graph.mesh, view)};
      } else {
        for (const Rank r : plan::members(graph.mesh, groups[index(view.group)], self.first)) {
          who.push_back(class_of(r));
        }
        std::sort(who.begin(), who.end());
        who.erase(std::unique(who.begin(), who.end()), who.end());
        arrivals = static_cast<std::int32_t>(who.size());
        who.insert(who.begin(), view.group);
      }
      const auto instance = instances.try_emplace(who, static_cast<std::int32_t>(instances.size())).first->second;
      self.places.push_back({instance, arrivals, is_within});
    }
  }
}

// Of each group the members along axes that tell roles apart: the others have the same role as one of these.
std::vector<plan::Group> slices_along_roles(const PlanGraph& graph) {
  std::set<plan::Axis> axes;
  for (const plan::Role& role : graph.roles) {
    for (const plan::AxisRange& fixed : role.ranks.fixed) {
      axes.insert(fixed.axis);
    }
  }
  std::vector<plan::Group> result;
  for (const plan::Group& group : graph.groups) {
    plan::Group& slice = result.emplace_back();
    for (const plan::AxisSpan& span : group.spans) {
      if (axes.count(span.axis) > 0) {
        slice.spans.push_back(span);
      }
    }
  }
  return result;
}

// Colours renamed 0, 1, … in order of appearance.
class Names {
 public:
  std::int32_t operator()(const std::vector<std::int64_t>& signature) {
    return known_.try_emplace(signature, static_cast<std::int32_t>(known_.size())).first->second;
  }
  std::size_t size() const { return known_.size(); }

 private:
  struct Hash {
    std::size_t operator()(const std::vector<std::int64_t>& signature) const {
      std::uint64_t h = signature.size();
      for (const std::int64_t x : signature) {
        h = (h ^ static_cast<std::uint64_t>(x)) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
      }
      return h;
    }
  };
  std::unordered_map<std::vector<std::int64_t>, std::int32_t, Hash> known_;
};

// The loads of each instance, of each link, in a row.
class LoadIndex {
 public:
  LoadIndex(const LinkLoads& loads, std::size_t count, std::int32_t LinkLoads::Load::*by) : from_(count + 1) {
    for (const LinkLoads::Load& l : loads.loads) {
      ++from_[index(l.*by) + 1];
    }
    std::partial_sum(from_.begin(), from_.end(), from_.begin());
    all_.resize(loads.loads.size());
    std::vector<std::size_t> next(from_.begin(), from_.end() - 1);
    for (const LinkLoads::Load& l : loads.loads) {
      all_[next[index(l.*by)]++] = &l;
    }
  }
  std::span<const LinkLoads::Load* const> of(std::size_t i) const {
    return std::span(all_).subspan(from_[i], from_[i + 1] - from_[i]);
  }

 private:
  std::vector<std::size_t> from_;
  std::vector<const LinkLoads::Load*> all_;
};

// Appends, in an order of its own, what the loads say with the colours of their other ends.
void append_loads(std::span<const LinkLoads::Load* const> loads, std::int32_t LinkLoads::Load::*other,
                  const std::vector<std::int32_t>& colour, std::vector<std::array<std::int64_t, 3>>& scratch,
                  std::vector<std::int64_t>& signature) {
  scratch.clear();
  for (const LinkLoads::Load* l : loads) {
    scratch.push_back({colour[index(l->*other)], l->shape, l->use});
  }
  std::sort(scratch.begin(), scratch.end());
  for (const auto& s : scratch) {
    signature.insert(signature.end(), s.begin(), s.end());
  }
}

std::vector<std::int32_t> roles_by_rank(const PlanGraph& graph) {
  std::vector<std::int32_t> roles(index(graph.mesh.ranks()));
  for (std::size_t r = 0; r < roles.size(); ++r) {
    roles[r] = plan::role_of(graph, static_cast<Rank>(r));
  }
  return roles;
}

}  // namespace

std::vector<RankClass> role_classes(const PlanGraph& graph, const std::vector<RoleModel>& models) {
  std::vector<RankClass> classes;
  for (std::size_t r = 0; r < graph.roles.size(); ++r) {
    const plan::RankSet& ranks = graph.roles[r].ranks;
    const auto role = static_cast<std::int32_t>(r);
    classes.push_back({role, role, plan::first_rank(graph.mesh, ranks), plan::count(graph.mesh, ranks), {}});
  }
  find_places(
      graph, models, slices_along_roles(graph), [&](Rank r) { return plan::role_of(graph, r); }, classes);
  return classes;
}

std::vector<RankClass> single_ranks(const PlanGraph& graph, const std::vector<RoleModel>& models) {
  std::vector<RankClass> classes;
  for (const std::int32_t role : roles_by_rank(graph)) {
    classes.push_back({role, role, static_cast<Rank>(classes.size()), 1, {}});
  }
  find_places(
      graph, models, graph.groups, [](Rank r) { return static_cast<std::int32_t>(r); }, classes);
  return classes;
}

std::optional<Partition> refine(const Meetings& meetings, const LinkLoads& loads, std::vector<std::int32_t> rank_colour,
                                std::size_t most) {
  CHECK(rank_colour.size() == meetings.role.size(), "{} colours of {} ranks", rank_colour.size(), meetings.role.size());
  using Load = LinkLoads::Load;
  const LoadIndex of_instance(loads, meetings.all.size(), &Load::instance);
  const LoadIndex of_link(loads, loads.links.size(), &Load::link);
  Partition p{std::move(rank_colour), {}, {}};
  // Rings both ways look alike and have their messages at different times.
  for (const MeetingInstance& meeting : meetings.all) {
    p.instance.push_back(meeting.hops);
  }
  std::vector<std::int64_t> signature;
  std::vector<std::array<std::int64_t, 3>> scratch;
  Names capacities;
  for (const LinkLoads::Link& link : loads.links) {
    p.link.push_back(capacities({link.capacity, link.link_class, link.scale}));
  }
  // Traffic of others is on these links and on no others.
  for (const LinkLoads::Background& b : loads.background) {
    for (const Load& l : b.loads) {
      p.link[index(l.link)] = capacities({-1, p.link[index(l.link)], l.instance, l.use});
    }
  }
  for (std::size_t count = 0;;) {
    Names instances, links, ranks;
    std::vector<std::int32_t> next(p.instance.size());
    for (std::size_t i = 0; i < next.size(); ++i) {
      const MeetingInstance& meeting = meetings.all[i];
      signature.clear();
      for (const Rank r : meeting.seen) {
        signature.push_back(p.rank[meetings.orbits.index(r)]);
      }
      if (meeting.group != plan::kNoGroup) {
        std::sort(signature.begin(), signature.end());
        signature.erase(std::unique(signature.begin(), signature.end()), signature.end());
      }
      const auto members = static_cast<std::int64_t>(signature.size());
      signature.insert(signature.end(), {members, meeting.group, p.instance[i]});
      append_loads(of_instance.of(i), &Load::link, p.link, scratch, signature);
      next[i] = instances(signature);
    }
    p.instance = std::move(next);
    next.assign(p.link.size(), 0);
    for (std::size_t l = 0; l < next.size(); ++l) {
      signature = {p.link[l]};
      append_loads(of_link.of(l), &Load::instance, p.instance, scratch, signature);
      next[l] = links(signature);
    }
    p.link = std::move(next);
    next.assign(p.rank.size(), 0);
    for (std::size_t r = 0; r < next.size(); ++r) {
      signature = {meetings.role[r], p.rank[r]};
      for (const std::int32_t instance : meetings.of_rank[r]) {
        signature.push_back(p.instance[index(instance)]);
      }
      next[r] = ranks(signature);
    }
    p.rank = std::move(next);
    if (ranks.size() > most) {
      return std::nullopt;
    }
    if (instances.size() + links.size() + ranks.size() == count) {
      return p;
    }
    count = instances.size() + links.size() + ranks.size();
  }
}

Partition finest(const Meetings& meetings, const LinkLoads& loads) {
  Partition p;
  p.rank.resize(meetings.role.size());
  p.instance.resize(meetings.all.size());
  p.link.resize(loads.links.size());
  for (std::vector<std::int32_t>* colours : {&p.rank, &p.instance, &p.link}) {
    std::iota(colours->begin(), colours->end(), 0);
  }
  return p;
}

std::vector<RankClass> classes_of(const PlanGraph& graph, const std::vector<RoleModel>& models,
                                  const Meetings& meetings, const Partition& partition) {
  std::vector<RankClass> classes;
  for (std::size_t r = 0; r < partition.rank.size(); ++r) {
    const auto c = index(partition.rank[r]);
    if (c == classes.size()) {
      const std::int32_t role = meetings.role[r];
      classes.push_back({role, role, meetings.orbits.rank(r), 0, {}, {}});
    }
    classes[c].multiplicity += meetings.orbits.copies();
  }
  find_places(
      graph, models, graph.groups, [&](Rank r) { return partition.rank[meetings.orbits.index(r)]; }, classes);
  return classes;
}

}  // namespace foretrain::sim
