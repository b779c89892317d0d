// Where elements lie in whole tensors, and what the files say about it.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "base/error.h"
#include "exec/checkpoint_manifest.h"
#include "exec/checkpoint_shard.h"
#include "plan/job.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

// Row and column of each element of a run, by definition: walk the slab, leave out `skip`.
std::vector<std::pair<std::int64_t, std::int64_t>> places(const TensorRun& run) {
  std::vector<std::pair<std::int64_t, std::int64_t>> all;
  for (std::int64_t i = run.skip; i < run.skip + run.elements; ++i) {
    all.emplace_back(run.row + i / run.width, run.col + i % run.width);
  }
  return all;
}

TEST(TensorRun, WhatTwoShareIsWhatTheirPlacesShare) {
  std::mt19937 random(5);
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
  };
  for (int i = 0; i < 3000; ++i) {
    const auto draw = [&] {
      TensorRun r;
      r.row = below(4);
      r.col = below(3);
      r.width = 1 + below(4);
      r.skip = below(r.width);
      r.elements = below(10);
      return r;
    };
    const TensorRun a = draw(), b = draw();
    std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> of_b;
    const auto in_a = places(a), in_b = places(b);
    for (std::size_t k = 0; k < in_b.size(); ++k) {
      of_b[in_b[k]] = static_cast<std::int64_t>(k);
    }
    std::set<std::pair<std::int64_t, std::int64_t>> expected, actual;
    for (std::size_t k = 0; k < in_a.size(); ++k) {
      if (of_b.contains(in_a[k])) {
        expected.insert({static_cast<std::int64_t>(k), of_b[in_a[k]]});
      }
    }
    for_each_common(a, b, [&](std::int64_t x, std::int64_t y, std::int64_t n) {
      for (std::int64_t k = 0; k < n; ++k) {
        EXPECT_TRUE(actual.insert({x + k, y + k}).second);
      }
    });
    ASSERT_EQ(actual, expected) << "rows " << a.row << " and " << b.row << ", widths " << a.width << " and " << b.width;
    EXPECT_EQ(a.end_row(), a.elements == 0 ? a.row : in_a.back().first + 1);
  }
}

ShardHeader header() {
  ShardHeader h;
  h.step = 10;
  h.rank = 3;
  h.dtype = Dtype::fp32;
  h.moments = 2;
  h.pieces = {{"embedding.table", 5, 4, {1, 0, 4, 2, 7}}, {"head.norm.gain", 4, 1, {0, 0, 1, 0, 4}}};
  h.payload_crc = 0xDEADBEEF;
  return h;
}

TEST(CheckpointShard, ComesBack) {
  const ShardHeader h = header();
  // (7 + 4) elements of 4 bytes, three times.
  EXPECT_EQ(h.payload_bytes(), 132);
  const std::string bytes = to_bytes(h);
  EXPECT_EQ(bytes.size() % 64, 0u);
  EXPECT_EQ(shard_start_bytes(bytes, "x"), static_cast<std::int64_t>(bytes.size()));
  const ShardHeader back = shard_start(bytes, "x").header;
  EXPECT_EQ(back.step, 10);
  EXPECT_EQ(back.rank, 3);
  EXPECT_EQ(back.dtype, Dtype::fp32);
  EXPECT_EQ(back.moments, 2);
  EXPECT_EQ(back.pieces, h.pieces);
  EXPECT_EQ(back.payload_crc, 0xDEADBEEFu);
}

TEST(CheckpointShard, SaysWhoseAPieceIs) {
  ShardHeader h = header();
  h.pieces[0].part = Part::residual;
  h.pieces[0].among = {1, 2, 3, 4};
  h.pieces[1].part = Part::anchor;
  h.pieces.push_back({"loss_scale", 5, 1, {0, 0, 1, 0, 5}, Part::loss_scale, {}});
  h.pieces.push_back({"turns", 3, 1, {0, 0, 1, 0, 3}, Part::turns, {}});
  // Of moments there are none: 7 elements of 4 bytes, 4 of 4, 5 of 8 and 3 of 8.
  EXPECT_EQ(h.payload_bytes(), 28 + 16 + 40 + 24);
  EXPECT_EQ(shard_start(to_bytes(h), "x").header.pieces, h.pieces);
  for (const Among& among : {Among{2, 2, 0, 1}, Among{0, 1, 4, 4}}) {
    h.pieces[0].among = among;
    EXPECT_THROW(shard_start(to_bytes(h), "x"), InputError) << among.replica << " " << among.member;
  }
}

TEST(CheckpointShard, RefusesPiecesOutsideOfTheirTensor) {
  for (const TensorRun& run : {TensorRun{5, 0, 4, 0, 1}, TensorRun{4, 0, 4, 0, 5}, TensorRun{0, 1, 4, 0, 1},
                               TensorRun{0, 0, 5, 0, 1}, TensorRun{0, 0, 4, 4, 1}}) {
    ShardHeader h = header();
    h.pieces[0].run = run;
    EXPECT_THROW(shard_start(to_bytes(h), "x"), InputError) << run.row << " " << run.col << " " << run.width;
  }
}

Manifest manifest(const plan::Job& job) {
  Manifest m = manifest_of_first_step(job, 0xFFFFFFFFFFFFFFFFu, "text");
  EXPECT_EQ(m.sequences, 8);  // of one step
  m.step = 10;
  m.sequences = 80;
  m.shards = {{"rank-00000.shard", 1000, 0xFFFFFFFF}, {"rank-00001.shard", 16, 0}};
  return m;
}

TEST(CheckpointManifest, ComesBack) {
  const plan::Job job = testing::tiny_job(testing::kTinyGpt);
  const Manifest m = manifest(job), back = manifest_from_json(to_json(m), "x");
  EXPECT_EQ(back.step, m.step);
  EXPECT_EQ(back.seed, m.seed);
  EXPECT_EQ(back.data, m.data);
  EXPECT_EQ(back.sequences, m.sequences);
  EXPECT_EQ(back.job, m.job);
  EXPECT_EQ(back.shards, m.shards);
  EXPECT_EQ(to_json(back), to_json(m));
}

std::string refusal(const plan::Job& before, const std::vector<std::string>& overrides) {
  try {
    check_same_state(manifest(before), testing::tiny_job(testing::kTinyGpt, overrides), "c");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(CheckpointManifest, NamesWhatIsNotTheSameState) {
  const plan::Job job = testing::tiny_job(testing::kTinyGpt);
  EXPECT_EQ(refusal(job, {"tp=2", "pp=2", "zero=1", "micro_batch=2", "global_batch=16", "recompute=full"}), "");
  EXPECT_EQ(refusal(job, {"workload.model.layers=2", "precision=fp32", "optimizer=sgd"}),
            "c: is of another run:\n/workload/model/layers: 4 in the checkpoint, 2 in this job\n"
            "/workload/precision: \"fp64\" in the checkpoint, \"fp32\" in this job\n"
            "/workload/optimizer/name: \"adamw\" in the checkpoint, \"sgd\" in this job");
}

TEST(CheckpointManifest, NamesWhatMakesItAnotherRun) {
  const plan::Job job = testing::tiny_job(testing::kTinyGpt);
  const std::uint64_t seed = manifest(job).seed;
  EXPECT_EQ(changes(manifest(job), testing::tiny_job(testing::kTinyGpt, {"tp=2"}), seed, "text"),
            std::vector<std::string>{});
  EXPECT_EQ(changes(manifest(job), testing::tiny_job(testing::kTinyGpt, {"global_batch=16"}), 2, "book"),
            (std::vector<std::string>{"/workload/global_batch: 8 in the checkpoint, 16 in this job",
                                      "seed: 18446744073709551615 in the checkpoint, 2 in this job",
                                      "data: \"text\" in the checkpoint, \"book\" in this job"}));
}

TEST(CheckpointManifest, NamesWhatBecomesOfWhatRanksHaveOfTheirOwn) {
  using Words = std::vector<std::string>;
  const auto between = [](const Words& before, const Words& now) {
    const Manifest m = manifest(testing::tiny_job(testing::kTinyGpt, before));
    return changes(m, testing::tiny_job(testing::kTinyGpt, now), m.seed, "text");
  };
  const Words local = {"dp=4", "data_parallel=local_sgd", "local_group=2", "average_every=3"};
  EXPECT_EQ(between(local, local), Words{});
  EXPECT_EQ(between(local, {"dp=2", "data_parallel=local_sgd"}), Words{});
  EXPECT_EQ(between(local, {"dp=2"}), Words{"weights and optimizer state of 2 replicas are averaged"});
  EXPECT_EQ(between({"dp=2", "compression=int8"}, {"dp=4", "compression=topk:0.1"}), Words{});
  const Words dropped = {"what compression int8 had put off to later steps is dropped"};
  EXPECT_EQ(between({"dp=2", "compression=int8"}, {"dp=2", "compression=bf16"}), dropped);
  EXPECT_EQ(between({"dp=2", "compression=int8"}, {"compression=int8"}), dropped);  // one rank exchanges nothing
  EXPECT_EQ(between({"compression=int8"}, {}), Words{});
}

}  // namespace
}  // namespace foretrain::exec
