// The oracle that an algorithm is right: its rounds are executed with sets of contributors in place of numbers. And the
// closed form equals the sum of its rounds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <set>

#include "sim/collective/algorithm.h"
#include "sim/collective/double_tree.h"
#include "tests/support/collective_cases.h"

namespace foretrain::sim::collective {
namespace {

using test::layouts;
using test::text;
using Contributors = std::uint32_t;  // bit r: rank r's part is in the sum; 0: nothing held

constexpr std::initializer_list<int> kPerNode{1, 2, 3, 4, 8};

// held[endpoint][chunk]; switches stand behind the ranks.
using State = std::vector<std::vector<Contributors>>;

State start(const Request& r, const Shape& shape) {
  const int n = r.layout->ranks();
  const std::int64_t block = shape.chunks / n;
  State held(static_cast<std::size_t>(n + r.layout->nodes()),
             std::vector<Contributors>(static_cast<std::size_t>(shape.chunks), 0));
  for (int rank = 0; rank < n; ++rank) {
    for (std::int64_t c = 0; c < shape.chunks; ++c) {
      bool has = true;
      switch (r.kind) {
        case Kind::broadcast:
        case Kind::scatter: has = rank == 0; break;
        case Kind::all_gather:
        case Kind::gather: has = c / block == rank; break;
        case Kind::all_to_all: has = c / n == rank; break;
        default: break;
      }
      held[static_cast<std::size_t>(rank)][static_cast<std::size_t>(c)] = has ? 1U << rank : 0;
    }
  }
  return held;
}

// What rank must hold of chunk c in the end; 0: anything.
Contributors wanted(const Request& r, const Shape& shape, int rank, std::int64_t c) {
  const int n = r.layout->ranks();
  const std::int64_t block = shape.chunks / n;
  const Contributors all = (1U << n) - 1;
  switch (r.kind) {
    case Kind::all_reduce: return all;
    case Kind::reduce: return rank == 0 ? all : 0;
    case Kind::reduce_scatter: return c / block == rank ? all : 0;
    case Kind::broadcast: return 1;
    case Kind::all_gather: return 1U << (c / block);
    case Kind::gather: return rank == 0 ? 1U << (c / block) : 0;
    case Kind::scatter: return c / block == rank ? 1 : 0;
    case Kind::all_to_all: return c % n == rank ? 1U << (c / n) : 0;
  }
  return 0;
}

void execute(const Algorithm& algorithm, const Request& r) {
  const Shape shape = algorithm.shape(r);
  State held = start(r, shape);
  std::vector<Transfer> transfers;
  for (int i = 0; i < shape.steps; ++i) {
    transfers.clear();
    algorithm.step(r, i, transfers);
    ASSERT_FALSE(transfers.empty()) << "round " << i;
    const State before = held;
    for (const Transfer& t : transfers) {
      ASSERT_NE(t.from, t.to);
      for (std::int64_t k = 0; k < t.count; ++k) {
        const auto c = static_cast<std::size_t>((t.first + k * t.stride) % shape.chunks);
        const Contributors sent = before[static_cast<std::size_t>(t.from)][c];
        Contributors& there = held[static_cast<std::size_t>(t.to)][c];
        ASSERT_NE(sent, 0U) << "round " << i << ": " << t.from << " has no chunk " << c;
        if (t.reduce) {
          ASSERT_EQ(sent & there, 0U) << "round " << i << ": " << t.to << " adds twice to chunk " << c;
          there |= sent;
        } else {
          there = sent;
        }
      }
    }
  }
  for (int rank = 0; rank < r.layout->ranks(); ++rank) {
    for (std::int64_t c = 0; c < shape.chunks; ++c) {
      const Contributors want = wanted(r, shape, rank, c);
      if (want != 0) {
        ASSERT_EQ(held[static_cast<std::size_t>(rank)][static_cast<std::size_t>(c)], want)
            << "rank " << rank << " chunk " << c;
      }
    }
  }
}

template <class Visit>
void for_each_case(const Visit& visit) {
  for (int n = 2; n <= 17; ++n) {
    for (const Layout& layout : layouts(n, kPerNode)) {
      test::for_each_algorithm(layout, {1, 3}, visit);
    }
  }
}

TEST(Collective, RoundsYieldTheResult) {
  for_each_case([](const Algorithm& a, const Request& r) { execute(a, r); });
}

// To a picosecond per round, with an efficiency, node and fabric unlike in rate and latency both ways.
TEST(Collective, ClosedFormIsTheSumOfItsRounds) {
  const std::vector<Fabric> fabrics{{400e9, 50e9, 3e-6, 14e-6, 0.87}, {20e9, 90e9, 9e-6, 1e-6, 1.0}};
  for_each_case([&](const Algorithm& a, const Request& r) {
    for (const Fabric& f : fabrics) {
      for (const double bytes : {0.0, 1.0, 1048573.0, 1e9}) {
        ASSERT_NEAR(a.seconds(r, bytes, f), steps_seconds(a, r, bytes, f), 1e-12 * a.shape(r).steps) << bytes;
      }
    }
  });
}

TEST(Collective, EveryKindHasAnAlgorithmForEveryLayout) {
  for (const Kind kind : {Kind::all_reduce, Kind::reduce_scatter, Kind::all_gather, Kind::broadcast, Kind::all_to_all,
                          Kind::reduce, Kind::gather, Kind::scatter}) {
    EXPECT_EQ(kind_from_name(std::string(name(kind))), kind);
    for (int n = 2; n <= 17; ++n) {
      for (const Layout& layout : layouts(n, kPerNode)) {
        EXPECT_TRUE(std::any_of(algorithms().begin(), algorithms().end(),
                                [&](const auto& a) { return applies(*a, kind, layout); }))
            << name(kind) << " " << text(layout);
      }
    }
  }
}

TEST(Collective, SaysWhyNot) {
  const Layout one = Layout::packed(1, 8), node = Layout::packed(6, 8), uneven = Layout::packed(10, 8);
  EXPECT_EQ(refusal(*find_algorithm("ring"), Kind::all_reduce, one), "one rank has nobody to talk to");
  EXPECT_EQ(refusal(*find_algorithm("ring"), Kind::broadcast, node), "it does no broadcast");
  EXPECT_EQ(refusal(*find_algorithm("hierarchical"), Kind::all_reduce, node),
            "it needs several nodes with several ranks each");
  EXPECT_EQ(refusal(*find_algorithm("hierarchical"), Kind::all_reduce, uneven), "it needs as many ranks on every node");
  EXPECT_EQ(refusal(*find_algorithm("halving_doubling"), Kind::all_gather, node),
            "it scatters and gathers over a power of two of ranks only");
  EXPECT_EQ(find_algorithm("rings"), nullptr);
  EXPECT_THROW(kind_from_name("allreduce"), std::runtime_error);
}

// 2 GB over 131,072 ranks by eights: 14 of the 131,071 distances reach the own node for some rank, but every one the
// fabric for others. Each round takes 10 us and 15,258.789 bytes at 50 GB/s, 305.176 ns.
TEST(Collective, PairwiseOverManyRanks) {
  const Layout layout = Layout::packed(131072, 8);
  const Algorithm& pairwise = *find_algorithm("pairwise");
  const Fabric fabric{400e9, 50e9, 1e-6, 10e-6, 1};
  EXPECT_NEAR(pairwise.seconds({Kind::all_to_all, &layout, 1}, 2e9, fabric), 131071 * (10e-6 + 2e9 / 131072 / 50e9),
              1e-9);
}

// Ring of 8 on one node at 100 GB/s and 1 us: 14 rounds of 1 us + S/8 / 100 GB/s.
// Ring over 2 nodes of 4: four rings, chunk S/32; inside a node 3 chunks a round, on the fabric one.
TEST(Collective, RingByHand) {
  const Fabric f{100e9, 25e9, 1e-6, 10e-6, 1};
  const Layout node = Layout::packed(8, 8), two = Layout::packed(8, 4);
  const Algorithm& ring = *find_algorithm("ring");
  EXPECT_NEAR(ring.seconds({Kind::all_reduce, &node}, 8e8, f), 14 * (1e-6 + 1e-3), 1e-12);
  // fabric: 10 us + 25e6 / 25e9 = 1.01 ms; node: 1 us + 75e6 / 100e9 = 0.751 ms
  EXPECT_NEAR(ring.seconds({Kind::all_gather, &two}, 8e8, f), 7 * 1.010e-3, 1e-12);
}

// A vertex that is inner in both trees would carry four parts of the bytes where the others carry two. Shifting by one
// (odd n) leaves at most one such vertex.
TEST(Collective, TheTwoTreesHardlyShareInnerVertices) {
  for (int n = 2; n <= 64; ++n) {
    const DoubleTree trees(n);
    std::set<int> inner[2];
    int edges = 0;
    for (int level = 0; level < trees.depth(); ++level) {
      for (const DoubleTree::Edge& e : trees.level(level)) {
        inner[e.tree].insert(e.to);
        ++edges;
      }
    }
    int shared = 0;
    for (const int v : inner[0]) {
      shared += static_cast<int>(inner[1].count(v));
    }
    EXPECT_LE(shared, n % 2) << n;
    EXPECT_EQ(edges, 2 * (n - 1)) << n;
    EXPECT_LE(trees.depth(), static_cast<int>(std::ceil(std::log2(n)))) << n;
  }
}

}  // namespace
}  // namespace foretrain::sim::collective
