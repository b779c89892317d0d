#include "sim/flow_network.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/error.h"
#include "tests/sim/filling.h"

namespace foretrain::sim {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000'000;

// Ends of flows, by index, in the order of their ends.
using Ends = std::vector<std::pair<std::int64_t, FlowIndex>>;

Ends run(FlowNetwork& network) {
  Ends ends;
  while (!network.empty()) {
    const Time now = network.next();
    for (const FlowIndex flow : network.advance(now)) {
      ends.emplace_back(now.value, flow);
    }
  }
  return ends;
}

const std::vector<LinkUse> kFirst{{0}}, kSecondLink{{1}}, kBoth{{0}, {1}};

TEST(FlowNetwork, EmptyAtFirst) {
  FlowNetwork network({});
  EXPECT_TRUE(network.empty());
  EXPECT_TRUE(network.advance(Time{5}).empty());
}

TEST(FlowNetwork, NothingToTransfer) {
  FlowNetwork network({Bandwidth{100}});
  const FlowIndex no_bytes = network.start({.route = kFirst}, {});
  const FlowIndex no_bytes_later = network.start({.route = kFirst, .latency = Time{7}}, {});
  const FlowIndex no_links = network.start({.bytes = Bytes{1000}, .latency = Time{3}}, {});
  EXPECT_EQ(run(network), (Ends{{0, no_bytes}, {3, no_links}, {7, no_bytes_later}}));
}

// 100 bytes at 3 B/s: 33.3... s, rounded up once.
TEST(FlowNetwork, AloneItEndsAfterLatencyAndBytesOverRate) {
  for (const std::int64_t start : {0L, 1L, 999'999'999'999'937L}) {
    FlowNetwork network({Bandwidth{3}});
    network.advance(Time{start});
    const FlowIndex f = network.start({.route = kFirst, .bytes = Bytes{100}, .latency = Time{11}}, Time{start});
    EXPECT_EQ(run(network), (Ends{{start + 11 + 33'333'333'333'334, f}}));
  }
}

// Bytes that one picosecond carries end with it, and what is one more needs another: 10^12 B/s is a byte per
// picosecond.
TEST(FlowNetwork, SmallestTransfers) {
  FlowNetwork network({Bandwidth{2e12}});
  network.start({.route = kFirst, .bytes = Bytes{2}}, {});
  EXPECT_EQ(network.next(), Time{1});
  EXPECT_EQ(network.advance(Time{1}).size(), 1u);
  network.start({.route = kFirst, .bytes = Bytes{3}}, Time{1});
  EXPECT_EQ(network.next(), Time{3});
}

// A link of 100 B/s. a: 1000 B from 0 s; b: 100 B from 2 s. a has had 200 B when b comes; 50 B/s each until b is done
// at 4 s; a has then had 300 B, and 700 B at 100 B/s last until 11 s.
TEST(FlowNetwork, ShareWhileBothAreUnderWay) {
  FlowNetwork network({Bandwidth{100}});
  const FlowIndex a = network.start({.route = kFirst, .bytes = Bytes{1000}}, {});
  EXPECT_EQ(network.rate(a), 100 * kRateUnits);
  const FlowIndex b = network.start({.route = kFirst, .bytes = Bytes{100}}, Time{2 * kSecond});
  EXPECT_EQ(network.rate(a), 50 * kRateUnits);
  EXPECT_EQ(run(network), (Ends{{4 * kSecond, b}, {11 * kSecond, a}}));
}

// As above, b's latency of 2 s instead of its later start.
TEST(FlowNetwork, NoLinkIsUsedDuringTheLatency) {
  FlowNetwork network({Bandwidth{100}});
  const FlowIndex a = network.start({.route = kFirst, .bytes = Bytes{1000}}, {});
  const FlowIndex b = network.start({.route = kFirst, .bytes = Bytes{100}, .latency = Time{2 * kSecond}}, {});
  EXPECT_EQ(network.rate(b), 0);
  EXPECT_EQ(run(network), (Ends{{4 * kSecond, b}, {11 * kSecond, a}}));
}

// 1000 B at 100 B/s; after 4 s 600 B are left, at 25 B/s: 28 s in all.
TEST(FlowNetwork, CapacityChanges) {
  FlowNetwork network({Bandwidth{100}});
  const FlowIndex a = network.start({.route = kFirst, .bytes = Bytes{1000}}, {});
  network.set_capacity(0, Bandwidth{25}, Time{4 * kSecond});
  EXPECT_EQ(run(network), (Ends{{28 * kSecond, a}}));
}

// Capped at 20 B/s beside b, which has 80: 100 B in 5 s. Then, after 5 s, half of the link each: b (800 B) has 400 left
// and ends at 13 s; a (1000 B) has 500 left then and gets its cap of 90: 500/90 s more.
TEST(FlowNetwork, CapChanges) {
  FlowNetwork network({Bandwidth{100}});
  const FlowIndex a = network.start({.route = kFirst, .bytes = Bytes{1000}, .cap = rate_of(Bandwidth{20})}, {});
  const FlowIndex b = network.start({.route = kFirst, .bytes = Bytes{800}}, {});
  network.set_cap(a, rate_of(Bandwidth{90}), Time{5 * kSecond});
  EXPECT_EQ(run(network), (Ends{{13 * kSecond, b}, {13 * kSecond + 5'555'555'555'556, a}}));
}

// Before its first byte, too.
TEST(FlowNetwork, CapChangesDuringTheLatency) {
  FlowNetwork network({Bandwidth{100}});
  const FlowIndex a = network.start(
      {.route = kFirst, .bytes = Bytes{100}, .latency = Time{3 * kSecond}, .cap = rate_of(Bandwidth{100})}, {});
  network.set_cap(a, rate_of(Bandwidth{10}), Time{kSecond});
  EXPECT_EQ(run(network), (Ends{{13 * kSecond, a}}));
}

// Links of 10 and 40 B/s. x over both and y over the first: 5 B/s each; z over the second: 35 B/s. y (25 B) ends at 5
// s; x has 75 of its 100 B left, at 10 B/s until 12.5 s; z has had 175 of its 800 B, has 225 more at 30 B/s by then,
// and needs 10 s at 40 B/s for the last 400.
TEST(FlowNetwork, AFlowThatEndsSpeedsUpOneAndSlowsAnother) {
  FlowNetwork network({Bandwidth{10}, Bandwidth{40}});
  const FlowIndex x = network.start({.route = kBoth, .bytes = Bytes{100}}, {});
  const FlowIndex y = network.start({.route = kFirst, .bytes = Bytes{25}}, {});
  const FlowIndex z = network.start({.route = kSecondLink, .bytes = Bytes{800}}, {});
  EXPECT_EQ(run(network), (Ends{{5 * kSecond, y}, {25 * kSecond / 2, x}, {45 * kSecond / 2, z}}));
}

// 3 copies on 30 B/s: 10 B/s each. The cap of the other link's flow: 4 B/s.
TEST(FlowNetwork, CopiesAndCaps) {
  FlowNetwork network({Bandwidth{30}, Bandwidth{30}});
  const FlowIndex copies = network.start({.route = kFirst, .bytes = Bytes{100}, .copies = 3}, {});
  const FlowIndex capped = network.start({.route = kSecondLink, .bytes = Bytes{100}, .cap = 4 * kRateUnits}, {});
  EXPECT_EQ(run(network), (Ends{{10 * kSecond, copies}, {25 * kSecond, capped}}));
}

TEST(FlowNetwork, AllOfOneInstantEndTogether) {
  FlowNetwork network({Bandwidth{10}, Bandwidth{10}});
  for (int i = 0; i < 10; ++i) {
    network.start({.route = i % 2 == 0 ? kFirst : kSecondLink, .bytes = Bytes{20}}, {});
  }
  EXPECT_EQ(network.next(), Time{10 * kSecond});
  EXPECT_EQ(network.advance(network.next()), (std::vector<FlowIndex>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_TRUE(network.empty());
}

// 70,000 flows on 1 B/s: less than 2^-16 B/s each.
TEST(FlowNetwork, TooSlowToEnd) {
  FlowNetwork network({Bandwidth{1}});
  network.start({.route = kFirst, .bytes = Bytes{1}, .copies = 70'000}, {});
  EXPECT_THROW(network.next(), InfeasibleError);
}

// ---- against a simulation that keeps each flow's bytes by itself

struct Arrival {
  FillingFlow flow;
  std::int64_t bytes = 0, latency = 0, start = 0;
};

struct Change {
  std::int64_t at = 0;
  LinkIndex link = 0;
  Rate capacity = 0;
};

struct Scenario {
  std::vector<Rate> capacities;
  std::vector<Arrival> arrivals;  // by start
  std::vector<Change> changes;    // by time
};

Bandwidth bandwidth(Rate units) {
  return {static_cast<double>(units) / static_cast<double>(kRateUnits)};
}

std::vector<std::int64_t> ends_by_the_book(Scenario s) {
  std::vector<std::int64_t> ends(s.arrivals.size(), -1);
  std::vector<Wide> left;
  for (const Arrival& a : s.arrivals) {
    left.push_back(static_cast<Wide>(a.bytes) * kSecond * kRateUnits);
  }
  std::size_t changed = 0;
  for (std::int64_t now = 0;;) {
    while (changed < s.changes.size() && s.changes[changed].at == now) {
      s.capacities[static_cast<std::size_t>(s.changes[changed].link)] = s.changes[changed].capacity;
      ++changed;
    }
    std::vector<std::size_t> active;
    std::vector<FillingFlow> flows;
    std::int64_t next = changed < s.changes.size() ? s.changes[changed].at : INT64_MAX;
    for (std::size_t i = 0; i < s.arrivals.size(); ++i) {
      const std::int64_t first_byte = s.arrivals[i].start + s.arrivals[i].latency;
      if (first_byte > now) {
        next = std::min(next, first_byte);
      } else if (ends[i] < 0) {
        active.push_back(i);
        flows.push_back(s.arrivals[i].flow);
      }
    }
    const std::vector<Wide> rates = progressive_filling<Wide>(s.capacities, flows);
    bool is_over = false;
    for (std::size_t k = 0; k < active.size(); ++k) {
      if (left[active[k]] <= 0 || rates[k] == kUnlimited) {
        ends[active[k]] = now;
        is_over = true;
      } else if (rates[k] > 0) {
        next = std::min(next, now + static_cast<std::int64_t>((left[active[k]] + rates[k] - 1) / rates[k]));
      }
    }
    if (is_over) {
      continue;  // the rates of this instant without those
    }
    if (next == INT64_MAX) {
      return ends;
    }
    for (std::size_t k = 0; k < active.size(); ++k) {
      left[active[k]] -= rates[k] * (next - now);
    }
    now = next;
  }
}

// `unfolded`: every copy by itself, and the arrivals of an instant in reverse order.
std::vector<std::int64_t> ends_of(const Scenario& s, bool unfolded) {
  std::vector<Bandwidth> capacities;
  for (const Rate c : s.capacities) {
    capacities.push_back(bandwidth(c));
  }
  FlowNetwork network(capacities);
  std::vector<std::int64_t> ends(s.arrivals.size(), -1);
  std::map<FlowIndex, std::size_t> under_way;
  std::size_t arrived = 0, changed = 0;
  while (arrived < s.arrivals.size() || changed < s.changes.size() || !network.empty()) {
    std::int64_t now = network.empty() ? INT64_MAX : network.next().value;
    now = arrived < s.arrivals.size() ? std::min(now, s.arrivals[arrived].start) : now;
    now = changed < s.changes.size() ? std::min(now, s.changes[changed].at) : now;
    for (const FlowIndex flow : network.advance(Time{now})) {
      std::int64_t& end = ends[under_way.at(flow)];
      EXPECT_TRUE(end < 0 || (unfolded && end == now));
      end = now;
      under_way.erase(flow);
    }
    for (; changed < s.changes.size() && s.changes[changed].at == now; ++changed) {
      network.set_capacity(s.changes[changed].link, bandwidth(s.changes[changed].capacity), Time{now});
    }
    std::vector<std::size_t> comers;
    for (; arrived < s.arrivals.size() && s.arrivals[arrived].start == now; ++arrived) {
      comers.push_back(arrived);
    }
    if (unfolded) {
      std::reverse(comers.begin(), comers.end());
    }
    for (const std::size_t i : comers) {
      const Arrival& a = s.arrivals[i];
      for (std::int64_t copy = 0; copy < (unfolded ? a.flow.copies : 1); ++copy) {
        under_way[network.start({.route = a.flow.route,
                                 .bytes = Bytes{a.bytes},
                                 .latency = Time{a.latency},
                                 .copies = unfolded ? 1 : a.flow.copies,
                                 .cap = a.flow.cap},
                                Time{now})] = i;
      }
    }
  }
  return ends;
}

Scenario random_scenario(std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto below = [&](std::size_t n) { return random() % n; };
  const auto whole = [&](std::size_t n) { return static_cast<std::int64_t>(below(n)); };
  Scenario s;
  const std::size_t links = 1 + below(6), flows = below(25);
  const auto capacity = [&] { return below(2) == 0 ? 1'000'000'000 * kRateUnits : 1'000'000'000 + whole(kRateUnits); };
  for (std::size_t l = 0; l < links; ++l) {
    s.capacities.push_back(capacity());
  }
  std::int64_t now = 0;
  for (std::size_t i = 0; i < flows; ++i) {
    Arrival a;
    now += below(2) == 0 ? 0 : whole(3'000'000);
    a.start = now;
    a.latency = below(2) == 0 ? 0 : whole(1'000'000);
    a.bytes = below(3) == 0 ? 1000 * whole(4) : whole(10'000);
    const std::size_t legs = below(4);
    for (std::size_t leg = 0; leg < legs; ++leg) {
      a.flow.route.push_back({static_cast<LinkIndex>(below(links)), 1, static_cast<std::int32_t>(1 + below(3))});
    }
    a.flow.copies = below(3) == 0 ? 1 + whole(4) : 1;
    a.flow.cap = below(4) == 0 ? 1 + whole(1'000'000'000) : kUnlimited;
    s.arrivals.push_back(a);
    if (below(6) == 0) {
      s.changes.push_back({now + 1, static_cast<LinkIndex>(below(links)), capacity()});
    }
  }
  return s;
}

TEST(FlowNetwork, EndsAreThoseByTheBookFoldedOrNot) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    const Scenario s = random_scenario(seed);
    const std::vector<std::int64_t> expected = ends_by_the_book(s);
    ASSERT_EQ(ends_of(s, false), expected) << "seed " << seed;
    ASSERT_EQ(ends_of(s, true), expected) << "seed " << seed;
  }
}

}  // namespace
}  // namespace foretrain::sim
