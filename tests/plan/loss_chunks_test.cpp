#include <gtest/gtest.h>

#include <algorithm>

#include "plan/build.h"
#include "plan/validate.h"
#include "plan/work.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using testing::kTinyGpt;
using testing::tiny_job;
using Overrides = std::vector<std::string>;

Overrides with(Overrides list, const std::string& more) {
  list.push_back(more);
  return list;
}

std::vector<const Op*> ops_of(const Role& role, const std::vector<Instance>& instances) {
  std::vector<const Op*> ops;
  for (const Instance& instance : instances) {
    for (const BlockCall& call : role.segments[static_cast<std::size_t>(instance.segment)].calls) {
      for (const Op& op : role.blocks[static_cast<std::size_t>(call.block)].ops) {
        ops.push_back(&op);
      }
    }
  }
  return ops;
}

std::int64_t count(const std::vector<const Op*>& ops, CrossEntropyStep step) {
  return std::count_if(ops.begin(), ops.end(), [&](const Op* op) {
    const auto* const loss = std::get_if<CrossEntropy>(&op->work);
    return loss != nullptr && loss->step == step;
  });
}

// GPT-2's head on 8 x 1,024 tokens in bf16. Whole: logits 8,192 x 50,304 x 2 B = 824,180,736, and 8,192 x 2 x 4 B of
// their statistics, from forward to backward; the norm's output, 8,192 x 768 x 2 B, of which in chunks the gradient
// has the place. In 8 chunks there are, only inside the forward, the norm's output, 12,582,912, the logits of 1,024
// tokens, 103,022,592, and their statistics 1,024 x (2 + 3) x 4 B = 20,480: more than any other op's workspace.
TEST(LossChunks, LogitsOfOneChunkAreThere) {
  const Overrides gpt2{"workload.model.layers=1",
                       "workload.model.hidden=768",
                       "workload.model.heads=12",
                       "workload.model.vocab=50257",
                       "workload.model.ffn_hidden=3072",
                       "padded_vocab=50304",
                       "seq_len=1024",
                       "micro_batch=8",
                       "precision=bf16"};
  const MemoryPlan whole = build(tiny_job(kTinyGpt, gpt2)).roles[0].memory;
  const PlanGraph g = build(tiny_job(kTinyGpt, with(gpt2, "loss_chunks=8")));
  const MemoryPlan& chunks = g.roles[0].memory;
  EXPECT_EQ(validate(g), Overrides{});
  EXPECT_EQ(whole.persistent - chunks.persistent, Bytes{824'180'736 + 65'536});
  EXPECT_EQ(chunks.workspace, Bytes{12'582'912 + 103'022'592 + 20'480});
  EXPECT_EQ(chunks.slots, whole.slots);
  EXPECT_EQ(g.roles[0].logits, -1);
}

// A step has one forward and one backward of each chunk, and as many FLOPs as ever; an evaluation the forwards.
TEST(LossChunks, AreOfTheForward) {
  for (const Overrides& o : {Overrides{}, {"tp=2", "sequence_parallel=true"}, {"pp=2", "schedule=zb_h1"}}) {
    const PlanGraph g = build(tiny_job(kTinyGpt, with(o, "loss_chunks=4")));
    EXPECT_EQ(validate(g), Overrides{});
    EXPECT_DOUBLE_EQ(matmul_flops_per_step(g), matmul_flops_per_step(build(tiny_job(kTinyGpt, o))));
    const Role& role = g.roles.back();
    const std::vector<const Op*> step = ops_of(role, role.program.body),
                                 evaluation = ops_of(role, role.program.evaluation);
    for (const auto part : {CrossEntropyStep::stats, CrossEntropyStep::combine, CrossEntropyStep::backward}) {
      EXPECT_EQ(count(step, part), 8 * 4);
      EXPECT_EQ(count(evaluation, part), part == CrossEntropyStep::backward ? 0 : 8 * 4);
    }
    EXPECT_TRUE(std::all_of(evaluation.begin(), evaluation.end(), [](const Op* op) {
      return op->phase == Phase::forward || op->phase == Phase::load || op->phase == Phase::optimizer ||
             op->phase == Phase::grad_reduce;
    }));
  }
}

// With backwards in two halves the head's are over in the forward: no gradient of logits waits in a ring, 16 x 128, and
// no norm's output in a hold, 16 x 48.
TEST(LossChunks, LeaveNothingToWeightGradients) {
  const auto copies = [](const Overrides& o, Lifetime lifetime) {
    const Role role = build(tiny_job(kTinyGpt, o)).roles.back();
    std::int64_t sum = 0;
    for (const Buffer& b : role.buffers) {
      sum += b.lifetime == lifetime ? b.elements * std::max(1, b.layers) : 0;
    }
    return sum;
  };
  const Overrides halves{"pp=2", "schedule=zb_h1"}, chunks = with(halves, "loss_chunks=2");
  EXPECT_EQ(copies(halves, Lifetime::ring) - copies(chunks, Lifetime::ring), 16 * 128);
  EXPECT_EQ(copies(halves, Lifetime::hold) - copies(chunks, Lifetime::hold), 16 * 48);
}

}  // namespace
}  // namespace foretrain::plan
