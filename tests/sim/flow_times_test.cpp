// Flows of folded calls: carried by the network only where another one comes by. A link takes a byte per picosecond, a
// flow of 1000 bytes alone 1000 ps.
#include "sim/flow_times.h"

#include <gtest/gtest.h>

namespace foretrain::sim {
namespace {

FlowPlan two_links() {
  FlowPlan plan;
  plan.capacities = {Bandwidth{1e12}, Bandwidth{1e12}};
  plan.routes = {{{0, 1, 1}}, {{1, 1, 1}}};
  return plan;
}

AloneFlow thousand_bytes() {
  return {Time{}, Bytes{1000}, rate_of(Bandwidth{1e12})};
}

CallFlows::Flow of_call(std::size_t ordinal, Time start) {
  return {ordinal, 0, thousand_bytes(), start, Time{1000}, {}};
}

// A call whose one flow is under way from 10 to 1010 ps after its beginning, and a flow of another class.
struct Round {
  explicit Round(Time call_at, Time flow_at, std::int32_t route = 0) {
    times.begin({0, 0}, call_at, call);
    times.begin({1, 0}, flow_at, thousand_bytes(), route, Time{1000});
    is_right = times.settle();
  }
  FlowPlan plan = two_links();
  FlowTimes times{plan, kFullSpeed};
  CallFlows call = times.call_of({of_call(0, Time{10})}).value();
  bool is_right = false;
};

TEST(FlowTimes, OfACallAlone) {
  const Round apart(Time{5000}, Time{0});
  EXPECT_EQ(apart.call.first, Time{10});
  EXPECT_EQ(apart.call.last, Time{1010});
  EXPECT_TRUE(apart.is_right);
  EXPECT_TRUE(apart.times.is_alone({0, 0}, 1));
  EXPECT_TRUE(Round(Time{0}, Time{1010}).is_right);    // starts as the call's ends
  EXPECT_TRUE(Round(Time{0}, Time{500}, 1).is_right);  // on another link
}

// The second starts when 500 bytes of the first are there. At half the rate the first takes 1000 ps more, and the
// second, of which 500 bytes are there then, 500 ps after that: 1500 either.
TEST(FlowTimes, OfACallThatIsHeldBack) {
  for (const auto& [call_at, flow_at] : {std::pair{Time{490}, Time{0}}, std::pair{Time{0}, Time{510}}}) {
    const Round round(call_at, flow_at);
    EXPECT_FALSE(round.is_right);
    EXPECT_EQ(round.times.duration({0, 0}), Time{1500});
    EXPECT_EQ(round.times.duration({1, 0}), Time{1500});
    EXPECT_FALSE(round.times.is_alone({0, 0}, 1));
    EXPECT_TRUE(round.times.is_alone({0, 1}, 5));
  }
}

TEST(FlowTimes, OfACallThatHoldsItselfBack) {
  const FlowPlan plan = two_links();
  const FlowTimes times(plan, kFullSpeed);
  EXPECT_TRUE(times.call_of({of_call(0, Time{0}), of_call(1, Time{1000})}).has_value());
  EXPECT_FALSE(times.call_of({of_call(0, Time{0}), of_call(1, Time{999})}).has_value());
}

// Flows one behind the other: as long as they take alone, whatever the walk took for granted.
TEST(FlowTimes, ThatMeetNobody) {
  for (const std::int64_t used : {999, 1000, 1001}) {
    const FlowPlan plan = two_links();
    FlowTimes times(plan, kFullSpeed);
    times.begin({0, 0}, Time{0}, thousand_bytes(), 0, Time{1000});
    times.begin({0, 1}, Time{1000}, thousand_bytes(), 0, Time{used});
    times.begin({0, 2}, Time{2001}, thousand_bytes(), 0, Time{1000});
    EXPECT_EQ(times.settle(), used == 1000) << used;
    EXPECT_EQ(times.is_alone({0, 0}, 3), used == 1000) << used;
    EXPECT_EQ(times.duration({0, 1}).value_or(Time{1000}), Time{1000}) << used;
  }
}

// Beside compute it goes at half its speed, and compute beside it lasts half as long as it does: it takes 1e9 ps, and a
// quarter of what it is thought to take. Errors are a quarter of those before; once that was seen twice, the next round
// begins with 1e9 / (1 - 1/4).
TEST(FlowTimes, ErrorsThatShrinkByTheSameFactor) {
  const FlowPlan plan = two_links();
  FlowTimes times(plan, kFullSpeed / 2);
  AloneFlow flow = thousand_bytes();
  flow.bytes = Bytes{1'000'000'000};
  const std::int64_t known_after[] = {1'250'000'000, 1'312'500'000, 1'333'333'333, 1'333'333'333};
  Time used{1'000'000'000};
  for (const std::int64_t known : known_after) {
    const std::size_t number = times.begin({0, 0}, Time{0}, flow, 0, used);
    times.slow_down(number, Time{0}, Time{used.value / 2});
    EXPECT_EQ(times.settle(), used.value == 1'333'333'333);
    used = times.duration({0, 0}).value();
    EXPECT_NEAR(static_cast<double>(used.value), static_cast<double>(known), 1);
  }
}

}  // namespace
}  // namespace foretrain::sim
