// What calibrate says of a GPU whose costs are known; and what it measures of a core.
#include "exec/calibrate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/catalogue.h"
#include "exec/calibrate_grid.h"
#include "exec/calibrate_phase.h"
#include "exec/dispatch.h"
#include "plan/build.h"
#include "plan/cost_kind.h"
#include "tests/exec/gpu_processes.h"
#include "tests/exec/pretend_gpu.h"

namespace foretrain::exec {
namespace {

using testing::PretendCosts;
using testing::PretendGpu;
using topologies::Profile;

constexpr std::int64_t kMiB = 1 << 20;

// Kernels shorter than what the host takes to enqueue them, but for large products.
PretendCosts costs() {
  PretendCosts c;
  c.kernel = 2e-6;
  c.product = 1e-10;
  c.copy = 3e-6;
  c.device_byte = 1e-12;
  c.link_byte = 20e-12;
  c.mark = 0.5e-6;
  c.submit = 5e-6;
  c.record = 1e-6;
  c.wait = 1.5e-6;
  return c;
}

CalibrateScale small_scale() {
  CalibrateScale s;
  s.matmul = {{Dtype::fp32, 32, 128, 2, 1 << 21}, {Dtype::bf16, 64, 128, 2, 1 << 21}};
  s.attention = {{Dtype::bf16, 64, 32, 2}};
  s.memory = {Dtype::fp32, Dtype::bf16, Dtype::fp64};
  s.heads = 2;
  s.most_scores = 1 << 14;
  s.width = 64;
  s.vocabulary = 512;
  s.smallest_memory = 16 << 10;
  s.largest_memory = kMiB;
  s.pool = s.small_pool = Bytes{kMiB};
  s.ops_pool = Bytes{4 * kMiB};
  s.most_cached = 64 << 10;
  s.ranks = {2, 3};
  s.work_extent = 32;
  s.sharing_extent = 128;
  s.smallest_sharing = 256 << 10;
  s.sharing_flops = 1e8;
  s.sharing_bytes = 4e6;
  s.has_launches = true;
  return s;
}

const Profile& profile() {
  static const Profile made = [] {
    PretendGpu gpu(costs());
    CalibrateOptions options;
    options.budget = std::chrono::seconds(0);
    options.gpu = &gpu;
    return calibrate(options, small_scale());
  }();
  return made;
}

void expect_near(double value, double expected) {
  EXPECT_NEAR(value, expected, 1e-3 * expected);
}

TEST(CalibrateGpu, SaysWhatWasMeasured) {
  EXPECT_EQ(profile().measured.machine, "a pretended GPU, 1.00 GB");
  EXPECT_EQ(profile().measured.cores, 1);
  EXPECT_EQ(profile().measured.device_memory, Bytes{1'000'000'000});
  EXPECT_EQ(profile().measured.shared_cache, Bytes{kMiB});
}

// A matmul is one kernel, and its end's record takes its time before it is there: 2 us + m n k x 0.1 ns + 0.5 us.
TEST(CalibrateGpu, Matmuls) {
  // Extents 32, 64, 128: 27 of fp32; 64, 128: 8 of bf16; in three layouts each.
  EXPECT_EQ(profile().measured.matmul.size(), 3U * (27 + 8));
  for (const topologies::MatmulSample& s : profile().measured.matmul) {
    const double products = static_cast<double>(s.m * s.n * s.k);
    expect_near(s.seconds, 2e-6 + 1e-10 * products + 0.5e-6);
    expect_near(s.cached_seconds, s.seconds);
  }
}

// Copies: 3 us and a byte's price within the device, or over the link.
TEST(CalibrateGpu, Copies) {
  int seen = 0;
  for (const topologies::MemorySample& s : profile().measured.memory) {
    const bool stays = s.kind == "copy.device_to_device";
    if (s.kind.rfind("copy.", 0) != 0) {
      continue;
    }
    // Bytes touched on the device: read and written, or either.
    const double bytes = static_cast<double>(stays ? s.bytes / 2 : s.bytes);
    expect_near(s.seconds, 3e-6 + bytes * (stays ? 1e-12 : 20e-12) + 0.5e-6);
    ++seen;
  }
  EXPECT_EQ(seen, 3 * 3);  // kinds; 16 KiB, 128 KiB, 1 MiB
}

// An op is a record before it, a kernel and a record behind it; a wait comes on top. Between two ops in a stream that
// has enough to do lies the second's first record.
TEST(CalibrateGpu, LaunchesAndEvents) {
  expect_near(profile().measured.submit_seconds, 1e-6 + 5e-6 + 1e-6);
  EXPECT_NEAR(profile().measured.event_seconds, 1.5e-6, 0.01e-6);
  expect_near(profile().measured.dispatch_seconds, 0.5e-6);
}

// One kernel runs at a time: n ranks with products of 128^3 x 0.1 ns = 210 us, far longer than their enqueueing, take n
// times as long.
TEST(CalibrateGpu, RanksShareIt) {
  int seen = 0;
  for (const topologies::SharingSample& s : profile().measured.sharing) {
    if (s.kind == "matmul") {
      EXPECT_NEAR(s.slowdown, s.active, 0.03 * s.active);
      ++seen;
    }
  }
  EXPECT_EQ(seen, 2);
}

// n shares of 3 us one after the other, each of n parts that are read, one that is summed and n - 1 that are copied.
TEST(CalibrateGpu, CollectivesTakeAtLeastTheirShares) {
  int seen = 0;
  for (const topologies::CollectiveSample& s : profile().measured.collectives) {
    EXPECT_FALSE(s.has_gpu_each);
    if (s.kind == "all_reduce") {
      EXPECT_GE(s.seconds, s.ranks * 3e-6 + 2.0 * static_cast<double>(s.ranks * s.bytes) * 1e-12);
      ++seen;
    }
  }
  EXPECT_EQ(seen, 2 * 6);  // 1 KiB to 1 MiB
}

// Started by torchrun: number 0 measures its GPU alone, then all together what they exchange; its profile holds both.
TEST(CalibrateGpu, SeveralMeasureWhatTheyExchange) {
  testing::PretendFabric fabric;
  CalibrateScale scale = small_scale();
  scale.matmul = {{Dtype::fp32, 32, 32, 2, 1 << 15}};
  scale.ranks = {2};
  Profile made;
  const auto failures = testing::in_processes(2, 1, fabric, [&](Processes& processes, Gpu& gpu) {
    CalibrateOptions options;
    options.budget = std::chrono::seconds(0);
    options.gpu = &gpu;
    options.processes = &processes;
    Profile profile = calibrate(options, scale);
    if (processes.number() == 0) {
      made = std::move(profile);
    } else {
      EXPECT_TRUE(profile.measured.matmul.empty() && profile.measured.overlap.empty());
    }
  });
  EXPECT_EQ(failures, std::vector<std::string>(2));
  EXPECT_EQ(made.measured.machine, "2 of a pretended GPU, 100 MB");
  EXPECT_EQ(made.measured.matmul.size(), 3U);
  const auto of_each = [](const auto& samples) {
    return std::count_if(samples.begin(), samples.end(), [](const auto& s) { return s.has_gpu_each; });
  };
  // As many kinds and sizes as of two ranks that share one.
  EXPECT_EQ(2 * of_each(made.measured.collectives), std::ssize(made.measured.collectives));
  EXPECT_EQ(2 * of_each(made.measured.exchanges), std::ssize(made.measured.exchanges));
  EXPECT_GT(of_each(made.measured.collectives), 0);
  EXPECT_GT(of_each(made.measured.exchanges), 0);
  std::vector<std::string> beside;
  for (const topologies::OverlapSample& s : made.measured.overlap) {
    beside.push_back(s.kind);
    EXPECT_GE(std::min(s.compute, s.communication), 1.0);
  }
  EXPECT_EQ(beside, (std::vector<std::string>{"matmul", "memory"}));
  const std::string text = topologies::to_json(made);
  EXPECT_EQ(topologies::to_json(topologies::profile_from_text(text, "made")), text);
}

// Of the memory-bound ops of ready jobs on this machine these few are priced as sums of as many bytes.
TEST(CalibrateCores, MeasuresWhatReadyJobsDo) {
  ProbeProgram program(1, plan::Axis::dp, Bytes{1 << 20});
  std::set<std::string> measured{"join"};
  for (const Probe& probe : memory_grid(small_scale(), program)) {
    measured.insert(plan::cost_kind(probe.work));
  }
  std::set<std::string> others;
  for (const CatalogueItem& item : catalogue_items("workloads/jobs")) {
    const plan::Job job = plan::load_job(item.path, {});
    if (!job.cluster.this_machine) {
      continue;
    }
    const plan::PlanGraph graph = plan::build(job);
    for (const plan::Role& role : graph.roles) {
      for (const plan::Block& block : role.blocks) {
        for (const plan::Op& op : block.ops) {
          const bool is_other = std::holds_alternative<plan::Matmul>(op.work) || plan::attention_of(op.work) ||
                                std::holds_alternative<plan::Host>(op.work) || is_communication(op.work);
          if (!is_other && measured.count(plan::cost_kind(op.work)) == 0) {
            others.insert(plan::cost_kind(op.work));
          }
        }
      }
    }
  }
  EXPECT_EQ(others, (std::set<std::string>{"loss_scale.begin", "loss_scale.update", "relative_bias.backward_weight",
                                           "relative_bias.forward"}));
}

TEST(CalibrateCores, RanksSlowEachOtherNoMoreThanMoreOfThemDo) {
  std::vector<topologies::SharingSample> sharing{
      {2, "matmul", 100, 1.75}, {2, "memory", 100, 1.2}, {2, "memory", 200, 1.6},
      {3, "matmul", 100, 1.25}, {3, "memory", 100, 1.5}, {3, "memory", 200, 1.1},
      {4, "matmul", 100, 1.0},  {4, "memory", 100, 1.3}, {4, "memory", 200, 1.5}};
  level(sharing);
  std::vector<double> slowdowns;
  for (const topologies::SharingSample& s : sharing) {
    slowdowns.push_back(s.slowdown);
  }
  EXPECT_EQ(slowdowns, (std::vector<double>{1.0, 1.2, 1.1, 1.0, 1.3, 1.1, 1.0, 1.3, 1.5}));
}

// Samples of one number, as training finds them.
TEST(CalibrateCores, LoadsLabels) {
  CalibrateScale scale = small_scale();
  scale.has_launches = false;
  ProbeProgram program(1, plan::Axis::dp, Bytes{1 << 20});
  std::vector<std::int64_t> loaded;
  for (const Probe& probe : memory_grid(scale, program)) {
    if (const auto* load = std::get_if<plan::Host>(&probe.work)) {
      loaded.push_back(load->sequences);
      program.add(probe);
    }
  }
  EXPECT_EQ(loaded, (std::vector<std::int64_t>{1, 8, 64, 512, 4096}));
  const ProbeData data;
  Executor executor(program.graph(), data, 1);
  executor.run({});
  const RankMemory memory = executor.memory().front();
  // Behind the pool that is read, each from the next 256 bytes on: 1, 8, 64 and 512 of 8 bytes lie before the last.
  const auto* const last = reinterpret_cast<const double*>(memory.arena + (1 << 20) + 256 + 256 + 512 + 4096);
  EXPECT_TRUE(std::all_of(last, last + 4096, [](double x) { return x == 0.5; }));
}

TEST(CalibrateGpu, IsReadBack) {
  const std::string text = topologies::to_json(profile());
  EXPECT_EQ(topologies::to_json(topologies::profile_from_text(text, "made")), text);
}

}  // namespace
}  // namespace foretrain::exec
