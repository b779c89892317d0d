// Checkpoints: a run that is cut in two gives the bits of one that is not, on the same strategy and by way of any
// other.
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "exec/parameters.h"
#include "tests/exec/checkpoint_support.h"
#include "tests/support/temporary_folder.h"

namespace foretrain::exec {
namespace {

using test::TemporaryFolder;
using testing::joined;
using testing::Overrides;
using testing::Trained;
using testing::words;

constexpr int kBefore = 2, kAfter = 2;  // steps
const Overrides kFp32 = {{"precision", "fp32"}, {"global_batch", "4"}, {"seq_len", "8"}};

// Losses of a run without a break, by model and overrides: the oracle.
const std::vector<double>& whole(const char* model, const Overrides& overrides) {
  static std::map<std::pair<std::string, Overrides>, std::vector<double>> known;
  const auto [found, is_new] = known.try_emplace({model, overrides});
  if (is_new) {
    found->second = Trained(model, overrides).run(kBefore + kAfter);
  }
  return found->second;
}

std::vector<double> end_of(const std::vector<double>& losses) {
  return {losses.begin() + kBefore, losses.end()};
}

void write(Trained& run, const CheckpointFolder& folder, int step) {
  CheckpointWriter writer(folder, run.executor.memory(), run.about(), {});
  writer.keep_all(run.executor.memory(), step);
  EXPECT_EQ(writer.newest(), step);
}

// Codes span the gaps between tensors, where a run begins with noughts and never has anything else.
void spoil_residuals(const RankMemory& memory) {
  const plan::Role& role = *memory.rank->role;
  for (std::size_t b = 0; b < role.buffers.size(); ++b) {
    const plan::Buffer& buffer = role.buffers[b];
    for (std::int32_t layer = 0; buffer.name.ends_with(".residual") && layer < std::max(1, buffer.layers); ++layer) {
      const plan::Placement& place = role.memory.placements[b];
      std::memset(memory.at(place.offset + layer * place.layer_stride), 0,
                  static_cast<std::size_t>(size_bytes(buffer.dtype, buffer.elements)));
    }
  }
  for_each_stored_range(memory, [](Stored stored, const TensorRange& range, kernels::Tensor tensor) {
    if (stored == Stored::residual) {
      std::memset(tensor.data, 0xFF, static_cast<std::size_t>(size_bytes(tensor.dtype, range.elements)));
    }
  });
}

void expect_resumes(const char* model, const Overrides& overrides) {
  SCOPED_TRACE(::testing::PrintToString(words(overrides)));
  const TemporaryFolder place;
  const CheckpointFolder folder(place.path("c"), {});
  {
    Trained first(model, overrides);
    CheckpointOptions options;
    options.every = kBefore;
    CheckpointWriter writer(folder, first.executor.memory(), first.about(), options);
    // One step more than is kept: copies are of the step's end, whatever comes behind it.
    EXPECT_EQ(first.run(kBefore + 1, &writer),
              std::vector<double>(whole(model, overrides).begin(), whole(model, overrides).begin() + kBefore + 1));
  }
  Trained second(model, overrides);
  // Nothing else of what lasts may matter: all of it is not a number until the checkpoint is taken up.
  for (const RankMemory& memory : second.executor.memory()) {
    const plan::MemoryPlan& plan = memory.rank->role->memory;
    std::memset(memory.arena, 0xFF, static_cast<std::size_t>(plan.persistent.value));
    std::memset(memory.arena + plan.arena.value, 0xFF, static_cast<std::size_t>(plan.host.value));
    spoil_residuals(memory);
  }
  ASSERT_EQ(second.resume(folder), kBefore);
  EXPECT_EQ(second.run(kAfter, nullptr, true), end_of(whole(model, overrides)));
}

// From a to b and back: if a's losses go on to the bit, not a bit of state was lost in b.
void expect_reshards(const char* model, const Overrides& a, const Overrides& b) {
  SCOPED_TRACE(::testing::PrintToString(words(a)) + " by way of " + ::testing::PrintToString(words(b)));
  const TemporaryFolder place;
  const CheckpointFolder in_a(place.path("a"), {}), in_b(place.path("b"), {});
  Trained first(model, a);
  first.run(kBefore);
  write(first, in_a, kBefore);
  Trained other(model, b);
  ASSERT_EQ(other.resume(in_a), kBefore);
  const std::vector<FullTensor> before = first.executor.parameters(), after = other.executor.parameters();
  ASSERT_EQ(before.size(), after.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_TRUE(before[i].values == after[i].values) << before[i].name;
  }
  write(other, in_b, kBefore);
  Trained second(model, a);
  ASSERT_EQ(second.resume(in_b), kBefore);
  EXPECT_EQ(second.run(kAfter), end_of(whole(model, a)));
}

const std::vector<Overrides>& strategies() {
  static const std::vector<Overrides> all = {
      {},
      {{"dp", "2"}},
      {{"dp", "4"}, {"zero", "1"}},
      {{"dp", "2"},
       {"zero", "1"},
       {"overlap_grad_reduce", "true"},
       {"overlap_param_gather", "true"},
       {"bucket_bytes", "1 kB"}},
      {{"dp", "2"}, {"zero", "1"}, {"zero_kind", "owners"}, {"bucket_bytes", "1 kB"}},
      {{"dp", "4"}, {"zero", "1"}, {"shard", "2"}},
      {{"dp", "2"}, {"zero", "2"}},
      {{"dp", "4"}, {"zero", "3"}},
      {{"dp", "2"}, {"zero", "3"}, {"reshard", "false"}},
      {{"dp", "4"}, {"data_parallel", "gather"}},
      {{"dp", "2"}, {"data_parallel", "parameter_server"}, {"servers", "3"}},
      {{"dp", "2"}, {"data_parallel", "parameter_server"}, {"servers", "2"}, {"server_replicas", "1"}},
      {{"tp", "2"}},
      {{"tp", "4"}, {"sequence_parallel", "true"}},
      {{"pp", "2"}},
      {{"pp", "2"}, {"virtual_stages", "2"}},
      {{"pp", "2"},
       {"schedule", "zb_h1"},
       {"optimizer_sync", "post_validation"},
       {"optimizer", R"({"name": "adamw", "clip": 0})"}},
      {{"pp", "2"}, {"schedule", "dualpipe_v"}},
      {{"pp", "2"}, {"schedule", "dualpipe"}},
      {{"cp", "2"}},
      {{"offload", R"(["optimizer"])"}, {"dp", "2"}, {"zero", "1"}},
      {{"offload", R"(["activations"])"}, {"pp", "2"}},
      {{"micro_batch", "2"}, {"recompute", "full"}},
      {{"dp", "2"}, {"tp", "2"}, {"pp", "2"}, {"zero", "1"}},
  };
  return all;
}

// Servers are spoilt: what goes on, on another strategy too, is what the replicas had.
TEST(Checkpoint, ReplicasLeaveTheStateOfTheirServers) {
  for (const char* const precision : {"fp32", "bf16"}) {
    const Overrides one = joined(kFp32, {{"precision", precision}});
    const Overrides served =
        joined(one, {{"dp", "2"}, {"data_parallel", "parameter_server"}, {"servers", "2"}, {"server_replicas", "1"}});
    const TemporaryFolder place;
    const CheckpointFolder folder(place.path("c"), {});
    {
      Trained first(testing::kTinyGpt, served);
      std::int64_t told = -1;
      CheckpointOptions options;
      options.every = 2 * kBefore;  // never
      options.left_behind = [&](std::int64_t step) { told = step; };
      {
        CheckpointWriter writer(folder, first.executor.memory(), first.about(), options);
        first.run(kBefore, &writer);
        for (const RankMemory& memory : first.executor.memory()) {
          if (memory.rank->rank == 2 || memory.rank->rank == 3) {
            std::memset(memory.arena, 0xFF, static_cast<std::size_t>(memory.rank->role->memory.arena.value));
          }
        }
        writer.keep_last(kBefore, true, "");
      }
      EXPECT_EQ(told, kBefore);
    }
    for (const Overrides& o : {served, joined(one, {{"dp", "2"}})}) {
      Trained second(testing::kTinyGpt, o);
      ASSERT_EQ(second.resume(folder), kBefore);
      EXPECT_EQ(second.run(kAfter), end_of(whole(testing::kTinyGpt, o)));
    }
  }
}

TEST(Checkpoint, ResumesOnTheSameStrategyToTheBit) {
  for (const char* const model : testing::kModels) {
    for (const Overrides& o : strategies()) {
      expect_resumes(model, joined(kFp32, o));
    }
  }
}

// Ranks with state of their own: residuals of codes, replicas between two averages (of steps 3, 6, …), an outer
// optimizer.
constexpr const char* kNesterov = R"({"kind": "nesterov", "learning_rate": 0.7, "momentum": 0.9})";
const Overrides kLocal = {{"data_parallel", "local_sgd"}, {"average_every", "3"}};
const Overrides kDiloco = joined(kLocal, {{"outer_optimizer", kNesterov}});

const std::vector<Overrides>& own_states() {
  static const std::vector<Overrides> all = {
      {{"dp", "2"}, {"compression", "int8"}},
      {{"dp", "4"}, {"compression", "topk:0.1"}, {"overlap_grad_reduce", "true"}, {"bucket_bytes", "1 kB"}},
      {{"dp", "2"}, {"cp", "2"}, {"compression", "topk:0.1"}},
      joined(kLocal, {{"dp", "2"}}),
      joined(kLocal, {{"dp", "4"}, {"local_group", "2"}}),
      joined(kLocal, {{"dp", "2"}, {"outer_optimizer", R"({"kind": "sgd"})"}}),
      joined(kDiloco, {{"dp", "2"}}),
      joined(kDiloco, {{"dp", "2"}, {"average_every", "1"}}),
      joined(kDiloco, {{"dp", "2"}, {"tp", "2"}}),
      joined(kDiloco, {{"dp", "2"}, {"pp", "2"}}),
      joined(kDiloco, {{"dp", "2"}, {"cp", "2"}}),
      joined(kDiloco, {{"dp", "4"}, {"local_group", "2"}, {"compression", "int8"}}),
      // Servers that take from all in turn, none of whom is ahead.
      {{"dp", "4"},
       {"data_parallel", "parameter_server"},
       {"servers", "2"},
       {"staleness", "0"},
       {"server_order", "random"}},
  };
  return all;
}

TEST(Checkpoint, HoldsWhatEachRankHasOfItsOwn) {
  for (const Overrides& o : own_states()) {
    expect_resumes(testing::kTinyGpt, joined(kFp32, o));
  }
  for (const char* const precision : {"fp64", "bf16"}) {
    const Overrides o = joined(kFp32, {{"precision", precision}, {"dp", "2"}});
    expect_resumes(testing::kTinyLlama, joined(o, kDiloco));
    expect_resumes(testing::kTinyLlama, joined(o, {{"compression", "int8"}}));
    expect_resumes(testing::kTinyLlama, joined(o, {{"pp", "2"}, {"compression", "topk:0.1"}}));
  }
  expect_resumes(testing::kTinyMoe, joined(kFp32, {{"dp", "4"}, {"ep", "2"}, {"compression", "int8"}}));
}

// As many replicas, or members, as there were have their own again, wherever they live.
TEST(Checkpoint, ReshardsWhatEachRankHasOfItsOwn) {
  const Overrides diloco = joined(joined(kFp32, kDiloco), {{"dp", "2"}});
  for (const Overrides& o : {Overrides{{"tp", "2"}}, Overrides{{"pp", "2"}}, Overrides{{"cp", "2"}},
                             Overrides{{"dp", "4"}, {"local_group", "2"}}}) {
    expect_reshards(testing::kTinyGpt, diloco, joined(diloco, o));
  }
  const Overrides coded = joined(kFp32, {{"dp", "2"}, {"compression", "topk:0.1"}});
  expect_reshards(testing::kTinyLlama, coded, joined(coded, {{"pp", "2"}}));
  expect_reshards(testing::kTinyLlama, coded, joined(coded, {{"dp", "1"}, {"cp", "2"}}));
}

// Of each tensor the sum over the ranks that store it whole.
std::map<std::string, std::vector<double>> summed(const Trained& run, Stored of) {
  std::map<std::string, std::vector<double>> all;
  for (const RankMemory& memory : run.executor.memory()) {
    for_each_stored_range(memory, [&](Stored stored, const TensorRange& range, kernels::Tensor tensor) {
      std::vector<double>& sum = all[plan::global_name(*memory.rank->role, range.parameter, range.layer)];
      sum.resize(static_cast<std::size_t>(range.elements));
      for (std::int64_t i = 0; stored == of && i < range.elements; ++i) {
        sum[static_cast<std::size_t>(i)] += element(tensor, i);
      }
    });
  }
  return all;
}

void expect_multiple(const std::map<std::string, std::vector<double>>& a, double factor,
                     const std::map<std::string, std::vector<double>>& b) {
  for (const auto& [name, values] : a) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_NEAR(values[i], factor * b.at(name)[i], 1e-6) << name << " " << i;
    }
  }
}

// Other replicas have the mean of those that were; the members of a group share out what was left over.
TEST(Checkpoint, AveragesReplicasAndSharesOutResiduals) {
  const auto resumed = [](const Overrides& from, const Overrides& to, const auto& judge) {
    const TemporaryFolder place;
    const CheckpointFolder folder(place.path("c"), {});
    Trained first(testing::kTinyGpt, joined(kFp32, from));
    first.run(kBefore);
    write(first, folder, kBefore);
    Trained second(testing::kTinyGpt, joined(kFp32, to));
    ASSERT_EQ(second.resume(folder), kBefore);
    judge(first, second);
    EXPECT_EQ(second.run(kAfter, nullptr, true).size(), static_cast<std::size_t>(kAfter));
  };
  const Overrides two = joined(kDiloco, {{"dp", "2"}}), four = joined(kDiloco, {{"dp", "4"}});
  for (const Stored stored : {Stored::parameter, Stored::first_moment, Stored::second_moment}) {
    resumed(two, {},
            [&](const Trained& a, const Trained& b) { expect_multiple(summed(a, stored), 2, summed(b, stored)); });
    resumed(four, two,
            [&](const Trained& a, const Trained& b) { expect_multiple(summed(a, stored), 2, summed(b, stored)); });
  }
  // Where there was no outer step yet, the weights are where it goes on from.
  resumed({{"dp", "2"}}, two, [](const Trained&, const Trained& b) {
    expect_multiple(summed(b, Stored::anchor), 1, summed(b, Stored::parameter));
    expect_multiple(summed(b, Stored::outer_momentum), 0, summed(b, Stored::parameter));
  });
  const Overrides coded = {{"compression", "topk:0.1"}};
  for (const auto& [from, to] : {std::pair{"2", "4"}, {"4", "2"}}) {
    resumed(joined(coded, {{"dp", from}}), joined(coded, {{"dp", to}}), [](const Trained& a, const Trained& b) {
      expect_multiple(summed(a, Stored::residual), 1, summed(b, Stored::residual));
    });
  }
  resumed(joined(coded, {{"dp", "2"}}), {{"dp", "2"}}, [](const Trained&, const Trained&) {});
  resumed({{"dp", "2"}}, joined(coded, {{"dp", "2"}}), [](const Trained&, const Trained& b) {
    expect_multiple(summed(b, Stored::residual), 0, summed(b, Stored::parameter));
  });
}

// A scale that has shrunk in steps whose gradients were no numbers.
TEST(Checkpoint, HoldsTheScaleOfTheLoss) {
  expect_resumes(
      testing::kTinyGpt,
      joined(kFp32, {{"dp", "2"}, {"loss_scaling", R"({"initial": 1e42, "backoff": 1e-5, "interval": 2})"}}));
}

// With a checkpoint behind every step nobody is ahead of it, whatever the bound.
TEST(Checkpoint, AsynchronousWorkersMeetAtIt) {
  class EveryStep : public StateKeeper {
   public:
    bool wants(int) const override { return true; }
    void keep(const RankMemory&, int) override {}
  };
  EveryStep keeper;
  const Overrides served =
      joined(kFp32, {{"dp", "4"}, {"data_parallel", "parameter_server"}, {"server_order", "random"}});
  Trained bound(testing::kTinyGpt, joined(served, {{"staleness", "0"}}));
  Trained free(testing::kTinyGpt, joined(served, {{"staleness", "\"unbounded\""}}));
  EXPECT_EQ(free.run(4, &keeper), bound.run(4));
}

TEST(Checkpoint, ResumesInEveryPrecisionAndWithEveryOptimizer) {
  for (const char* const precision : {"fp64", "bf16", "fp16"}) {
    for (const char* const optimizer : {"sgd", "momentum", "adam", "adamw"}) {
      const Overrides o = joined(kFp32, {{"precision", precision}, {"optimizer", optimizer}});
      expect_resumes(testing::kTinyGpt, joined(o, {{"dp", "2"}, {"zero", "1"}}));
      expect_resumes(testing::kTinyLlama, joined(o, {{"tp", "2"}}));
    }
  }
}

// bf16 weights without masters are kept as they are, beside moments in fp32.
TEST(Checkpoint, ResumesRoundingByChance) {
  const Overrides o = joined(kFp32, {{"precision", "bf16"}, {"optimizer", R"({"rounding": "stochastic"})"}});
  expect_resumes(testing::kTinyGpt, joined(o, {{"dp", "2"}, {"zero", "1"}}));
  expect_resumes(testing::kTinyLlama, joined(o, {{"tp", "2"}}));
}

TEST(Checkpoint, ReshardsByWayOfEveryOtherStrategy) {
  const Overrides product = {{"tp", "2"}, {"dp", "2"}, {"zero", "3"}};
  for (const Overrides& o : strategies()) {
    expect_reshards(testing::kTinyGpt, kFp32, joined(kFp32, o));
    expect_reshards(testing::kTinyLlama, joined(kFp32, product), joined(kFp32, o));
  }
}

TEST(Checkpoint, ReshardsSixteenBits) {
  const Overrides bf16 = joined(kFp32, {{"precision", "bf16"}});
  for (const Overrides& o : {Overrides{{"dp", "4"}, {"zero", "3"}}, Overrides{{"tp", "4"}}, Overrides{{"pp", "2"}},
                             Overrides{{"offload", R"(["optimizer"])"}, {"dp", "2"}, {"zero", "1"}}}) {
    expect_reshards(testing::kTinyGpt, bf16, joined(bf16, o));
  }
}

TEST(Checkpoint, ReshardsExperts) {
  const Overrides& base = kFp32;
  const std::vector<Overrides> places = {{},
                                         {{"dp", "2"}, {"ep", "2"}},
                                         {{"dp", "4"}, {"ep", "2"}, {"zero", "1"}},
                                         {{"dp", "4"}, {"ep", "4"}},
                                         {{"tp", "2"}, {"dp", "2"}, {"ep", "2"}},
                                         {{"tp", "2"}, {"sequence_parallel", "true"}, {"expert_tp", "1"}, {"ep", "2"}},
                                         {{"pp", "2"}, {"dp", "2"}, {"ep", "2"}, {"zero", "2"}}};
  for (const Overrides& o : places) {
    expect_resumes(testing::kTinyMoe, joined(base, o));
    expect_reshards(testing::kTinyMoe, base, joined(base, o));
    expect_reshards(testing::kTinyMoe, joined(base, {{"dp", "2"}, {"ep", "2"}}), joined(base, o));
  }
}

}  // namespace
}  // namespace foretrain::exec
