#include <gtest/gtest.h>

#include <algorithm>
#include <variant>

#include "plan/build.h"
#include "plan/cursor.h"
#include "plan/validate.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using testing::kTinyGpt;
using testing::tiny_job;

const Buffer& buffer(const Role& role, const std::string& name) {
  return *std::find_if(role.buffers.begin(), role.buffers.end(), [&](const Buffer& b) { return b.name == name; });
}

std::int64_t bytes(const Buffer& b) {
  return size_bytes(b.dtype, b.elements);
}

// What one layer keeps beside its input: all slot buffers with a copy per layer.
std::int64_t kept_by_layer(const Role& role) {
  std::int64_t sum = 0;
  for (const Buffer& b : role.buffers) {
    sum += b.lifetime == Lifetime::slot && b.layers > 0 && b.name != "x" ? bytes(b) : 0;
  }
  return sum;
}

// Four layers, two of them on each of two stages, of which the first has two microbatches in flight. All of a layer is
// on the host for each of them, and the inputs of all layers but a chunk's first.
TEST(Offload, HostHoldsWhatLayersKeep) {
  const PlanGraph kept = build(tiny_job(kTinyGpt, {"pp=2"}));
  const PlanGraph offloaded = build(tiny_job(kTinyGpt, {"pp=2", "offload=[\"activations\"]"}));
  for (std::size_t stage = 0; stage < 2; ++stage) {
    const Role& role = offloaded.roles[stage];
    const std::int64_t each = kept_by_layer(kept.roles[stage]), x = bytes(buffer(role, "x"));
    std::int64_t on_host = 0;
    for (const Buffer& b : role.buffers) {
      on_host += b.kind == BufferKind::host ? bytes(b) * b.layers * role.slots : 0;
    }
    EXPECT_EQ(role.slots, stage == 0 ? 2 : 1);
    EXPECT_EQ(on_host, role.slots * (2 * each + x));
    EXPECT_GE(role.memory.host.value, on_host);
    EXPECT_LT(role.memory.host.value, on_host + 64 * 2 * std::ssize(role.buffers) * role.slots);  // alignment
  }
}

// Of six layers: two copies of each activation and of x, of which only layer 1's to 5's pass, three; the chunk's input
// and output in the slot. With four offloaded, two keep theirs, and x has those of layers 4 and 5 and the output.
TEST(Offload, DeviceHoldsTwoCopies) {
  const Role all = build(tiny_job(kTinyGpt, {"workload.model.layers=6", "offload=[\"activations\"]"})).roles[0];
  EXPECT_EQ(buffer(all, "qkv.passing").layers, 2);
  EXPECT_EQ(buffer(all, "x.passing").layers, 3);
  EXPECT_EQ(buffer(all, "x").layers, 1);
  EXPECT_EQ(buffer(all, "x.in").layers, 0);
  EXPECT_EQ(buffer(all, "qkv.host").layers, 6);
  EXPECT_EQ(buffer(all, "x.host").layers, 5);
  const Role some =
      build(tiny_job(kTinyGpt, {"workload.model.layers=6", "offload=[\"activations\"]", "offload_layers=4"})).roles[0];
  EXPECT_EQ(buffer(some, "qkv.passing").layers, 2);
  EXPECT_EQ(buffer(some, "qkv").layers, 2);
  EXPECT_EQ(buffer(some, "x").layers, 3);
  EXPECT_EQ(buffer(some, "x.host").layers, 3);
}

// As many bytes come back as went; an evaluation sends none.
TEST(Offload, WhatGoesComesBack) {
  const PlanGraph g = build(tiny_job(kTinyGpt, {"offload=[\"activations\"]", "offload_layers=3"}));
  const Role& role = g.roles[0];
  const auto copied = [&](const std::vector<Instance>& program, CopyKind kind) {
    std::int64_t sum = 0;
    for (ProgramCursor c(role, 0, program, 0); c; c.next()) {
      const auto* copy = std::get_if<Copy>(&c.op().work);
      sum += copy != nullptr && copy->kind == kind ? copy->bytes : 0;
    }
    return sum;
  };
  const std::int64_t out = copied(role.program.body, CopyKind::device_to_host);
  EXPECT_GT(out, 0);
  EXPECT_EQ(copied(role.program.body, CopyKind::host_to_device), out);
  EXPECT_EQ(copied(role.program.evaluation, CopyKind::device_to_host), 0);
}

}  // namespace
}  // namespace foretrain::plan
