#include "sim/rank_classes.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "plan/build.h"
#include "plan/validate.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::sim {
namespace {

using Overrides = std::vector<std::string>;

plan::PlanGraph graph_of(Overrides overrides) {
  overrides.emplace_back("precision=fp32");
  return plan::build(testing::tiny_job(testing::kTinyGpt, overrides));
}

std::vector<RoleModel> models_of(const plan::PlanGraph& g, const topologies::Cluster& c) {
  return model_roles(g, c, *make_compute_model("auto", c), *make_network_model("auto", c));
}

// First ranks and sizes of the classes after refining with `slow` ranks of another colour.
std::vector<std::pair<plan::Rank, std::int64_t>> refined(const plan::PlanGraph& g,
                                                         const std::vector<plan::Rank>& slow) {
  std::vector<std::int32_t> colour(static_cast<std::size_t>(g.mesh.ranks()));
  for (const plan::Rank r : slow) {
    colour[static_cast<std::size_t>(r)] = 1;
  }
  const topologies::Cluster c = clockwork(4);
  std::vector<std::pair<plan::Rank, std::int64_t>> result;
  const auto models = models_of(g, c);
  const Meetings meetings = find_meetings(g, models, Orbits(g.mesh, g.mesh.size(plan::Axis::dp)));
  for (const RankClass& k : classes_of(g, models, meetings, *refine(meetings, {}, colour))) {
    result.emplace_back(k.first, k.multiplicity);
  }
  return result;
}

using Classes = std::vector<std::pair<plan::Rank, std::int64_t>>;

TEST(RankClasses, RolesAreTheCoarsestPartition) {
  for (const Overrides& s : {Overrides{}, {"dp=4"}, {"dp=2", "tp=2", "pp=2"}, {"pp=4"}, {"tp=4", "dp=2"}}) {
    const plan::PlanGraph g = graph_of(s);
    const auto models = models_of(g, clockwork(4));
    const std::vector<RankClass> roles = role_classes(g, models);
    const Meetings meetings = find_meetings(g, models, Orbits(g.mesh, g.mesh.size(plan::Axis::dp)));
    const std::vector<std::int32_t> alike(static_cast<std::size_t>(g.mesh.ranks()));
    const std::vector<RankClass> coarsest = classes_of(g, models, meetings, *refine(meetings, {}, alike));
    ASSERT_EQ(roles.size(), coarsest.size());
    for (std::size_t i = 0; i < roles.size(); ++i) {
      EXPECT_EQ(roles[i].role, coarsest[i].role);
      EXPECT_EQ(roles[i].first, coarsest[i].first);
      EXPECT_EQ(roles[i].multiplicity, coarsest[i].multiplicity);
      for (std::size_t p = 0; p < roles[i].places.size(); ++p) {
        EXPECT_EQ(roles[i].places[p].arrivals, coarsest[i].places[p].arrivals);
      }
    }
  }
}

// One slow rank of a data-parallel group is a class of its own; the others stay one.
TEST(RankClasses, ASlowRankComesApart) {
  EXPECT_EQ(refined(graph_of({"dp=4"}), {2}), (Classes{{0, 3}, {2, 1}}));
  EXPECT_EQ(refined(graph_of({"dp=4"}), {}), (Classes{{0, 4}}));
  EXPECT_EQ(refined(graph_of({"dp=4"}), {0, 1, 2, 3}), (Classes{{0, 4}}));
}

// Ranks are dp x tp, tp fastest: 0 is slow, 1 shares its tensor group, 2 4 6 its data-parallel group; 3 5 7 meet 1
// there.
TEST(RankClasses, WhatASlowRankReachesComesApart) {
  EXPECT_EQ(refined(graph_of({"dp=4", "tp=2"}), {0}), (Classes{{0, 1}, {1, 1}, {2, 3}, {3, 3}}));
}

// Ranks are pp x dp: 0 1 stage 0, 2 3 stage 1. 0 is slow; 2 gets its messages, 1 and 3 are the replicas.
TEST(RankClasses, MessagesSeparateToo) {
  EXPECT_EQ(refined(graph_of({"pp=2", "dp=2"}), {0}), (Classes{{0, 1}, {1, 1}, {2, 1}, {3, 1}}));
}

TEST(RankClasses, EveryRankByItselfMeetsAllOthers) {
  const plan::PlanGraph g = graph_of({"dp=4"});
  const auto models = models_of(g, clockwork(4));
  const std::vector<RankClass> classes = single_ranks(g, models);
  ASSERT_EQ(classes.size(), 4u);
  for (const RankClass& c : classes) {
    EXPECT_EQ(c.multiplicity, 1);
    ASSERT_FALSE(c.places.empty());
    for (std::size_t v = 0; v < c.places.size(); ++v) {
      EXPECT_EQ(c.places[v].arrivals, 4);
      EXPECT_EQ(c.places[v].instance, classes[0].places[v].instance);
    }
  }
}

}  // namespace
}  // namespace foretrain::sim
