// Context parallelism: shares of sequences, and the plan of a ring and of an all-to-all.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "plan/build.h"
#include "plan/sequence_share.h"
#include "plan/validate.h"
#include "plan/work.h"
#include "tests/support/message_of.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using Overrides = std::vector<std::string>;
using testing::kTinyGpt;
using testing::kTinyLlama;
using testing::tiny_job;

// Two ranks, 8 tokens in 4 pieces of 2: rank 0 has pieces 0 and 3, rank 1 pieces 1 and 2.
TEST(SequenceShare, ByHand) {
  const auto positions = [](int index, int size, std::int64_t tokens) {
    std::vector<std::int64_t> all;
    for (std::int64_t t = 0; t < tokens; ++t) {
      all.push_back(SequenceShare{tokens, index, size}.position(t));
    }
    return all;
  };
  EXPECT_EQ(positions(0, 2, 4), (std::vector<std::int64_t>{0, 1, 6, 7}));
  EXPECT_EQ(positions(1, 2, 4), (std::vector<std::int64_t>{2, 3, 4, 5}));
  EXPECT_EQ(positions(0, 1, 3), (std::vector<std::int64_t>{0, 1, 2}));
}

// Every position once, and found again; under a causal mask every rank attends to as many pairs of tokens.
TEST(SequenceShare, DealsOutAllTokensEvenly) {
  for (const int size : {1, 2, 3, 4, 8}) {
    for (const std::int64_t tokens : {2, 4, 6}) {
      std::set<std::int64_t> seen;
      std::vector<std::int64_t> pairs;
      for (int index = 0; index < size; ++index) {
        const SequenceShare share{tokens, index, size};
        pairs.push_back(0);
        for (std::int64_t t = 0; t < tokens; ++t) {
          const std::int64_t position = share.position(t);
          EXPECT_TRUE(seen.insert(position).second);
          EXPECT_LT(position, share.whole());
          const SharePlace place = share_place(position, share.whole(), size);
          EXPECT_EQ(place.index, index);
          EXPECT_EQ(place.token, t);
          pairs.back() += position + 1;
        }
      }
      EXPECT_EQ(std::count(pairs.begin(), pairs.end(), pairs.front()), size);
    }
  }
}

const std::vector<Overrides>& plans() {
  static const std::vector<Overrides> all = {
      {"cp=2"},
      {"cp=4"},
      {"cp=8"},
      {"cp=2", "cp_kind=all_to_all"},
      {"cp=4", "cp_kind=all_to_all", "attention=unfused", "recompute=selective", "workload.model.kv_heads=4"},
      {"cp=2", "tp=2", "sequence_parallel=true", "recompute=full"},
      {"cp=2", "dp=2", "zero=1", "overlap_grad_reduce=true", "overlap_param_gather=true"},
      {"cp=2", "pp=2", "schedule=zb_v"},
      {"cp=4", "pp=2", "schedule=zb_h1", "recompute=full", "cp_kind=all_to_all", "workload.model.kv_heads=4"},
      {"cp=2", "pp=2", "virtual_stages=2", "rank_order=cp,pp,tp,dp"},
  };
  return all;
}

TEST(ContextParallel, GraphsAreValid) {
  for (const char* model : {kTinyGpt, kTinyLlama}) {
    for (const Overrides& overrides : plans()) {
      EXPECT_EQ(validate(build(tiny_job(model, overrides))), Overrides{}) << ::testing::PrintToString(overrides);
    }
  }
}

// Shares of the work add up to the whole, whoever does it.
TEST(ContextParallel, TakesNoMoreFlops) {
  for (const char* model : {kTinyGpt, kTinyLlama}) {
    for (const Overrides& overrides : plans()) {
      if (std::find(overrides.begin(), overrides.end(), "recompute=full") == overrides.end() &&
          std::find(overrides.begin(), overrides.end(), "recompute=selective") == overrides.end()) {
        const Job job = tiny_job(model, overrides);
        EXPECT_EQ(matmul_flops_per_step(build(job)), matmul_flops_per_step(build(one_rank_job(job))))
            << ::testing::PrintToString(overrides);
      }
    }
  }
}

// Sizes of the messages of one kind of op in a block.
std::vector<std::vector<std::int64_t>> messages(const PlanGraph& g, const std::string& block, bool sent) {
  std::vector<std::vector<std::int64_t>> all;
  for (const Block& b : g.roles[0].blocks) {
    for (const Op& op : b.ops) {
      if (const auto* exchange = std::get_if<Exchange>(&op.work); exchange != nullptr && b.name == block) {
        all.emplace_back();
        for (const Message& m : exchange->messages) {
          EXPECT_EQ(m.axis, Axis::cp);
          EXPECT_TRUE(m.relative);
          if (m.send == sent) {
            all.back().push_back(m.peer * m.elements);
          }
        }
      }
    }
  }
  return all;
}

// 16 tokens over 4 ranks, 2 kv heads of 12: 4 * 2 * 2 * 12 = 192 elements of keys and values. They make three hops to
// the next rank; backward three to the one before, and their gradients three, one step behind.
TEST(ContextParallel, HopsOfARing) {
  using Sizes = std::vector<std::vector<std::int64_t>>;
  const PlanGraph g = build(tiny_job(kTinyLlama, {"cp=4"}));
  EXPECT_EQ(messages(g, "layer.forward", true), (Sizes{{192}, {192}, {192}}));
  EXPECT_EQ(messages(g, "layer.forward", false), (Sizes{{-192}, {-192}, {-192}}));
  EXPECT_EQ(messages(g, "layer.backward", true), (Sizes{{-192}, {-192, -192}, {-192, -192}, {-192}}));
  EXPECT_EQ(messages(g, "layer.backward", false), (Sizes{{192}, {192, 192}, {192, 192}, {192}}));
}

// 16 tokens over 4 ranks, 2 kv heads of 12: 192 elements of a share's keys and values, 768 of all. They are gathered
// before attention and again before its backward, and their gradients scattered after it.
TEST(ContextParallel, GatheredKeys) {
  using Calls = std::vector<std::pair<CollectiveKind, std::int64_t>>;
  const PlanGraph g = build(tiny_job(kTinyLlama, {"cp=4", "cp_kind=all_gather"}));
  for (const auto& [block, expected] :
       {std::pair{"layer.forward", Calls{{CollectiveKind::all_gather, 768}}},
        {"layer.backward", Calls{{CollectiveKind::all_gather, 768}, {CollectiveKind::reduce_scatter, 768}}}}) {
    Calls calls;
    for (const Block& b : g.roles[0].blocks) {
      for (const Op& op : b.ops) {
        if (const auto* c = std::get_if<Collective>(&op.work); c != nullptr && b.name == block) {
          calls.emplace_back(c->kind, c->elements);
        }
      }
    }
    EXPECT_EQ(calls, expected) << block;
  }
}

// Gradients and losses are summed over all ranks with other tokens, in one group; ZeRO shards over it.
TEST(ContextParallel, ReplicasAreOneGroup) {
  const PlanGraph g = build(tiny_job(kTinyGpt, {"cp=2", "dp=4", "zero=1"}));
  const auto dp = std::find_if(g.groups.begin(), g.groups.end(), [](const Group& x) { return x.name == "dp"; });
  ASSERT_NE(dp, g.groups.end());
  EXPECT_EQ(group_size(g.mesh, *dp), 8);
  const ParameterFamily& layer = g.roles[0].parameter_families[1];
  EXPECT_EQ(g.roles[0].buffers[static_cast<std::size_t>(layer.m)].elements * 8, layer.elements);
}

std::string mistake(const char* model, const Overrides& overrides) {
  return test::message_of([&] { tiny_job(model, overrides); });
}

TEST(ContextParallel, RefusesByName) {
  EXPECT_EQ(mistake(kTinyGpt, {"cp=3"}),
            "command line: /strategy/cp: seq_len 16 is not a multiple of 2 x cp 3: every rank holds two pieces of each "
            "sequence, an early and a late one");
  EXPECT_EQ(mistake(kTinyGpt, {"cp=2", "tp=4", "sequence_parallel=true", "seq_len=12"}),
            "command line: /strategy/cp: tp 4 does not divide seq_len 12 / cp 2");
  EXPECT_EQ(mistake(kTinyGpt, {"cp=2", "attention=unfused"}),
            "test job:5: /strategy/cp_kind: a ring needs attention that takes parts of the queries and keys: flash, "
            "flash3 or cudnn, not unfused; cp_kind all_to_all has whole sequences");
  EXPECT_EQ(
      mistake(kTinyLlama, {"cp=4", "cp_kind=all_to_all"}),
      "command line: /strategy/cp_kind: all_to_all deals out heads: kv_heads 2 are not a multiple of tp 1 x cp 4; "
      "expected ring, or a smaller cp");
  EXPECT_EQ(mistake(kTinyLlama, {"cp_kind=rings"}),
            "command line: /strategy/cp_kind: \"rings\" is not allowed; did you mean \"ring\"? expected one of: ring, "
            "all_to_all, all_gather");
  EXPECT_EQ(mistake(kTinyLlama, {"cp=2", "workload.model.attention_window=5"}),
            "test job:6: /strategy/cp_kind: a ring takes all keys round: attention_window 5 of seq_len 16 is not built "
            "with it; expected all_gather or all_to_all");
  EXPECT_EQ(mistake(kTinyLlama, {"cp=2", "cp_kind=all_gather", "recompute=[\"attention_core\"]"}),
            "command line: /strategy/recompute: \"attention_core\" of all_gather is not computed again by itself; "
            "expected full, or other modules");
  EXPECT_EQ(mistake(kTinyLlama, {"workload.model.attention_sinks=true", "attention=unfused"}),
            "command line: /workload/attention: the model's attention_sinks are built behind flash attention; expected "
            "flash, flash3 or cudnn, not unfused");
}

// A ring's message has its peer round the axis: not itself, and not from a role that has one place there.
TEST(ContextParallel, RingsOfOneAreInvalid) {
  PlanGraph g = build(tiny_job(kTinyGpt, {"cp=2"}));
  for (Block& b : g.roles[0].blocks) {
    for (Op& op : b.ops) {
      if (auto* exchange = std::get_if<Exchange>(&op.work)) {
        for (Message& m : exchange->messages) {
          m.peer = m.send ? 2 : -2;
        }
      }
    }
  }
  const std::vector<std::string> findings = validate(g);
  ASSERT_FALSE(findings.empty());
  EXPECT_NE(findings.front().find("the role must be all along the axis, and the peer another rank"), std::string::npos)
      << findings.front();
}

TEST(ContextParallel, HalfARingIsInvalid) {
  PlanGraph g = build(tiny_job(kTinyGpt, {"cp=2"}));
  for (Block& b : g.roles[0].blocks) {
    for (Op& op : b.ops) {
      if (auto* exchange = std::get_if<Exchange>(&op.work)) {
        exchange->messages.resize(1);
        op.writes.clear();
      }
    }
  }
  const std::vector<std::string> findings = validate(g);
  ASSERT_FALSE(findings.empty());
  EXPECT_NE(findings.front().find("send has only one end of the message round cp as attention.kv 0"), std::string::npos)
      << findings.front();
}

}  // namespace
}  // namespace foretrain::plan
