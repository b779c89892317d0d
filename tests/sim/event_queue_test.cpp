#include "sim/event_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

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

}  // namespace
}  // namespace foretrain::sim
