#include "sim/cache.h"

#include <gtest/gtest.h>

#include "tests/sim/tiny_graph.h"

namespace foretrain::sim {
namespace {

// One rank with an arena of `bytes`, all of it one buffer of bytes.
plan::PlanGraph on_one_buffer(std::int64_t bytes, std::vector<plan::Op> ops) {
  plan::PlanGraph g = stages(1);
  plan::Role& role = g.roles[0];
  plan::Buffer buffer;
  buffer.dtype = Dtype::u8;
  buffer.elements = bytes;
  role.buffers = {buffer};
  role.memory.placements = {{}};
  append(role, std::move(ops));
  return g;
}

// Reads [begin, end) of it.
plan::Op reading(std::int64_t begin, std::int64_t end) {
  plan::Op op = work(1);
  op.reads = {{0, 0, plan::kNoGroup, begin, end - begin, 0}};
  return op;
}

TEST(Cache, WhatWasTouchedLatelyIsCached) {
  // A step reads 100, 50 of these again, then 400 others. In a long run the first op finds its bytes 400 of traffic
  // back, the second at once, the third 150 back.
  const plan::PlanGraph g = on_one_buffer(1000, {reading(0, 100), reading(50, 100), reading(500, 900)});
  EXPECT_EQ(cached_parts(g, 0, Bytes{399})[0], (std::vector<double>{0.0, 1.0, 399.0 / 400}));
  // 50 bytes of the first op were read by the second too, 400 back; the others were touched 450 back
  EXPECT_EQ(cached_parts(g, 0, Bytes{400})[0], (std::vector<double>{0.5, 1.0, 1.0}));
  EXPECT_EQ(cached_parts(g, 0, Bytes{450})[0], (std::vector<double>{1.0, 1.0, 1.0}));
  EXPECT_EQ(cached_parts(g, 0, Bytes{0})[0], (std::vector<double>{0.0, 0.0, 0.0}));
}

TEST(Cache, InPlaceCountsOnce) {
  plan::Op in_place = reading(0, 100);
  in_place.writes = in_place.reads;
  // 100 bytes of traffic, not 200: the other op's are 100 back
  const plan::PlanGraph g = on_one_buffer(1000, {in_place, reading(200, 300)});
  EXPECT_EQ(cached_parts(g, 0, Bytes{100})[0], (std::vector<double>{1.0, 1.0}));
  EXPECT_EQ(cached_parts(g, 0, Bytes{99})[0], (std::vector<double>{0.0, 0.0}));
}

TEST(Cache, AnOpWithoutOperandsHasNothingToFetch) {
  EXPECT_EQ(cached_parts(on_one_buffer(1, {work(1)}), 0, Bytes{1})[0], std::vector<double>{1.0});
}

}  // namespace
}  // namespace foretrain::sim
