#include "plan/mesh.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#include "tests/support/message_of.h"

namespace foretrain::plan {
namespace {

using foretrain::test::message_of;

Mesh mesh(int pp, int dp, int cp, int tp, const std::string& order = "pp,dp,cp,tp") {
  Mesh m;
  m.order = parse_rank_order(order);
  m.extent = {pp, dp, cp, tp};
  return m;
}

// rank = ((pp * 2 + dp) * 1 + cp) * 4 + tp.  13 = 1*8 + 1*4 + 1.
TEST(Mesh, NumbersRanksWithTheLastAxisFastest) {
  const Mesh m = mesh(2, 2, 1, 4);
  EXPECT_EQ(m.ranks(), 16);
  EXPECT_EQ(m.coordinates(13), (Coordinates{1, 1, 0, 1}));
  EXPECT_EQ(m.rank({1, 1, 0, 1}), 13);
  EXPECT_EQ(m.stride(Axis::tp), 1);
  EXPECT_EQ(m.stride(Axis::cp), 4);
  EXPECT_EQ(m.stride(Axis::dp), 4);
  EXPECT_EQ(m.stride(Axis::pp), 8);
}

// rank = ((tp * 1 + cp) * 2 + pp) * 3 + dp with dp 3, pp 2:  17 = 2*6 + 1*3 + 2.
TEST(Mesh, FollowsTheRankOrder) {
  const Mesh m = mesh(2, 3, 1, 4, "tp,cp,pp,dp");
  EXPECT_EQ(m.coordinates(17), (Coordinates{1, 2, 0, 2}));
  EXPECT_EQ(m.stride(Axis::dp), 1);
  EXPECT_EQ(m.stride(Axis::pp), 3);
  EXPECT_EQ(m.stride(Axis::tp), 6);
}

// Of 12 ranks in the mesh, and two beside it, the last one is at 4 along dp, where dp ends at 3. It is in the group
// that names it, and speaks to ranks by their numbers.
TEST(Mesh, RanksBesideIt) {
  Mesh m = mesh(2, 3, 1, 2);
  m.beside = 2;
  EXPECT_EQ(m.ranks(), 14);
  EXPECT_EQ(m.within(), 12);
  EXPECT_EQ(m.coordinates(13), (Coordinates{0, 4, 0, 0}));
  EXPECT_EQ(m.rank({0, 4, 0, 0}), 13);
  EXPECT_EQ(m.peer(11, Axis::dp, 4, false), 13);
  EXPECT_EQ(m.peer(13, Axis::dp, 11, false), 11);
  const Group all{"dp", {{Axis::dp, 0, {}}}, {}}, with{"with", {{Axis::dp, 0, {0, 2, 4}}}, {}};
  EXPECT_EQ(group_size(m, all), 3);
  EXPECT_FALSE(contains(m, all, 13));
  EXPECT_FALSE(contains(m, Group{"tp", {{Axis::tp, 0, {}}}, {}}, 13));
  EXPECT_FALSE(contains(m, with, 12));
  EXPECT_EQ(index_in_group(m, with, 13), 2);
  EXPECT_EQ(members(m, with, 13), (std::vector<Rank>{0, 4, 13}));
}

TEST(Mesh, RankAndCoordinatesAreInverseForEveryOrder) {
  std::array<Axis, kAxes> order{Axis::pp, Axis::dp, Axis::cp, Axis::tp};
  do {
    for (const Coordinates extent : {Coordinates{1, 1, 1, 1}, Coordinates{2, 3, 1, 4}, Coordinates{1, 5, 2, 3}}) {
      const Mesh m{order, extent};
      for (Rank r = 0; r < m.ranks(); ++r) {
        const Coordinates c = m.coordinates(r);
        EXPECT_EQ(m.rank(c), r);
        for (const Axis a : order) {
          Coordinates next = c;
          if (++next[static_cast<std::size_t>(a)] < m.size(a)) {
            EXPECT_EQ(m.rank(next), r + m.stride(a));
          }
        }
      }
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(RankOrder, RefusesWhatIsNotAPermutation) {
  EXPECT_EQ(message_of([] { parse_rank_order("pp,dp,ep,tp"); }),
            "\"pp,dp,ep,tp\" names the unknown axis \"ep\"; expected each of pp, dp, cp, tp once, slowest first");
  EXPECT_EQ(message_of([] { parse_rank_order(""); }),
            "\"\" names the unknown axis \"\"; expected each of pp, dp, cp, tp once, slowest first");
  EXPECT_EQ(message_of([] { parse_rank_order("pp,dp,dp,tp"); }),
            "\"pp,dp,dp,tp\" names the axis \"dp\" twice; expected each of pp, dp, cp, tp once, slowest first");
  EXPECT_EQ(message_of([] { parse_rank_order("pp,dp,tp"); }),
            "\"pp,dp,tp\" lacks the axis \"cp\"; expected each of pp, dp, cp, tp once, slowest first");
  EXPECT_EQ(message_of([] { parse_rank_order("pp,dp,cp,tp,"); }),
            "\"pp,dp,cp,tp,\" names the unknown axis \"\"; expected each of pp, dp, cp, tp once, slowest first");
}

// Rank 13 of the mesh above is (pp 1, dp 1, tp 1).
TEST(Group, HoldsTheRanksThatDifferAlongItsAxes) {
  const Mesh m = mesh(2, 2, 1, 4);
  const Group tp{"tp", {{Axis::tp, 0, {}}}, {}};
  EXPECT_EQ(group_size(m, tp), 4);
  EXPECT_EQ(members(m, tp, 13), (std::vector<Rank>{12, 13, 14, 15}));
  EXPECT_EQ(index_in_group(m, tp, 13), 1);
  const Group dp{"dp", {{Axis::dp, 0, {}}}, {}};
  EXPECT_EQ(members(m, dp, 13), (std::vector<Rank>{9, 13}));
  // Mesh order counts, not the order of the spans: pp is slower than tp.
  const Group model{"model", {{Axis::tp, 0, {}}, {Axis::pp, 0, {}}}, {}};
  EXPECT_EQ(members(m, model, 13), (std::vector<Rank>{4, 5, 6, 7, 12, 13, 14, 15}));
  EXPECT_EQ(index_in_group(m, model, 13), 5);
  const Group alone{"alone", {}, {}};
  EXPECT_EQ(members(m, alone, 13), (std::vector<Rank>{13}));
  EXPECT_EQ(index_in_group(m, alone, 13), 0);
}

TEST(Group, CutsAnAxisInBlocksOrPicksCoordinates) {
  const Mesh eight = mesh(1, 1, 1, 8);
  const Group pairs{"kv", {{Axis::tp, 2, {}}}, {}};
  EXPECT_EQ(group_size(eight, pairs), 2);
  EXPECT_EQ(members(eight, pairs, 5), (std::vector<Rank>{4, 5}));
  EXPECT_EQ(index_in_group(eight, pairs, 5), 1);

  const Mesh stages = mesh(4, 1, 1, 2);
  const Group ends{"embedding", {{Axis::pp, 0, {0, 3}}}, {}};
  EXPECT_EQ(group_size(stages, ends), 2);
  EXPECT_EQ(members(stages, ends, 7), (std::vector<Rank>{1, 7}));
  EXPECT_TRUE(contains(stages, ends, 0));
  EXPECT_FALSE(contains(stages, ends, 2));
  EXPECT_THROW(index_in_group(stages, ends, 2), InternalError);
  EXPECT_THROW(members(stages, ends, 2), InternalError);
}

// Along tp 0..7: every fourth of all is {1, 5}; every second of blocks of four is {5, 7} beside {4, 6}.
TEST(Group, TakesEveryNthOfAnAxisOrOfItsBlocks) {
  const Mesh eight = mesh(1, 1, 1, 8);
  const Group fourths{"across", {{Axis::tp, 0, {}, 4}}, {}};
  EXPECT_EQ(group_size(eight, fourths), 2);
  EXPECT_EQ(members(eight, fourths, 5), (std::vector<Rank>{1, 5}));
  EXPECT_EQ(index_in_group(eight, fourths, 5), 1);
  const Group seconds{"across", {{Axis::tp, 4, {}, 2}}, {}};
  EXPECT_EQ(members(eight, seconds, 5), (std::vector<Rank>{5, 7}));
  EXPECT_EQ(members(eight, seconds, 6), (std::vector<Rank>{4, 6}));
  EXPECT_EQ(index_in_group(eight, seconds, 6), 1);
}

// 8 = 2 blocks of 4 = 4 strides of 2: for every pair of divisors, the two groups of a rank share the rank alone, and
// with it they span the axis.
TEST(Group, BlocksAndStridesCross) {
  const Mesh m = mesh(1, 12, 1, 2);
  for (const int n : {1, 2, 3, 4, 6, 12}) {
    const Group inside{"inside", {{Axis::dp, n, {}}}, {}}, across{"across", {{Axis::dp, 0, {}, n}}, {}};
    EXPECT_EQ(group_size(m, inside) * group_size(m, across), 12);
    for (Rank r = 0; r < m.ranks(); ++r) {
      const std::vector<Rank> a = members(m, inside, r), b = members(m, across, r);
      std::vector<Rank> both;
      std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
      EXPECT_EQ(both, std::vector<Rank>{r});
    }
  }
}

TEST(Group, RefusesBlocksThatDoNotDivideAndCoordinatesOutside) {
  EXPECT_THROW(group_size(mesh(1, 1, 1, 8), {"x", {{Axis::tp, 0, {}, 3}}, {}}), InternalError);
  EXPECT_THROW(group_size(mesh(1, 1, 1, 8), {"x", {{Axis::tp, 4, {}, 8}}, {}}), InternalError);
  EXPECT_THROW(group_size(mesh(2, 1, 1, 1), {"x", {{Axis::pp, 0, {0, 1}, 2}}, {}}), InternalError);
  EXPECT_THROW(group_size(mesh(1, 1, 1, 8), {"x", {{Axis::tp, 3, {}}}, {}}), InternalError);
  EXPECT_THROW(group_size(mesh(2, 1, 1, 1), {"x", {{Axis::pp, 0, {0, 2}}}, {}}), InternalError);
  EXPECT_THROW(group_size(mesh(2, 1, 1, 1), {"x", {{Axis::pp, 0, {1, 0}}}, {}}), InternalError);
}

// The groups of all ranks part the mesh: every member sees the same list, at its own index.
TEST(Group, GroupsPartTheMesh) {
  for (const char* order : {"pp,dp,cp,tp", "tp,pp,cp,dp", "dp,tp,pp,cp"}) {
    const Mesh m = mesh(2, 4, 1, 6, order);
    const std::vector<Group> groups{{"tp", {{Axis::tp, 0, {}}}, {}},
                                    {"dp", {{Axis::dp, 2, {}}}, {}},
                                    {"across", {{Axis::dp, 0, {}, 2}, {Axis::tp, 6, {}, 3}}, {}},
                                    {"kv", {{Axis::tp, 3, {}}, {Axis::dp, 0, {}}}, {}},
                                    {"model", {{Axis::pp, 0, {}}, {Axis::tp, 0, {}}}, {}},
                                    {"all", {{Axis::tp}, {Axis::cp}, {Axis::dp}, {Axis::pp}}, {}}};
    for (const Group& g : groups) {
      for (Rank r = 0; r < m.ranks(); ++r) {
        const std::vector<Rank> own = members(m, g, r);
        ASSERT_EQ(own.size(), static_cast<std::size_t>(group_size(m, g)));
        EXPECT_TRUE(std::is_sorted(own.begin(), own.end()));
        for (std::size_t i = 0; i < own.size(); ++i) {
          EXPECT_EQ(index_in_group(m, g, own[i]), static_cast<int>(i));
          EXPECT_EQ(members(m, g, own[i]), own);
        }
        EXPECT_EQ(own[static_cast<std::size_t>(index_in_group(m, g, r))], r);
      }
    }
  }
}

}  // namespace
}  // namespace foretrain::plan
