// The allocator's rules, each on its own: what a request takes, what is split, what joins, what is kept.
#include "plan/caching_allocator.h"

#include <gtest/gtest.h>

#include <random>

namespace foretrain::plan {
namespace {

constexpr std::int64_t kMiB = 1024 * 1024;

struct Request {
  std::int64_t bytes, allocated, reserved;
};

// The first request of a fresh allocator: rounding, and the segment that it takes.
TEST(CachingAllocator, FirstRequest) {
  for (const Request& r : {
           Request{1, 512, 2 * kMiB}, Request{512, 512, 2 * kMiB}, Request{513, 1024, 2 * kMiB},
           Request{kMiB, kMiB, 2 * kMiB},                         // the last of the small pool
           Request{kMiB + 1, kMiB + 512, 20 * kMiB},              // the first of the large one
           Request{10 * kMiB - 512, 10 * kMiB - 512, 20 * kMiB},  // the last that shares a segment
           Request{10 * kMiB, 10 * kMiB, 10 * kMiB},              // one of its own
           Request{10 * kMiB + 1, 10 * kMiB + 512, 12 * kMiB},    // the rest, almost 2 MiB, is split off
           Request{11 * kMiB, 12 * kMiB, 12 * kMiB},              // the rest, 1 MiB, is not split off
       }) {
    CachingAllocator a;
    a.allocate(r.bytes);
    EXPECT_EQ(a.allocated(), r.allocated) << r.bytes;
    EXPECT_EQ(a.reserved(), r.reserved) << r.bytes;
  }
}

TEST(CachingAllocator, WhatIsReleasedIsKeptAndTakenAgain) {
  CachingAllocator a;
  a.release(a.allocate(40 * kMiB));
  EXPECT_EQ(a.allocated(), 0);
  EXPECT_EQ(a.reserved(), 40 * kMiB);
  a.allocate(30 * kMiB);  // of the 40
  a.allocate(10 * kMiB);  // the rest
  EXPECT_EQ(a.reserved(), 40 * kMiB);
  EXPECT_EQ(a.allocated(), 40 * kMiB);
  EXPECT_EQ(a.peak_allocated(), 40 * kMiB);
}

// Two free blocks of 20 MiB with one in use between them are of no use to 30 MiB; joined they are.
TEST(CachingAllocator, FragmentsAndNeighbours) {
  for (const bool joined : {false, true}) {
    CachingAllocator a;
    a.release(a.allocate(60 * kMiB));
    const auto first = a.allocate(20 * kMiB), between = a.allocate(20 * kMiB), last = a.allocate(20 * kMiB);
    a.release(first);
    a.release(last);
    if (joined) {
      a.release(between);
    }
    a.allocate(30 * kMiB);
    EXPECT_EQ(a.reserved(), joined ? 60 * kMiB : 90 * kMiB);
  }
}

TEST(CachingAllocator, TakesTheSmallestThatFits) {
  CachingAllocator a;
  const auto large = a.allocate(40 * kMiB), small = a.allocate(24 * kMiB);
  a.release(large);
  a.release(small);
  a.allocate(24 * kMiB);  // the one of 24: the one of 40 is still whole
  a.allocate(40 * kMiB);
  EXPECT_EQ(a.reserved(), 64 * kMiB);
}

// Room for 60 MiB: 20 in use, 30 free in a segment of their own. 40 more are had by giving the 30 back, 50 are not.
TEST(CachingAllocator, GivesBackForWantOfRoom) {
  for (const std::int64_t more : {10, 40, 50}) {
    CachingAllocator a(false, 60 * kMiB);
    a.allocate(20 * kMiB);
    a.release(a.allocate(30 * kMiB));
    a.allocate(more * kMiB);
    EXPECT_EQ(a.gave_back(), more != 10) << more;
    EXPECT_EQ(a.ran_out(), more == 50) << more;
    EXPECT_EQ(a.peak_reserved(), (more == 10 ? 50 : 20 + more) * kMiB) << more;
  }
}

// 20 in use, 30 free, room for 60: 40 more are not had, and it is as if they had not been asked for.
TEST(CachingAllocator, StopsAtTheLimit) {
  for (const bool expandable : {false, true}) {
    CachingAllocator a(expandable, 60 * kMiB);
    a.stop_at_limit(true);
    a.allocate(20 * kMiB);
    a.release(a.allocate(30 * kMiB));
    const std::int64_t before = a.reserved();
    EXPECT_EQ(before, (expandable ? 60 : 50) * kMiB);
    EXPECT_EQ(a.allocate(50 * kMiB), -1);
    EXPECT_EQ(a.reserved(), before);
    EXPECT_EQ(a.allocated(), 20 * kMiB);
    EXPECT_GE(a.allocate(30 * kMiB), 0);  // of what is free
    a.lift_limit();
    EXPECT_GE(a.allocate(50 * kMiB), 0);
    EXPECT_FALSE(a.gave_back());
    EXPECT_EQ(a.reserved(), 100 * kMiB);
  }
}

// A segment of which a part is in use stays, free as the rest may be.
TEST(CachingAllocator, FragmentsAreNotGivenBack) {
  CachingAllocator a(false, 60 * kMiB);
  a.release(a.allocate(40 * kMiB));
  a.allocate(10 * kMiB);
  a.allocate(35 * kMiB);
  EXPECT_FALSE(a.gave_back());
  EXPECT_TRUE(a.ran_out());
  EXPECT_EQ(a.peak_reserved(), (40 + 36) * kMiB);
}

// The pools share nothing.
TEST(CachingAllocator, SmallRequestsTakeNothingOfLargeSegments) {
  CachingAllocator a;
  a.release(a.allocate(40 * kMiB));
  a.allocate(512);
  EXPECT_EQ(a.reserved(), 42 * kMiB);
}

// 30 MiB behind a free end of 20: the segment grows by 20 only; without them, a new segment of 30.
TEST(CachingAllocator, ExpandableSegmentsGrow) {
  CachingAllocator expandable(true), plain;
  for (CachingAllocator* a : {&expandable, &plain}) {
    a->allocate(20 * kMiB);
    a->release(a->allocate(20 * kMiB));
    a->allocate(30 * kMiB);
  }
  EXPECT_EQ(expandable.reserved(), 60 * kMiB);
  EXPECT_EQ(plain.reserved(), 70 * kMiB);
}

// Whatever the order: never less reserved than allocated and nothing lost. An emptied cache reserves for the same
// requests what it did before (one that is not emptied may take more: a free end that has grown is no longer the
// smallest block that holds a request).
TEST(CachingAllocator, RandomRequests) {
  for (const bool expandable : {false, true}) {
    CachingAllocator a(expandable);
    std::int64_t after_first = 0;
    for (int round = 0; round < 2; ++round) {
      std::mt19937 random(7);
      std::vector<std::pair<CachingAllocator::Handle, std::int64_t>> held;
      for (int i = 0; i < 2000; ++i) {
        if (held.empty() || random() % 5 < 3) {
          const auto most = 1U << (random() % 27);
          const std::int64_t bytes = 1 + static_cast<std::int64_t>(random() % most);
          const std::int64_t before = a.allocated();
          const auto handle = a.allocate(bytes);
          held.emplace_back(handle, a.allocated() - before);
          EXPECT_GE(held.back().second, bytes);
        } else {
          std::swap(held[random() % held.size()], held.back());
          const std::int64_t before = a.allocated();
          a.release(held.back().first);
          EXPECT_EQ(before - a.allocated(), held.back().second);
          held.pop_back();
        }
        EXPECT_GE(a.reserved(), a.allocated());
      }
      for (const auto& [handle, bytes] : held) {
        a.release(handle);
      }
      EXPECT_EQ(a.allocated(), 0);
      if (round == 0) {
        after_first = a.reserved();
      } else {
        EXPECT_EQ(a.reserved(), after_first);
      }
      a.empty_cache();
      EXPECT_EQ(a.reserved(), 0);
    }
  }
}

}  // namespace
}  // namespace foretrain::plan
