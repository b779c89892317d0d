#include "plan/graph.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace foretrain::plan {
namespace {

// pp 2, dp 2, tp 4: rank = pp * 8 + dp * 4 + tp.
Mesh mesh() {
  Mesh m;
  m.extent = {2, 2, 1, 4};
  return m;
}

TEST(RankSet, HoldsTheRanksWithTheFixedCoordinates) {
  const RankSet stage{{{Axis::pp, 1}}};
  EXPECT_FALSE(contains(mesh(), stage, 7));
  EXPECT_TRUE(contains(mesh(), stage, 8));
  EXPECT_EQ(first_rank(mesh(), stage), 8);
  EXPECT_EQ(count(mesh(), stage), 8);
  const RankSet line{{{Axis::tp, 3}, {Axis::pp, 0}}};  // ranks 3 and 7
  EXPECT_EQ(first_rank(mesh(), line), 3);
  EXPECT_EQ(count(mesh(), line), 2);
  const RankSet all{};
  EXPECT_EQ(first_rank(mesh(), all), 0);
  EXPECT_EQ(count(mesh(), all), 16);
  EXPECT_THROW(first_rank(mesh(), RankSet{{{Axis::pp, 2}}}), InternalError);
}

TEST(RankSet, CountsWhatItContains) {
  for (const RankSet& set : {RankSet{}, RankSet{{{Axis::dp, 1}}}, RankSet{{{Axis::dp, 0}, {Axis::tp, 2}}},
                             RankSet{{{Axis::pp, 1}, {Axis::dp, 1}, {Axis::cp, 0}, {Axis::tp, 1}}}}) {
    std::int64_t n = 0;
    Rank first = -1;
    for (Rank r = 0; r < mesh().ranks(); ++r) {
      if (contains(mesh(), set, r)) {
        first = first < 0 ? r : first;
        ++n;
      }
    }
    EXPECT_EQ(n, count(mesh(), set));
    EXPECT_EQ(first, first_rank(mesh(), set));
  }
}

TEST(RoleOf, FindsTheRoleOfEachRank) {
  PlanGraph g;
  g.mesh = mesh();
  g.roles.resize(2);
  g.roles[0].ranks.fixed = {{Axis::pp, 0}};
  g.roles[1].ranks.fixed = {{Axis::pp, 1}};
  EXPECT_EQ(role_of(g, 7), 0);
  EXPECT_EQ(role_of(g, 8), 1);
  g.roles.pop_back();
  EXPECT_THROW(role_of(g, 8), InternalError);
}

}  // namespace
}  // namespace foretrain::plan
