// What is held at once, against counts by hand, and against the plan of the same graph.
#include "plan/held_memory.h"

#include <gtest/gtest.h>

#include <numeric>

#include "plan/build.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using foretrain::testing::kTinyGpt;
using foretrain::testing::tiny_job;

Operand use(int id) {
  Operand o;
  o.buffer = static_cast<BufferId>(id);
  return o;
}

Op op(std::vector<int> reads, std::vector<int> writes) {
  Op o;
  for (const int r : reads) {
    o.reads.push_back(use(r));
  }
  for (const int w : writes) {
    o.writes.push_back(use(w));
  }
  return o;
}

Buffer buffer(const char* name, BufferKind kind, Lifetime lifetime, std::int64_t bytes, int layers = 0) {
  return {name, Dtype::u8, bytes, kind, lifetime, layers};
}

// One parameter of 1 MiB; per layer an activation of 2 MiB, two layers; a temporary of 4 MiB in the forward and one of
// 8 in the backward. Forwards and backwards in the order given: 'F', 'B', each of the next microbatch.
Role two_layers(const std::string& order) {
  constexpr std::int64_t kMiB = 1 << 20;
  Role role;
  role.buffers = {buffer("weight", BufferKind::parameter, Lifetime::persistent, kMiB),
                  buffer("kept", BufferKind::activation, Lifetime::slot, 2 * kMiB, 2),
                  buffer("forward", BufferKind::workspace, Lifetime::block, 4 * kMiB),
                  buffer("backward", BufferKind::workspace, Lifetime::block, 8 * kMiB)};
  role.blocks = {{"forward", {op({0}, {2}), op({2}, {1})}}, {"backward", {op({1}, {3}), op({3, 0}, {3})}}};
  Segment forward, backward;
  forward.calls = {{0, 2, 0, 1}};
  backward.calls = {{1, 2, 1, -1}};
  role.segments = {forward, backward};
  role.slots = 4;
  int f = 0, b = 0;
  for (const char c : order) {
    const int microbatch = c == 'F' ? f++ : b++;
    role.program.body.push_back({static_cast<SegmentId>(c == 'F' ? 0 : 1), microbatch, microbatch % 4, -1, -1});
  }
  return role;
}

std::int64_t mib(Bytes bytes) {
  EXPECT_EQ(bytes.value % (1 << 20), 0);
  return bytes.value >> 20;
}

// One microbatch: the backward begins with both activations and its temporary: 1 + 2 x 2 + 8. The second forward layer
// has 1 + 2 + 2 + 4. Two in flight: 2 x 2 more.
TEST(HeldMemory, CountedByHand) {
  EXPECT_EQ(mib(held_memory(two_layers("FB")).allocated), 13);
  EXPECT_EQ(mib(held_memory(two_layers("FFBB")).allocated), 17);
  EXPECT_EQ(mib(held_memory(two_layers("FBFB")).allocated), 13);
  const HeldMemory held = held_memory(two_layers("FFBB"));
  EXPECT_EQ(mib(held.by_kind[static_cast<std::size_t>(HeldKind::parameters)]), 1);
  EXPECT_EQ(mib(held.by_kind[static_cast<std::size_t>(HeldKind::activations)]), 8);
  EXPECT_EQ(mib(held.by_kind[static_cast<std::size_t>(HeldKind::workspace)]), 8);
}

// Forwards take 40, backwards 48: segments of 2, 20 (activations), 40 and 48. With less room the 40 go back for the 48;
// the second step's forwards then lie in the 48 with the activations behind them, and what is whole, 20, goes for
// another 48: 2 + 48 + 48, be that too much or not. What a device without the limit would have reserved stays the same.
TEST(HeldMemory, OfLimitedRoom) {
  Role role = two_layers("FB");
  role.buffers[2].elements = 40 << 20;
  role.buffers[3].elements = 48 << 20;
  for (const auto& [limit, needed] : {std::pair{120, 110}, {110, 110}, {109, 98}, {98, 98}, {90, 98}}) {
    const HeldMemory held = held_memory(role, {}, Bytes{std::int64_t{limit} << 20});
    EXPECT_EQ(mib(held.allocated), 1 + 2 * 2 + 48) << limit;
    EXPECT_EQ(mib(held.reserved), 110) << limit;
    EXPECT_EQ(mib(held.needed), needed) << limit;
  }
}

// An activation of three times the plan's bytes: 2 x 4 more; a backward's temporary of none: the forward's peak is
// left, 1 + 2 x 2 + 4.
TEST(HeldMemory, TimesThePlans) {
  EXPECT_EQ(mib(held_memory(two_layers("FB"), {{{"kept", 3.0}}}).allocated), 21);
  EXPECT_EQ(mib(held_memory(two_layers("FB"), {{{"backward", 0.0}}}).allocated), 9);
  EXPECT_EQ(mib(held_memory(two_layers("FB"), {{{"unknown", 9.0}}}).allocated), 13);
}

// Microbatches between the first and the last repeat each other.
TEST(HeldMemory, ManyMicrobatchesAreAsFew) {
  std::string few = "FF", many = "FF";
  for (int i = 0; i < 6; ++i) {
    few += "BF";
  }
  for (int i = 0; i < 600; ++i) {
    many += "BF";
  }
  const HeldMemory a = held_memory(two_layers(few + "BB")), b = held_memory(two_layers(many + "BB"));
  EXPECT_EQ(a.allocated, b.allocated);
  EXPECT_EQ(a.reserved, b.reserved);
}

// Gradients that come with the first backward are not there in the first forward: the peak is no higher, and a step
// later they come again.
TEST(HeldMemory, GradientsOfAStep) {
  const PlanGraph graph = build(tiny_job(kTinyGpt));
  HeldRules rules;
  rules.gradients_per_step = true;
  const HeldMemory held = held_memory(graph.roles.front(), rules), stay = held_memory(graph.roles.front());
  EXPECT_LE(held.allocated, stay.allocated);
  EXPECT_EQ(held.by_kind[static_cast<std::size_t>(HeldKind::parameters)],
            stay.by_kind[static_cast<std::size_t>(HeldKind::parameters)]);
}

// A head of 1 Mi logits in bf16, 2 MiB, and its loss; 'F' writes and reads them, 'B' is the backward.
Role head(const std::string& order) {
  constexpr std::int64_t kLogits = 1 << 20;
  Role role;
  role.buffers = {{"logits", Dtype::bf16, kLogits, BufferKind::activation, Lifetime::hold, 0}};
  role.logits = 0;
  role.holds = 4;
  const auto loss = [](CrossEntropyStep step, std::vector<int> reads, std::vector<int> writes) {
    Op o = op(std::move(reads), std::move(writes));
    CrossEntropy work;
    work.step = step;
    work.dtype = Dtype::bf16;
    o.work = work;
    return o;
  };
  Op forward = op({}, {0}), backward = op({0}, {});
  forward.work = Matmul{};
  backward.work = Matmul{};
  role.blocks = {{"forward", {forward, loss(CrossEntropyStep::stats, {0}, {})}},
                 {"backward", {loss(CrossEntropyStep::backward, {0}, {0}), backward}}};
  Segment f, b;
  f.calls = {{0, 1, -1, 1}};
  b.calls = {{1, 1, -1, 1}};
  role.segments = {f, b};
  int forwards = 0, backwards = 0;
  for (const char c : order) {
    const int microbatch = c == 'F' ? forwards++ : backwards++;
    role.program.body.push_back({static_cast<SegmentId>(c == 'F' ? 0 : 1), microbatch, -1, microbatch % 4, -1});
  }
  return role;
}

std::int64_t head_peak(const std::string& order, const HeldLoss& loss) {
  HeldRules rules;
  rules.loss = loss;
  return mib(held_memory(head(order), rules).allocated);
}

// Units of 2 MiB, the logits. As planned: 1. Eager, forward: logits, their cast (2), the log-softmax (2); the backward:
// log-softmax, the loss's gradient (2), that of the log-softmax (2), and one more where the logits stay.
TEST(HeldMemory, EagerLoss) {
  HeldLoss loss;
  EXPECT_EQ(head_peak("FB", loss), 2 * 1);
  loss.eager = true;
  EXPECT_EQ(head_peak("FB", loss), 2 * 6);
  loss.kept = 1;
  EXPECT_EQ(head_peak("FB", loss), 2 * 7);
  // Those of the microbatch before as well, but not of one more.
  EXPECT_EQ(head_peak("FBFBFB", loss), 2 * 7);
  loss.kept = 2;
  EXPECT_EQ(head_peak("FB", loss), 2 * 7);
  EXPECT_EQ(head_peak("FBFB", loss), 2 * 8);
  EXPECT_EQ(head_peak("FBFBFB", loss), 2 * 8);
}

// In parts: in the forward the difference and the exponential (2 each) with the cast and the logits; in the backward
// the log-softmax, the gradient, the exponential and their sum.
TEST(HeldMemory, EagerLossInParts) {
  HeldLoss loss;
  loss.eager = loss.in_parts = true;
  EXPECT_EQ(head_peak("FB", loss), 2 * 8);
}

// Two ranks gather 2 MiB each: the shard, two parts and NCCL's flat copy (1 + 2 + 2), then the result (2) beside all of
// them; the backward of the loss has 2 + 3 x 4 with the logits.
TEST(HeldMemory, GatheredLogits) {
  HeldLoss loss;
  loss.eager = true;
  loss.kept = 1;
  loss.gathered_over = 2;
  EXPECT_EQ(head_peak("FB", loss), 2 * 14);
  // Done again, the forward finds the gradient's shard and the logits: 1 + 2 + 1 + 2 + 2 + 2, no more than 14.
  loss.recomputed = true;
  EXPECT_EQ(head_peak("FB", loss), 2 * 14);
}

// The update of kTinyGpt in bf16 with P parameters, held 2 + 4 bytes each and 4 + 8 of states: bytes of gradients and
// temporaries more, and the peak is the update's.
TEST(HeldMemory, UpdateTensors) {
  const PlanGraph graph = build(tiny_job(kTinyGpt, {"precision=bf16"}));
  const Role& role = graph.roles.front();
  std::int64_t parameters = 0;
  for (const ParameterFamily& f : role.parameter_families) {
    parameters += f.m < 0 ? 0 : role.buffers[static_cast<std::size_t>(f.m)].elements * std::max(f.layers, 1);
  }
  const auto peak = [&](const HeldUpdate& update) {
    HeldRules rules;
    rules.update = update;
    return held_memory(role, rules).allocated.value;
  };
  const std::int64_t states = 18 * parameters, rounding = 512 * 200;
  EXPECT_NEAR(static_cast<double>(peak({0, 0, 40, 0, true})), static_cast<double>(states + 40 * parameters), rounding);
  EXPECT_NEAR(static_cast<double>(peak({0, 0, 40, 20, false})), static_cast<double>(states + 60 * parameters),
              rounding);
  EXPECT_NEAR(static_cast<double>(peak({50, 0, 0, 0, false})), static_cast<double>(states + 50 * parameters), rounding);
  // The copy goes when it is cast: the largest of 30 + 40 and 40 + 5.
  EXPECT_NEAR(static_cast<double>(peak({0, 30, 40, 5, true})), static_cast<double>(states + 70 * parameters), rounding);
  EXPECT_EQ(peak({}), held_memory(role).allocated.value);
}

TEST(HeldMemory, OfPlans) {
  for (const std::vector<std::string>& overrides :
       std::vector<std::vector<std::string>>{{},
                                             {"dp=2", "zero=1"},
                                             {"tp=2", "sequence_parallel=true"},
                                             {"pp=2"},
                                             {"pp=2", "virtual_stages=2", "layers=4"},
                                             {"pp=2", "schedule=zb_h2"},
                                             {"recompute=full"},
                                             {"recompute=selective"}}) {
    const PlanGraph graph = build(tiny_job(kTinyGpt, overrides));
    for (const Role& role : graph.roles) {
      SCOPED_TRACE(::testing::PrintToString(overrides) + " " + role.name);
      const HeldMemory held = held_memory(role);
      EXPECT_LE(held.allocated, held.reserved);
      Bytes sum;
      for (const Bytes bytes : held.by_kind) {
        EXPECT_GE(bytes, Bytes{});
        sum += bytes;
      }
      EXPECT_EQ(sum, held.allocated);
      // No more than the arena, which has room for all at once, but for rounding to 512 B of each tensor.
      const auto tensors = static_cast<std::int64_t>(role.buffers.size() * (role.global_layer.size() + 1) * 8);
      EXPECT_LE(held.allocated.value, role.memory.arena.value + 512 * tensors);
      const Bytes parameters = role.memory.by_kind[static_cast<std::size_t>(BufferKind::parameter)];
      EXPECT_EQ(held.by_kind[static_cast<std::size_t>(HeldKind::parameters)], parameters);
      HeldRules doubled;
      for (const ParameterFamily& f : role.parameter_families) {
        if (f.parameter >= 0) {
          doubled.times[role.buffers[static_cast<std::size_t>(f.parameter)].name] = 2;
        }
      }
      EXPECT_EQ(held_memory(role, doubled).by_kind[static_cast<std::size_t>(HeldKind::parameters)],
                parameters + parameters);
      HeldRules kept;
      kept.weight_gradient_per_shape = true;
      EXPECT_LE(held.allocated, held_memory(role, kept).allocated);
    }
  }
}

}  // namespace
}  // namespace foretrain::plan
