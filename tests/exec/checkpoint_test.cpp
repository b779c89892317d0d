// Checkpoints: a run that is cut in two gives the bits of one that is not, on the same strategy and by way of any
// other.
#include <gtest/gtest.h>

#include <cstring>

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

TEST(Checkpoint, ResumesOnTheSameStrategyToTheBit) {
  for (const char* const model : testing::kModels) {
    for (const Overrides& o : strategies()) {
      expect_resumes(model, joined(kFp32, o));
    }
  }
}

TEST(Checkpoint, ResumesInEveryPrecisionAndWithEveryOptimizer) {
  for (const char* const precision : {"fp64", "bf16"}) {
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
