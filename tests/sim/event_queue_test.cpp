#include "sim/event_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <tuple>

namespace foretrain::sim {
namespace {

TEST(EventQueue, EmptyAtFirst) {
  const EventQueue queue;
  EXPECT_TRUE(queue.empty());
}

TEST(EventQueue, ByTimeThenIdWhateverTheOrderOfInsertion) {
  std::vector<Event> events;
  for (int t = 0; t < 20; ++t) {
    for (int id = 0; id < 5; ++id) {
      events.push_back({Time{t / 3}, id, static_cast<std::uint32_t>(t)});
    }
  }
  std::vector<Event> reference;
  for (const std::uint32_t seed : {1u, 2u, 3u}) {
    std::mt19937 random(seed);
    for (std::size_t i = events.size(); i > 1; --i) {
      std::swap(events[i - 1], events[random() % i]);
    }
    EventQueue queue;
    for (const Event& e : events) {
      queue.push(e);
    }
    std::vector<Event> out;
    while (!queue.empty()) {
      EXPECT_LE(out.empty() ? Time{} : out.back().at, queue.top().at);
      out.push_back(queue.pop());
    }
    ASSERT_EQ(out.size(), events.size());
    if (reference.empty()) {
      reference = out;
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
      EXPECT_EQ(out[i].at, reference[i].at);
      EXPECT_EQ(out[i].id, reference[i].id);
      EXPECT_EQ(out[i].generation, reference[i].generation);
    }
  }
}

// Against a sorted set, step by step: bursts in and out, so that the calendar is laid out anew for many and for few;
// times dense, spread, all equal, far apart, or before those that are out already.
TEST(EventQueue, LikeASortedSet) {
  using Row = std::tuple<std::int64_t, std::int32_t, std::uint32_t>;
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](std::int64_t n) {
      return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
    };
    const std::int64_t span = std::int64_t{1} << (seed % 6 * 8);
    EventQueue queue;
    std::multiset<Row> expected;
    std::int64_t now = seed % 3 == 0 ? 0 : below(1'000'000'000'000'000);
    for (int burst = 0; burst < 30; ++burst) {
      for (std::int64_t n = below(burst % 5 == 0 ? 300 : 20); n > 0; --n) {
        std::int64_t at = now + below(span);
        at = below(20) == 0 ? at + span * 1000 : at;
        at = below(50) == 0 ? below(now + 1) - (now + 1) / 2 : at;
        const Event e{Time{at}, static_cast<std::int32_t>(below(50) - 1), static_cast<std::uint32_t>(random())};
        queue.push(e);
        expected.emplace(e.at.value, e.id, e.generation);
      }
      for (std::int64_t n = below(burst % 5 == 4 ? 600 : 20); n > 0 && !expected.empty(); --n) {
        ASSERT_FALSE(queue.empty());
        const bool looks = below(2) == 0;
        const Event top = looks ? queue.top() : Event{};
        const Event e = queue.pop();
        ASSERT_EQ(Row(e.at.value, e.id, e.generation), *expected.begin()) << "seed " << seed;
        EXPECT_TRUE(!looks || (top.at == e.at && top.id == e.id && top.generation == e.generation));
        expected.erase(expected.begin());
        now = std::max(now, e.at.value);
      }
    }
    EXPECT_EQ(queue.empty(), expected.empty());
  }
}

}  // namespace
}  // namespace foretrain::sim
