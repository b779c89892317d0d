// When what a rank reads is there, by hand: 10 ps of a read are the storage's, then 4 ps of latency.
#include "plan/reading.h"

#include <gtest/gtest.h>

#include "plan/build.h"
#include "plan/host_traffic.h"
#include "plan/validate.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

Reads reads(std::int64_t prefetch, std::int64_t loaders) {
  Host op;
  op.bytes = 10;
  op.prefetch = prefetch;
  op.loaders = loaders;
  return {op, {Bandwidth{1e12}, Time{4}}};
}

TEST(Reads, TakeNoTimeWhereNothingIsKnownOfStorage) {
  Reads none;
  EXPECT_EQ(none.take(Time{3}), Time{3});
  EXPECT_EQ(none.take(Time{5}), Time{5});
}

// Asked for when it is taken: 14 each time.
TEST(Reads, WithoutPrefetchEachIsWaitedFor) {
  Reads r = reads(0, 1);
  EXPECT_EQ(r.take(Time{0}), Time{14});
  EXPECT_EQ(r.take(Time{20}), Time{34});
}

// The first is asked for at 0 and there at 14. Taking it asks for the second, there at 28, which whoever comes at 30
// has at once; that asks for the third, at 44.
TEST(Reads, OneAheadIsReadMeanwhile) {
  Reads r = reads(1, 1);
  EXPECT_EQ(r.take(Time{0}), Time{14});
  EXPECT_EQ(r.take(Time{30}), Time{30});
  EXPECT_EQ(r.take(Time{30}), Time{44});
}

// One thread waits for the latency of a read before it asks for the next one: 14, 28, 42. Two have the storage busy all
// the time: it is done at 10, 20, 30, 40, and what it read is there 4 later.
TEST(Reads, ThreadsHideLatencyAndShareBandwidth) {
  Reads one = reads(3, 1), two = reads(3, 2);
  for (const std::int64_t there : {14, 28, 42, 56}) {
    EXPECT_EQ(one.take(Time{0}), Time{there});
  }
  for (const std::int64_t there : {14, 24, 34, 44}) {
    EXPECT_EQ(two.take(Time{0}), Time{there});
  }
}

// Of half of the sequences: 5 ps of the storage's, and of two sequences none is read in a quarter of the cases, which
// then has no latency of 4 ps.
TEST(Reads, WhatIsKeptTakesNoTimeInTheMean) {
  Host op;
  op.bytes = 10;
  op.sequences = 2;
  ReadRate rate{Bandwidth{1e12}, Time{4}, 0.5};
  EXPECT_EQ(Reads(op, rate).take(Time{0}), Time{5 + 3});
  rate.kept = 1;
  EXPECT_EQ(Reads(op, rate).take(Time{7}), Time{7});
}

// 64 sequences of 64 bytes, four ranks on two nodes. A cache of 16 of them has a quarter of what may come to a node, or
// half of what comes to it in every epoch: 64 x 64 bytes are read in each.
TEST(Reads, OfWhatNodesKeep) {
  const auto kept = [](const std::vector<std::string>& more, double share, std::int64_t cache) {
    std::vector<std::string> words{"dp=4", "global_batch=8", "workload.data.sequences=64", "workload.data.cache=1 KiB"};
    words.insert(words.end(), more.begin(), more.end());
    const PlanGraph g = build(testing::tiny_job(testing::kTinyGpt, words));
    topologies::Cluster c;
    c.devices_per_node = 2;
    EXPECT_EQ(read_rate(g, c).kept, share) << more.back();
    const EpochReads reads = epoch_reads(g, c);
    EXPECT_EQ(reads.all, Bytes{4096});
    EXPECT_EQ(reads.kept, Bytes{static_cast<std::int64_t>(4096 * share)});
    EXPECT_EQ(reads.cache, Bytes{cache});
    EXPECT_EQ(step_reads(g), Bytes{512});
  };
  kept({"distribution=random"}, 0.25, 1024);
  kept({"distribution=block"}, 0.5, 1024);
  kept({"distribution=sequential"}, 0.5, 1024);
  kept({"reshuffle=false"}, 0.5, 1024);
  kept({"distribution=block", "workload.data.cache=3 KiB"}, 1, 2048);
  kept({"distribution=random", "workload.data.cache=3 KiB"}, 0.75, 3072);
  kept({"distribution=random", "workload.data.cache=63 B"}, 0, 0);
}

// Of 20 sequences in steps of 8 an epoch takes 16, in their order always the same ones.
TEST(Reads, WhatIsLeftOverIsReadNever) {
  const auto all = [](const std::string& distribution) {
    const PlanGraph g = build(testing::tiny_job(
        testing::kTinyGpt, {"dp=4", "global_batch=8", "workload.data.sequences=20", "distribution=" + distribution}));
    EXPECT_EQ(g.data.per_epoch, 16);
    return g.data.sequences;
  };
  EXPECT_EQ(all("random"), 20);
  EXPECT_EQ(all("sequential"), 16);
}

// A loader reads what two workers of two microbatches train on, 16 tokens of 4 bytes of each, and sends as many and as
// many targets: 4 x 2 x 64 bytes a step from its host to theirs.
TEST(Reads, LoadersSendWhatWorkersTrainOn) {
  const Job job = testing::tiny_job(testing::kTinyGpt, {"dp=2", "loader_ranks=1", "global_batch=4"});
  const PlanGraph g = build(job);
  EXPECT_EQ(validate(g), std::vector<std::string>{});
  ASSERT_EQ(g.roles.size(), 3U);
  EXPECT_EQ(g.mesh.ranks(), 3);
  EXPECT_EQ(g.data_ranks(), 2);
  EXPECT_EQ(reading_op(g.roles[0]), nullptr);
  EXPECT_EQ(reading_op(g.roles[2])->bytes, 64);
  EXPECT_EQ(data_ranks_read(g, 2), (std::set<std::int32_t>{0, 1}));
  EXPECT_EQ(step_reads(g), Bytes{4 * 64});
  EXPECT_EQ(host_traffic(g, {0, 0, 1}, 0, 1).bytes, (std::vector<std::int64_t>{0, 0, 512, 0}));
}

// The same beside two stages of two tp ranks, each with halves of the sequences: a loader on a host of its own sends
// each half of tokens and targets once, 4 x 2 x 64 bytes again; the tp rank that has it passes it on: it is on the same
// host, or on another, and then all goes between these once more.
TEST(Reads, LoadersSendOnceWhatATpGroupTrainsOn) {
  const Job job = testing::tiny_job(
      testing::kTinyGpt, {"dp=2", "tp=2", "pp=2", "cp=2", "attention=flash", "loader_ranks=1", "global_batch=4"});
  const PlanGraph g = build(job);
  EXPECT_EQ(validate(g), std::vector<std::string>{});
  EXPECT_EQ(g.mesh.ranks(), 17);
  EXPECT_EQ(g.roles.size(), 17U);
  EXPECT_EQ(step_reads(g), Bytes{4 * 64});
  EXPECT_EQ(data_ranks_read(g, 16), (std::set<std::int32_t>{0, 1}));
  std::vector<int> host_of(17, 0);
  host_of[16] = 1;
  EXPECT_EQ(host_traffic(g, host_of, 0, 1).bytes, (std::vector<std::int64_t>{0, 0, 512, 0}));
  const auto between_tp = [&](const PlanGraph& graph) {
    std::vector<int> hosts(static_cast<std::size_t>(graph.mesh.ranks()), 2);
    for (Rank r = 0; r < 16; ++r) {
      hosts[static_cast<std::size_t>(r)] = static_cast<int>(r % 2);
    }
    return host_traffic(graph, hosts, 0, 1);
  };
  const PlanGraph alone = build(
      testing::tiny_job(testing::kTinyGpt, {"dp=2", "tp=2", "pp=2", "cp=2", "attention=flash", "global_batch=4"}));
  EXPECT_EQ(between_tp(g).at(0, 1), between_tp(alone).at(0, 1) + 512);
  EXPECT_EQ(between_tp(g).at(1, 0), between_tp(alone).at(1, 0));
  EXPECT_EQ(between_tp(g).at(2, 0), 512);
}

// Stages between the ends are sent nothing, but for the lengths of padded sequences, 4 bytes of each.
TEST(Reads, LoadersSendToTheEnds) {
  const auto sent = [](const char* text, const std::vector<std::string>& more) {
    std::vector<std::string> words{"pp=4", "loader_ranks=1", "global_batch=4"};
    words.insert(words.end(), more.begin(), more.end());
    const PlanGraph g = build(testing::tiny_job(text, words));
    EXPECT_EQ(validate(g), std::vector<std::string>{});
    const HostTraffic traffic = host_traffic(g, {0, 1, 2, 3, 4}, 0, 1);
    std::vector<std::int64_t> to;
    for (int host = 0; host < 4; ++host) {
      to.push_back(traffic.at(4, host));
    }
    return to;
  };
  using To = std::vector<std::int64_t>;
  EXPECT_EQ(sent(testing::kTinyGpt, {}), (To{256, 0, 0, 256}));
  EXPECT_EQ(sent(testing::kTinyGpt, {"schedule=dualpipe"}), (To{256, 0, 0, 256}));
  EXPECT_EQ(sent(testing::kTinyClassifier, {}), (To{272, 16, 16, 32}));
}

// Two stages of three replicas and two tp ranks, tokens on the first stage, targets on the last: 12 ranks read, on two
// nodes of 8 devices 8 and 4 of them.
TEST(Reads, ReadersOfAStorageShareIt) {
  const Job job = testing::tiny_job(testing::kTinyGpt, {"pp=2", "dp=3", "tp=2", "global_batch=6"});
  const PlanGraph g = build(job);
  topologies::Cluster c;
  c.devices_per_node = 8;
  EXPECT_FALSE(read_rate(g, c).is_limited());
  c.storage = {Bandwidth{24e9}, Time{7}, false};
  EXPECT_DOUBLE_EQ(read_rate(g, c).bandwidth.value, 3e9);
  EXPECT_EQ(read_rate(g, c).latency, Time{7});
  c.storage.is_shared = true;
  EXPECT_DOUBLE_EQ(read_rate(g, c).bandwidth.value, 2e9);
}

// 16 tokens of 4 bytes, or what the job says; servers and stages in the middle read nothing.
TEST(Reads, OfAMicrobatchAreItsSequences) {
  const auto bytes = [](const std::vector<std::string>& overrides) {
    std::vector<std::int64_t> all;
    for (const Role& role : build(testing::tiny_job(testing::kTinyGpt, overrides)).roles) {
      const Host* const op = reading_op(role);
      all.push_back(op == nullptr ? 0 : op->bytes);
    }
    return all;
  };
  using All = std::vector<std::int64_t>;
  EXPECT_EQ(bytes({"micro_batch=2"}), (All{128}));
  EXPECT_EQ(bytes({"micro_batch=2", "workload.data.bytes_per_sequence=1 kB"}), (All{2000}));
  EXPECT_EQ(bytes({"pp=3"}), (All{64, 0, 64}));
  EXPECT_EQ(bytes({"dp=2", "data_parallel=parameter_server"}), (All{64, 0}));
}

}  // namespace
}  // namespace foretrain::plan
