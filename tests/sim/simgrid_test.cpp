// Our flows beside SimGrid's on random platforms.
#include "tests/support/simgrid.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/support/traffic_patterns.h"

namespace foretrain::sim {
namespace {

// A link out of and one into each host, and between them up to three of a core that every pair crosses in its own way,
// some of them spread.
Platform random_platform(std::mt19937& random) {
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  Platform platform;
  const int hosts = 2 + below(12), core = 1 + below(8);
  platform.hosts = hosts;
  platform.latency = Time{below(2) * below(20'000'000)};
  for (int l = 0; l < 2 * hosts + core; ++l) {
    platform.links.push_back({1e9 * (1 + below(100))});
    platform.spread.push_back(l < 2 * hosts ? 1 : 1 + below(4));
  }
  platform.route = [hosts, core](int from, int to, std::vector<LinkIndex>& route) {
    route.push_back(from);
    std::mt19937 way(static_cast<std::uint32_t>(from * hosts + to));
    std::set<LinkIndex> passed;
    for (unsigned i = way() % 4; i > 0; --i) {
      passed.insert(2 * hosts + static_cast<LinkIndex>(way() % static_cast<unsigned>(core)));
    }
    route.insert(route.end(), passed.begin(), passed.end());
    route.push_back(hosts + to);
  };
  return platform;
}

// SimGrid's time is a double, and it takes what is within 1e-15 s for one instant; its rates are good to some 1e-9.
// Ours rounds each end up to a picosecond, and up to ten messages follow one another.
TEST(Simgrid, EndsAgreeOnRandomPlatforms) {
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    const Platform platform = random_platform(random);
    const int chains = 1 + static_cast<int>(random() % 20), length = 1 + static_cast<int>(random() % 10);
    RandomChains traffic(random, platform.hosts, chains, chains * length);
    const std::optional<FlowRun> theirs = run_simgrid(platform, traffic, SimgridUpdate::all);
    if (!theirs) {
      GTEST_SKIP() << "SimGrid was not found at build time (apt-get install libsimgrid-dev)";
    }
    const FlowRun ours = run_flows(platform, traffic);
    for (std::size_t tag = 0; tag < ours.ends_s.size(); ++tag) {
      const double tolerance = 20e-12 + 5e-9 * theirs->ends_s[tag];
      EXPECT_NEAR(ours.ends_s[tag], theirs->ends_s[tag], tolerance) << "seed " << seed << ", tag " << tag;
    }
  }
}

}  // namespace
}  // namespace foretrain::sim
