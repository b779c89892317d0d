#include "sim/rank_classes.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "base/error.h"

namespace foretrain::sim {
namespace {

using plan::PlanGraph;
using plan::Rank;

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

Rank peer_of(const plan::Mesh& mesh, const View& view, Rank rank) {
  plan::Coordinates c = mesh.coordinates(rank);
  c[static_cast<std::size_t>(view.axis)] = view.peer;
  return mesh.rank(c);
}

using ClassOf = std::function<std::int32_t(Rank)>;

// Finds the places of all classes. `groups`: as the graph's, or those of their members that are needed to see all
// classes.
void find_places(const PlanGraph& graph, const std::vector<RoleModel>& models, const std::vector<plan::Group>& groups,
                 const ClassOf& class_of, std::vector<RankClass>& classes) {
  // What meets: the group and its classes in ascending order, or kNoGroup, sender and receiver.
  std::map<std::vector<std::int32_t>, std::int32_t> instances;
  std::vector<std::int32_t> who;
  for (std::size_t c = 0; c < classes.size(); ++c) {
    RankClass& self = classes[c];
    for (const View& view : models[index(self.role)].views) {
      who.clear();
      std::int32_t arrivals = 2;
      if (view.group == plan::kNoGroup) {
        const auto own = static_cast<std::int32_t>(c);
        const std::int32_t peer = class_of(peer_of(graph.mesh, view, self.first));
        who = {plan::kNoGroup, view.sends ? own : peer, view.sends ? peer : own};
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
      self.places.push_back({instance, arrivals});
    }
  }
}

// Of each group the members along axes that tell roles apart: the others have the same role as one of these.
std::vector<plan::Group> slices_along_roles(const PlanGraph& graph) {
  std::set<plan::Axis> axes;
  for (const plan::Role& role : graph.roles) {
    for (const auto& fixed : role.ranks.fixed) {
      axes.insert(fixed.first);
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
  std::int32_t operator()(const std::vector<std::int32_t>& signature) {
    return known_.try_emplace(signature, static_cast<std::int32_t>(known_.size())).first->second;
  }
  std::size_t size() const { return known_.size(); }

 private:
  std::map<std::vector<std::int32_t>, std::int32_t> known_;
};

// Of one group that ops use: which instance a rank belongs to (-1: its role does not use the group), and who is in it.
struct GroupInstances {
  std::vector<std::int32_t> of_rank;
  std::vector<std::vector<Rank>> members;
};

GroupInstances instances_of(const PlanGraph& graph, const std::vector<RoleModel>& models,
                            const std::vector<std::int32_t>& roles, plan::GroupId group) {
  GroupInstances result;
  result.of_rank.resize(roles.size(), -1);
  for (std::size_t r = 0; r < roles.size(); ++r) {
    const std::vector<View>& views = models[index(roles[r])].views;
    if (result.of_rank[r] < 0 &&
        std::any_of(views.begin(), views.end(), [&](const View& v) { return v.group == group; })) {
      result.members.push_back(plan::members(graph.mesh, graph.groups[index(group)], static_cast<Rank>(r)));
      for (const Rank member : result.members.back()) {
        result.of_rank[index(member)] = static_cast<std::int32_t>(result.members.size() - 1);
      }
    }
  }
  return result;
}

// By instance: a name for the colours of its members, each once.
std::vector<std::int32_t> colours_of(const GroupInstances& group, const std::vector<std::int32_t>& colour) {
  Names names;
  std::vector<std::int32_t> result, colours;
  for (const std::vector<Rank>& members : group.members) {
    colours.clear();
    for (const Rank r : members) {
      colours.push_back(colour[index(r)]);
    }
    std::sort(colours.begin(), colours.end());
    colours.erase(std::unique(colours.begin(), colours.end()), colours.end());
    result.push_back(names(colours));
  }
  return result;
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

std::vector<RankClass> refine(const PlanGraph& graph, const std::vector<RoleModel>& models,
                              std::vector<std::int32_t> colour) {
  const std::vector<std::int32_t> roles = roles_by_rank(graph);
  CHECK(colour.size() == roles.size(), "{} colours of {} ranks", colour.size(), roles.size());
  std::vector<GroupInstances> groups;
  for (std::size_t g = 0; g < graph.groups.size(); ++g) {
    groups.push_back(instances_of(graph, models, roles, static_cast<plan::GroupId>(g)));
  }
  std::size_t count = 0;
  for (bool is_first = true;; is_first = false) {
    std::vector<std::vector<std::int32_t>> group_colour;  // by group and instance: of its members, each once
    for (const GroupInstances& group : groups) {
      group_colour.push_back(colours_of(group, colour));
    }
    Names names;
    std::vector<std::int32_t> next(colour.size()), signature;
    for (std::size_t r = 0; r < colour.size(); ++r) {
      signature = {roles[r], colour[r]};
      for (const View& view : models[index(roles[r])].views) {
        signature.push_back(view.group == plan::kNoGroup
                                ? colour[index(peer_of(graph.mesh, view, static_cast<Rank>(r)))]
                                : group_colour[index(view.group)][index(groups[index(view.group)].of_rank[r])]);
      }
      next[r] = names(signature);
    }
    colour = std::move(next);
    if (!is_first && names.size() == count) {
      break;
    }
    count = names.size();
  }
  std::vector<RankClass> classes(count);
  for (std::size_t r = 0; r < colour.size(); ++r) {
    RankClass& c = classes[index(colour[r])];
    if (c.multiplicity++ == 0) {
      c.role = c.model = roles[r];
      c.first = static_cast<Rank>(r);
    }
  }
  find_places(
      graph, models, graph.groups, [&](Rank r) { return colour[index(r)]; }, classes);
  return classes;
}

}  // namespace foretrain::sim
