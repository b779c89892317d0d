#include "sim/fair_share.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/error.h"
#include "tests/sim/filling.h"

namespace foretrain::sim {
namespace {

constexpr Rate units(std::int64_t bytes_per_second) {
  return bytes_per_second * kRateUnits;
}

TEST(FairShare, NoFlows) {
  FairShare share({Bandwidth{100}});
  share.solve();
  EXPECT_EQ(share.level(0), kUnlimited);
  EXPECT_TRUE(share.moved().empty());
  EXPECT_TRUE(share.relevelled().empty());
}

TEST(FairShare, FlowsWithoutLinks) {
  FairShare share({});
  const FlowIndex free = share.add({});
  const FlowIndex capped = share.add({}, 3, units(5));
  share.solve();
  EXPECT_EQ(share.rate(free), kUnlimited);
  EXPECT_EQ(share.bottleneck(free), kNoLink);
  EXPECT_EQ(share.rate(capped), units(5));
}

// 100 B/s for three: 33 1/3 B/s, and 1/3 of 65536 units rounded down.
TEST(FairShare, OneLinkSharedByThree) {
  FairShare share({Bandwidth{100}});
  const std::vector<LinkUse> route{{0}};
  const FlowIndex a = share.add(route), b = share.add(route), c = share.add(route);
  share.solve();
  EXPECT_EQ(share.rate(a), 100 * 65536 / 3);
  share.remove(b);
  share.solve();
  EXPECT_EQ(share.rate(a), units(50));
  EXPECT_EQ(share.rate(c), units(50));
  EXPECT_TRUE(share.moved().empty());
  EXPECT_EQ(share.relevelled(), std::vector<LinkIndex>{0});
}

// Links of 10 and 40 B/s. x crosses both, y the first, z the second: the first stops x and y at 5, z has 40 - 5.
// Without y, x gets 10 and z 30. With two more copies of z's kind, the second has 30 for three: no bottleneck of x
// still.
TEST(FairShare, ALaterBottleneckHasWhatTheFirstLeaves) {
  FairShare share({Bandwidth{10}, Bandwidth{40}});
  const FlowIndex x = share.add(std::vector<LinkUse>{{0}, {1}}), y = share.add(std::vector<LinkUse>{{0}}),
                  z = share.add(std::vector<LinkUse>{{1}});
  share.solve();
  EXPECT_EQ(share.rate(x), units(5));
  EXPECT_EQ(share.rate(y), units(5));
  EXPECT_EQ(share.rate(z), units(35));
  EXPECT_EQ(share.bottleneck(x), 0);
  share.remove(y);
  share.solve();
  EXPECT_EQ(share.rate(x), units(10));
  EXPECT_EQ(share.rate(z), units(30));
  share.add(std::vector<LinkUse>{{1}}, 2);
  share.solve();
  EXPECT_EQ(share.rate(x), units(10));
  EXPECT_EQ(share.rate(z), units(10));
}

// Sprayed over two links of 10 B/s, half the rate on each: 20 B/s. A second flow that uses one of them alone: with x on
// both, x/2 + y = 10 and x = y, so 6 2/3 each.
TEST(FairShare, Sprayed) {
  FairShare share({Bandwidth{10}, Bandwidth{10}});
  const FlowIndex x = share.add(std::vector<LinkUse>{{0, 1, 2}, {1, 1, 2}});
  share.solve();
  EXPECT_EQ(share.rate(x), units(20));
  const FlowIndex y = share.add(std::vector<LinkUse>{{1}});
  share.solve();
  EXPECT_EQ(share.rate(x), 20 * 65536 / 3);
  EXPECT_EQ(share.rate(y), 20 * 65536 / 3);
}

// 12 B/s for a capped flow (2 B/s) and two others: 2, 5, 5. The cap gone with its flow: 6, 6.
TEST(FairShare, CappedFlow) {
  FairShare share({Bandwidth{12}});
  const std::vector<LinkUse> route{{0}};
  const FlowIndex capped = share.add(route, 1, units(2)), a = share.add(route), b = share.add(route);
  share.solve();
  EXPECT_EQ(share.rate(capped), units(2));
  EXPECT_EQ(share.rate(a), units(5));
  share.remove(capped);
  share.solve();
  EXPECT_EQ(share.rate(b), units(6));
}

// 65537 units for two flows on each link: 32768.5, rounded down on both links at once. Were link 0 looked at first and
// then link 1, h would get the unit that g leaves: 32769.
TEST(FairShare, EqualLinksRoundTogether) {
  const Bandwidth odd{65537.0 / 65536};
  for (const bool in_steps : {false, true}) {
    FairShare share({odd, odd});
    std::vector<FlowIndex> flows;
    for (const std::vector<LinkUse>& route : {std::vector<LinkUse>{{0}}, {{0}, {1}}, {{1}}}) {
      flows.push_back(share.add(route));
      if (in_steps) {
        share.solve();
      }
    }
    share.solve();
    for (const FlowIndex f : flows) {
      EXPECT_EQ(share.rate(f), 32768);
    }
  }
}

TEST(FairShare, CapacityChanges) {
  FairShare share({Bandwidth{10}, Bandwidth{30}});
  const FlowIndex f = share.add(std::vector<LinkUse>{{0}, {1}});
  share.solve();
  share.set_capacity(0, Bandwidth{40});
  share.solve();
  EXPECT_EQ(share.rate(f), units(30));
  EXPECT_EQ(share.bottleneck(f), 1);
  share.set_capacity(0, Bandwidth{1});
  share.solve();
  EXPECT_EQ(share.rate(f), units(1));
}

TEST(FairShare, AbsurdBandwidths) {
  for (const double b : {0.0, -1.0, 0.5, 2e14, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THROW(FairShare({Bandwidth{b}}), InputError) << b;
  }
}

TEST(FairShare, MoreCopiesThanCanBeCounted) {
  FairShare share({Bandwidth{10}});
  share.add(std::vector<LinkUse>{{0}}, INT64_MAX / 2);
  EXPECT_THROW(share.add(std::vector<LinkUse>{{0, 3, 1}}, INT64_MAX / 2), InfeasibleError);
}

// ---- against progressive filling

class RandomSystem {
 public:
  RandomSystem(std::uint32_t seed, std::int64_t scale)
      : random_(seed), scale_(scale), share_(capacities(1 + below(8))) {}

  // Some flows come and go, a capacity changes now and then.
  void change() {
    const std::size_t goers = below(3);
    for (std::size_t i = 0; i < goers && !flows_.empty(); ++i) {
      const auto it = std::next(flows_.begin(), static_cast<std::ptrdiff_t>(below(flows_.size())));
      share_.remove(it->first);
      known_.erase(it->first);
      flows_.erase(it);
    }
    const std::size_t comers = below(flows_.size() > 20 ? 2 : 4);
    for (std::size_t i = 0; i < comers; ++i) {
      FillingFlow f = new_flow();
      flows_[share_.add(f.route, f.copies, f.cap)] = f;
    }
    if (below(8) == 0) {
      const std::size_t l = below(capacities_.size());
      capacities_[l] = capacity();
      share_.set_capacity(static_cast<LinkIndex>(l), bandwidth(capacities_[l]));
    }
    share_.solve();
  }

  void check() {
    std::vector<FillingFlow> flows;
    std::vector<Rate> rates;
    for (const auto& [index, flow] : flows_) {
      flows.push_back(flow);
      rates.push_back(share_.rate(index));
    }
    const std::vector<Wide> exact = progressive_filling<Wide>(capacities_, flows);
    const auto real = progressive_filling<long double>(capacities_, flows);
    for (std::size_t f = 0; f < flows.size(); ++f) {
      ASSERT_EQ(rates[f], static_cast<Rate>(exact[f])) << f;
      if (scale_ > 1) {
        EXPECT_NEAR(static_cast<double>(rates[f]) / static_cast<double>(real[f]), 1, 1e-7) << f;
      }
    }
    check_from_scratch(flows, rates);
    check_reported();
  }

 private:
  std::size_t below(std::size_t n) { return random_() % n; }
  static Bandwidth bandwidth(Rate units) { return {static_cast<double>(units) / static_cast<double>(kRateUnits)}; }
  // Few different ones, so that levels are equal often; some small and odd, so that roundings show.
  Rate capacity() {
    return scale_ *
           (below(2) == 0 ? units(static_cast<std::int64_t>(1 + below(3))) : 65536 + static_cast<Rate>(below(4)));
  }
  std::vector<Bandwidth> capacities(std::size_t n) {
    std::vector<Bandwidth> result;
    for (std::size_t l = 0; l < n; ++l) {
      capacities_.push_back(capacity());
      result.push_back(bandwidth(capacities_.back()));
    }
    return result;
  }
  FillingFlow new_flow() {
    FillingFlow f;
    const std::size_t legs = below(5);
    for (std::size_t i = 0; i < legs; ++i) {
      LinkUse use{static_cast<LinkIndex>(below(capacities_.size()))};
      if (below(3) == 0) {
        use.numerator = static_cast<std::int32_t>(1 + below(3));
        use.denominator = static_cast<std::int32_t>(1 + below(6));
      }
      f.route.push_back(use);
    }
    f.copies = below(3) == 0 ? static_cast<std::int64_t>(1 + below(4)) : 1;
    f.cap = below(4) == 0 ? scale_ * static_cast<Rate>(1 + below(40'000)) : kUnlimited;
    return f;
  }

  // The same flows in another order, copies one by one.
  void check_from_scratch(const std::vector<FillingFlow>& flows, const std::vector<Rate>& rates) {
    std::vector<Bandwidth> bandwidths;
    for (const Rate c : capacities_) {
      bandwidths.push_back(bandwidth(c));
    }
    FairShare fresh(bandwidths);
    std::vector<std::pair<FlowIndex, Rate>> expected;
    for (std::size_t f = flows.size(); f-- > 0;) {
      for (std::int64_t copy = 0; copy < flows[f].copies; ++copy) {
        expected.emplace_back(fresh.add(flows[f].route, 1, flows[f].cap), rates[f]);
      }
    }
    fresh.solve();
    for (const auto& [index, rate] : expected) {
      ASSERT_EQ(fresh.rate(index), rate);
    }
  }

  // What is not named as changed has not changed.
  void check_reported() {
    std::map<FlowIndex, bool> moved;
    std::map<LinkIndex, bool> relevelled;
    for (const FlowIndex f : share_.moved()) {
      EXPECT_FALSE(std::exchange(moved[f], true));
    }
    for (const LinkIndex l : share_.relevelled()) {
      EXPECT_FALSE(std::exchange(relevelled[l], true));
    }
    for (const auto& [index, flow] : flows_) {
      const LinkIndex bottleneck = share_.bottleneck(index);
      if (bottleneck == kNoLink) {
        EXPECT_EQ(share_.rate(index), kUnlimited);
        continue;
      }
      EXPECT_EQ(share_.rate(index), share_.level(bottleneck));
      const auto known = known_.find(index);
      if (known != known_.end()) {
        EXPECT_TRUE(known->second.first == bottleneck || moved[index]);
        EXPECT_TRUE(known->second.second == share_.rate(index) || moved[index] || relevelled[bottleneck]);
      } else {
        EXPECT_TRUE(moved[index]);
      }
      known_[index] = {bottleneck, share_.rate(index)};
    }
  }

  std::mt19937 random_;
  std::int64_t scale_;
  std::vector<Rate> capacities_;
  FairShare share_;
  std::map<FlowIndex, FillingFlow> flows_;
  std::map<FlowIndex, std::pair<LinkIndex, Rate>> known_;
};

// Links of 1 to 3 B/s, where roundings are large; of 1 to 3 MB/s, where rates are those over the reals to 1e-7.
TEST(FairShare, EqualsProgressiveFillingBitByBit) {
  for (const std::int64_t scale : {1, 1'000'000}) {
    for (std::uint32_t seed = 0; seed < 60; ++seed) {
      RandomSystem system(seed, scale);
      for (int i = 0; i < 25; ++i) {
        system.change();
        ASSERT_NO_FATAL_FAILURE(system.check()) << "seed " << seed << ", change " << i;
      }
    }
  }
}

}  // namespace
}  // namespace foretrain::sim
