#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>

#include "base/error.h"
#include "sim/compute_model.h"
#include "tests/sim/tiny_graph.h"
#include "tests/support/message_of.h"
#include "topologies/cluster_file.h"
#include "topologies/profile.h"

namespace foretrain::sim {
namespace {

plan::Op matmul(std::int64_t m, std::int64_t n, std::int64_t k, Dtype in = Dtype::fp32, bool ta = false,
                bool tb = true) {
  plan::Op op;
  op.work = plan::Matmul{m, n, k, ta, tb, false, false, in, in};
  return op;
}

// 100 multiprocessors, 1 TFLOP/s, memory too fast to matter.
topologies::Cluster tiled() {
  topologies::Cluster c = clockwork(1);
  c.device.multiprocessors = 100;
  c.device.memory_bandwidth = Bandwidth{1e18};
  return c;
}

// 10 x 10 tiles of 128 x 256 are one wave: nothing is lost. One tile more begins a second wave, which takes as long;
// then smaller tiles lose less.
TEST(Roofline, WavesOfTiles) {
  const topologies::Cluster c = tiled();
  const auto model = make_roofline(c);
  EXPECT_NEAR(model->seconds(matmul(1280, 2560, 1000)), 2.0 * 1280 * 2560 * 1000 / 1e12, 1e-12);
  // 1281 rows: 11 x 10 = 110 tiles of 128 x 256 -> 2 waves; 256 x 128: 6 x 20 = 120 -> 2; 128 x 128: 11 x 20 = 220 -> 3
  // waves of half the work: 1.5; 64 x 128: 21 x 20 = 420 -> 5 waves of a quarter: 1.25; 128 x 64 : 11 x 40 = 440 ->
  // 5: 1.25; 64 x 64: 21 x 40 = 840 -> 9 waves of an eighth: 1.125.
  EXPECT_NEAR(model->seconds(matmul(1281, 2560, 1000)), 1.125 * 2.0 * 1280 * 2560 * 1000 / 1e12, 1e-12);
  // A single tile: one wave of the smallest tile that covers it.
  EXPECT_NEAR(model->seconds(matmul(1, 1, 1000)), 100 * 2.0 * 64 * 64 * 1000 / 1e12, 1e-12);
}

topologies::Cluster with_figures(topologies::Cluster c, double partial_wave, double clock) {
  topologies::Profile p = *c.profile;
  p.roofline.partial_wave = {partial_wave, "test"};
  p.sharing.compute_clock = {clock, "test"};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  return c;
}

// A wave of few tiles: 0.4 of a full wave, and the other 0.6 with its multiprocessors.
TEST(Roofline, PartialWaves) {
  const topologies::Cluster c = with_figures(tiled(), 0.4, 1);
  const auto model = make_roofline(c);
  const double wave = 2.0 * 1280 * 2560 * 1000 / 1e12;  // 100 tiles of 128 x 256
  EXPECT_NEAR(model->seconds(matmul(1280, 2560, 1000)), wave, 1e-12);
  EXPECT_NEAR(model->seconds(matmul(5 * 1280, 2560, 1000)), 5 * wave, 1e-12);
  // 50 tiles of 128 x 256: 0.4 + 0.6 / 2 = 0.7 of a wave; 100 tiles of 128 x 128: one wave of half the work, 0.5.
  EXPECT_NEAR(model->seconds(matmul(640, 2560, 1000)), 0.5 * wave, 1e-12);
  // One tile: 64 x 64 on one of 100 multiprocessors: (0.4 + 0.006) of an eighth of a wave.
  EXPECT_NEAR(model->seconds(matmul(1, 1, 1000)), 0.406 / 8 * wave, 1e-12);
}

// 100 tiles of 128 x 256 beside 20 blocks: a wave of 80, then 20 of the 80 multiprocessors are at work: 1 + 0.4 + 0.6 /
// 4 = 1.55 waves, at 0.95 of the clock.
TEST(Roofline, AWaveThatJustFitsTakesTwoBesideCommunication) {
  const topologies::Cluster c = with_figures(tiled(), 0.4, 0.95);
  const auto model = make_roofline(c);
  const plan::Op op = matmul(1280, 2560, 1000);
  EXPECT_NEAR(model->seconds_beside(op, {20, 0}) / model->seconds(op), 1.55 / 0.95, 1e-9);
  // 8 waves: 800 tiles on 80 are 10: 10 / 8.
  EXPECT_NEAR(model->seconds_beside(matmul(8 * 1280, 2560, 1000), {20, 0}) / (8 * model->seconds(op)), 1.25 / 0.95,
              1e-9);
  // Compute keeps half of the multiprocessors: 100 tiles on 50 are two waves.
  EXPECT_NEAR(model->seconds_beside(op, {99, 0}) / model->seconds(op), 2 / 0.95, 1e-9);
  EXPECT_DOUBLE_EQ(model->seconds_beside(op, {}), model->seconds(op));
}

TEST(Roofline, MemoryBoundKernelsGetTheBandwidthThatCommunicationLeaves) {
  topologies::Cluster c = clockwork(1);  // 1e12 B/s
  topologies::Profile p = *c.profile;
  p.roofline.memory = {0.8, "test"};
  p.roofline.memory_by_kind["norm"] = {0.5, "test"};
  p.roofline.launch = {1e-6, "test"};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  const auto model = make_roofline(c);
  EXPECT_NEAR(model->seconds_beside(work(800), {0, 0}), 1e-6 + 1000e-12, 1e-15);
  // 0.8e12 less 0.2e12
  EXPECT_NEAR(model->seconds_beside(work(600), {0, 200'000'000'000}), 1e-6 + 1000e-12, 1e-15);
  // half is left of any
  EXPECT_NEAR(model->seconds_beside(work(400), {0, 700'000'000'000}), 1e-6 + 1000e-12, 1e-15);
  // a kernel that reaches 0.4e12 alone has that beside 0.4e12 too
  plan::Op norm;
  norm.work = plan::Norm{plan::Direction::backward_input, workloads::Norm::layernorm, 100, 10, 1e-5, Dtype::fp32};
  EXPECT_DOUBLE_EQ(model->seconds_beside(norm, {0, 400'000'000'000}), model->seconds(norm));
}

// Never faster, and slower with more of either, on the catalogue's devices.
TEST(Roofline, SlowdownGrowsWithTheLoad) {
  const topologies::Cluster c = with_figures(tiled(), 0.3, 0.95);
  const auto model = make_roofline(c);
  for (const std::int64_t m : {1, 64, 777, 1280, 1281, 4096, 20000}) {
    for (const std::int64_t n : {1, 64, 2560, 5000}) {
      const plan::Op op = matmul(m, n, 1000);
      double before = model->seconds(op);
      EXPECT_DOUBLE_EQ(model->seconds_beside(op, {}), before);
      for (std::int64_t blocks = 1; blocks < 60; ++blocks) {
        const double now = model->seconds_beside(op, {blocks, blocks * 1'000'000'000'000'000});
        EXPECT_GE(now, before * (1 - 1e-12)) << m << " x " << n << " beside " << blocks;
        before = now;
      }
    }
  }
}

TEST(Roofline, MemoryBoundMatmul) {
  topologies::Cluster c = tiled();
  c.device.memory_bandwidth = Bandwidth{1e9};
  // reads 4 (m k + n k), writes 4 m n; the products are done in 2 x 64 x 64 x 30 / 10 GFLOP/s of one multiprocessor: 25
  // us
  EXPECT_NEAR(make_roofline(c)->seconds(matmul(100, 200, 30)), 4.0 * (3000 + 6000 + 20000) / 1e9, 1e-12);
}

TEST(Roofline, EmptyWorkCostsALaunchOnly) {
  topologies::Cluster c = clockwork(1);
  topologies::Profile p = *c.profile;
  p.roofline.launch = {3e-6, "test"};
  c.profile = std::make_shared<const topologies::Profile>(p);
  const auto model = make_roofline(c);
  EXPECT_DOUBLE_EQ(model->seconds(work(0)), 3e-6);
  EXPECT_DOUBLE_EQ(model->seconds(plan::Op{}), 0);  // a Join
  plan::Op host;
  host.work = plan::Host{};
  EXPECT_DOUBLE_EQ(model->seconds(host), 0);
}

TEST(Roofline, FactorsByKind) {
  topologies::Cluster c = clockwork(1);
  topologies::Profile p = *c.profile;
  p.roofline.memory_by_kind["norm"] = {0.5, "test"};
  p.roofline.memory_by_kind["norm.rmsnorm.forward"] = {0.25, "test"};
  c.profile = std::make_shared<const topologies::Profile>(p);
  const auto model = make_roofline(c);
  plan::Op norm;
  norm.work = plan::Norm{plan::Direction::backward_input, workloads::Norm::layernorm, 100, 10, 1e-5, Dtype::fp32};
  const double layernorm = model->seconds(norm);
  std::get<plan::Norm>(norm.work).kind = workloads::Norm::rmsnorm;
  EXPECT_DOUBLE_EQ(model->seconds(norm), layernorm);  // both by "norm"
  std::get<plan::Norm>(norm.work).direction = plan::Direction::forward;
  // reads x and gain, writes y and 2 statistics per row: 4 (1000 + 10 + 1000 + 200) bytes at a quarter of 1 B/ps
  EXPECT_NEAR(model->seconds(norm), 4 * (1000 + 10 + 1000 + 200) * 4e-12, 1e-20);
}

TEST(Roofline, CausalFlashAttentionCountsHalf) {
  const topologies::Cluster c = clockwork(1);
  const auto model = make_roofline(c);
  plan::Op op;
  op.work = plan::Attention{
      plan::AttentionStep::flash_forward, workloads::AttentionKind::flash, 2, 1024, 4, 4, 64, false, Dtype::fp32};
  // 4 b h s s d flops at 0.7 of the sustained rate
  const double full = 4.0 * 2 * 4 * 1024 * 1024 * 64 / (0.7 * 1e12);
  EXPECT_NEAR(model->seconds(op), full, 1e-9);
  std::get<plan::Attention>(op.work).causal = true;
  EXPECT_NEAR(model->seconds(op), full / 2, 1e-9);
}

topologies::Cluster with_roofline(topologies::Cluster c, const std::function<void(topologies::Roofline&)>& change) {
  topologies::Profile p = *c.profile;
  change(p.roofline);
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  return c;
}

// Whole waves are at the limit; what the tiles slow further is not.
TEST(Roofline, ThePowerLimitCapsTheRate) {
  const topologies::Cluster c = with_roofline(tiled(), [](topologies::Roofline& r) {
    r.matmul_limit[Dtype::fp32] = {0.5, "test"};
  });
  const auto model = make_roofline(c);
  const double wave = 2.0 * 1280 * 2560 * 1000 / 1e12;
  EXPECT_NEAR(model->seconds(matmul(1280, 2560, 1000)), 2 * wave, 1e-12);
  // One tile of 64 x 64 on one of 100 multiprocessors: an eighth of a wave, a hundredth of the device's rate.
  EXPECT_NEAR(model->seconds(matmul(64, 64, 1000)), wave / 8, 1e-12);
  // Beside communication as before: on 80 of 100 multiprocessors two waves instead of one.
  EXPECT_NEAR(model->seconds_beside(matmul(1280, 2560, 1000), {20, 0}), 2 * 2 * wave, 1e-12);
}

// Every product of a matmul kernel has it, element-wise and flash kernels have not.
TEST(Roofline, MatmulsHaveAFixedTime) {
  const topologies::Cluster plain = tiled();
  const topologies::Cluster c = with_roofline(plain, [](topologies::Roofline& r) { r.matmul_fixed = {1e-6, "test"}; });
  const auto model = make_roofline(c), without = make_roofline(plain);
  const auto extra = [&](const plan::Op& op) { return model->seconds(op) - without->seconds(op); };
  EXPECT_NEAR(extra(matmul(1, 1, 1)), 1e-6, 1e-12);
  EXPECT_NEAR(extra(matmul(1280, 2560, 1000)), 1e-6, 1e-12);
  EXPECT_DOUBLE_EQ(extra(work(1000)), 0);
  plan::Op op;
  op.work = plan::Attention{
      plan::AttentionStep::flash_forward, workloads::AttentionKind::flash, 2, 1024, 4, 4, 64, false, Dtype::fp32};
  EXPECT_DOUBLE_EQ(extra(op), 0);
  std::get<plan::Attention>(op.work).step = plan::AttentionStep::scores;
  EXPECT_NEAR(extra(op), 1e-6, 1e-12);
  std::get<plan::Attention>(op.work).step = plan::AttentionStep::context_backward;  // two products
  EXPECT_NEAR(extra(op), 2e-6, 1e-12);
  std::get<plan::Attention>(op.work).step = plan::AttentionStep::softmax;
  EXPECT_DOUBLE_EQ(extra(op), 0);
}

// Of 1, 2, 8, 12 and 16 normal devices the slowest is 0, 0.564, 1.424, (1.424 + 1.766) / 2 and 1.766 deviations away.
TEST(Roofline, AJobWaitsForItsSlowestDevice) {
  for (const auto& [devices, deviations] : std::map<int, double>{
           {1, 0}, {2, 0.564}, {8, 1.424}, {12, 1.595}, {16, 1.766}, {1 << 17, 4.443}, {1 << 20, 4.443}}) {
    topologies::Cluster c = with_roofline(tiled(), [](topologies::Roofline& r) { r.matmul_spread = {0.02, "test"}; });
    c.nodes = 1;
    c.devices_per_node = devices;
    const auto model = make_roofline(c);
    const double alone = 2.0 * 1280 * 2560 * 1000 / 1e12;
    EXPECT_NEAR(model->seconds(matmul(1280, 2560, 1000)), alone * (1 + 0.02 * deviations), 1e-12) << devices;
    EXPECT_DOUBLE_EQ(model->seconds(work(1000)), make_roofline(tiled())->seconds(work(1000)));
  }
}

// fp32: rows of 4 elements are 16 bytes. A is m x k, B n x k, C m x n: rows of k and n elements; of m where A is given
// transposed.
TEST(Roofline, RowsThatAreNotAligned) {
  const topologies::Cluster c = with_roofline(tiled(), [](topologies::Roofline& r) { r.unaligned = {0.5, "test"}; });
  const auto model = make_roofline(c);
  const auto time = [&](std::int64_t m, std::int64_t n, std::int64_t k, bool ta, bool tb) {
    return model->seconds(matmul(m, n, k, Dtype::fp32, ta, tb));
  };
  const double aligned = time(1280, 2560, 1000, false, true);
  EXPECT_NEAR(time(1279, 2560, 1000, false, true), aligned, 1e-12);
  EXPECT_NEAR(time(1279, 2560, 1000, true, false), 2 * aligned, 1e-12);
  EXPECT_NEAR(time(1280, 2559, 1000, false, true), 2 * aligned, 1e-12);
  EXPECT_NEAR(time(1280, 2560, 998, false, true), 2 * 0.998 * aligned, 1e-12);
  EXPECT_NEAR(time(1280, 2560, 998, true, false), 0.998 * aligned, 1e-12);  // k is no row's length
}

// 4 b h s s d flops at 1 TFLOP/s, a half under the mask, times what short sequences, small heads and few blocks cost.
TEST(Roofline, FlashAttentionOfShortSequencesAndFewHeadsIsSlower) {
  topologies::Cluster c = with_roofline(tiled(), [](topologies::Roofline& r) {
    r.attention_forward["flash"] = {1, "test"};
    r.attention_keys_half["forward"] = {256, "test"};
    r.attention_head_half["forward"] = {32, "test"};
    r.attention_tail["forward"] = {0.5, "test"};
  });
  const auto model = make_roofline(c);
  plan::Op op;
  op.work = plan::Attention{
      plan::AttentionStep::flash_forward, workloads::AttentionKind::flash, 2, 1024, 4, 4, 64, false, Dtype::fp32};
  const double flops = 4.0 * 2 * 4 * 1024 * 1024 * 64;
  // 1 + 256/1024, 1 + 32/64; 2 x 4 x 8 = 64 blocks on 100 multiprocessors: 1 + 0.5 x 100/64.
  EXPECT_NEAR(model->seconds(op), flops / 1e12 * 1.25 * 1.5 * 1.78125, 1e-9);
  auto& attention = std::get<plan::Attention>(op.work);
  attention.causal = true;  // half the flops, 512 keys on the mean
  EXPECT_NEAR(model->seconds(op), flops / 2 / 1e12 * 1.5 * 1.5 * 1.78125, 1e-9);
  attention.seq = 100;  // one block of 128 per head, not filled: 8 blocks
  EXPECT_NEAR(model->seconds(op),
              4.0 * 2 * 4 * 100 * 100 * 64 / 2 / 1e12 * (1 + 256 / 50.0) * 1.5 * (1 + 0.5 * 100 / 8), 1e-9);
  attention.step = plan::AttentionStep::flash_backward;  // none of the three is given: 0.7 of the sustained rate
  EXPECT_NEAR(model->seconds(op), 10.0 * 2 * 4 * 100 * 100 * 64 / 2 / 0.7e12, 1e-9);
  attention.batch = 0;
  EXPECT_DOUBLE_EQ(model->seconds(op), 0);
  attention.step = plan::AttentionStep::flash_forward;
  EXPECT_DOUBLE_EQ(model->seconds(op), 0);
}

// On every system of the catalogue: never above the peak, more work is never faster by more than a wave, and longer
// sequences run at a higher rate.
TEST(Roofline, CatalogueProfilesAreSane) {
  int systems = 0;
  for (const auto& file : std::filesystem::directory_iterator("topologies/systems")) {
    const std::string name = file.path().stem();
    if (name == "this-machine" || name == "this-gpu") {
      continue;
    }
    ++systems;
    topologies::Cluster c = topologies::load_system(name);
    topologies::load_profile_of(c);
    ASSERT_TRUE(c.profile != nullptr && c.profile->has_roofline && c.profile->has_sharing) << name;
    const auto model = make_roofline(c);
    const double peak = c.device.peak.at(Dtype::fp16).value;
    double before = 0;
    for (std::int64_t size = 256; size <= 16384; size *= 2) {
      for (const auto& [ta, tb] : {std::pair{false, true}, {false, false}, {true, false}}) {
        const double cube = static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size);
        EXPECT_GE(model->seconds(matmul(size, size, size, Dtype::fp16, ta, tb)), 2 * cube / peak)
            << name << " " << size;
      }
      const double now = model->seconds(matmul(size, size, size, Dtype::fp16));
      EXPECT_GT(now, before) << name << " " << size;
      before = now;
    }
    for (const plan::AttentionStep step : {plan::AttentionStep::flash_forward, plan::AttentionStep::flash_backward}) {
      double rate = 0;
      for (std::int64_t seq = 128; seq <= 131072; seq *= 2) {
        plan::Op op;
        op.work = plan::Attention{step, workloads::AttentionKind::cudnn, 1, seq, 32, 32, 128, true, Dtype::fp16};
        const double flops = (step == plan::AttentionStep::flash_forward ? 2.0 : 5.0) * 32 * 128 *
                             static_cast<double>(seq) * static_cast<double>(seq);
        const double now = flops / model->seconds(op);
        EXPECT_GE(now, rate * (1 - 1e-9)) << name << " " << seq;
        EXPECT_LE(now, peak) << name << " " << seq;
        rate = now;
      }
    }
  }
  EXPECT_GT(systems, 25);
}

TEST(Roofline, ADtypeThatTheDeviceLacksIsNamed) {
  const topologies::Cluster c = clockwork(1);
  EXPECT_EQ(test::message_of([&] { make_roofline(c)->seconds(matmul(8, 8, 8, Dtype::fp8)); }),
            "clock: no peak for fp8; known: fp32");
}

topologies::Cluster calibrated() {
  topologies::Cluster c = clockwork(2, true);
  c.this_machine = true;
  topologies::Profile p;
  topologies::Measured& m = p.measured;
  m.cores = 2;
  m.dispatch_seconds = 1e-6;
  for (const std::int64_t rows : {16, 64}) {
    for (const std::int64_t cols : {16, 64}) {
      for (const std::int64_t k : {16, 64}) {
        // 1 ns per flop with 16 rows, 0.25 ns with 64
        const double flops = 2.0 * static_cast<double>(rows * cols * k);
        m.matmul.push_back(
            {Dtype::fp32, Dtype::fp32, false, true, rows, cols, k, flops * (rows == 16 ? 1e-9 : 0.25e-9)});
      }
    }
  }
  m.attention = {{"flash_forward", Dtype::fp32, 2, 64, 4, 4, 32, true, 1e-3}};
  m.memory = {{"accumulate", Dtype::fp32, 1000, 1e-6}, {"norm.layernorm.forward", Dtype::fp32, 1000, 5e-6}};
  m.sharing = {{1, "matmul", 1000, 1.0}, {2, "matmul", 1000, 1.25}};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  return c;
}

TEST(MeasuredCompute, MatmulsAreInterpolatedInLogarithms) {
  const topologies::Cluster c = calibrated();
  const auto model = make_compute_model("auto", c);
  EXPECT_EQ(model->name(), "measured");
  EXPECT_NEAR(model->seconds(matmul(16, 64, 16)), 1e-6 + 2 * 16 * 64 * 16 * 1e-9, 1e-12);
  // 32 rows: half way between 16 and 64 in logarithms: sqrt(1 x 0.25) = 0.5 ns per flop
  EXPECT_NEAR(model->seconds(matmul(32, 40, 20)), 1e-6 + 2 * 32 * 40 * 20 * 0.5e-9, 1e-12);
  // outside the grid its border counts
  EXPECT_NEAR(model->seconds(matmul(1024, 640, 20)), 1e-6 + 2.0 * 1024 * 640 * 20 * 0.25e-9, 1e-9);
  // another layout takes what is there
  EXPECT_NEAR(model->seconds(matmul(16, 64, 16, Dtype::fp32, true, false)), 1e-6 + 2 * 16 * 64 * 16 * 1e-9, 1e-12);
  EXPECT_EQ(model->slowdown(matmul(16, 16, 16), 2), 1.25);
}

TEST(MeasuredCompute, BesideCommunicationAsTheTablesSay) {
  topologies::Cluster c = calibrated();
  topologies::Profile p = *c.profile;
  p.measured.overlap = {{"matmul", 1.25, 1.5}};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  const auto model = make_compute_model("measured", c);
  const plan::Op op = matmul(16, 64, 16);
  EXPECT_EQ(model->seconds_beside(op, {}), model->seconds(op));
  EXPECT_EQ(model->seconds_beside(op, {1, 0}), 1.25 * model->seconds(op));
}

TEST(MeasuredCompute, AttentionAndMemory) {
  const topologies::Cluster c = calibrated();
  const auto model = make_compute_model("measured", c);
  plan::Op op;
  op.work = plan::Attention{
      plan::AttentionStep::flash_forward, workloads::AttentionKind::flash, 1, 128, 4, 4, 32, true, Dtype::fp32};
  EXPECT_NEAR(model->seconds(op), 1e-6 + 2e-3, 1e-12);  // half the heads, four times the products
  plan::Op norm;
  norm.work = plan::Norm{plan::Direction::forward, workloads::Norm::layernorm, 1, 1, 1e-5, Dtype::fp64};
  EXPECT_NEAR(model->seconds(norm), 1e-6 + 5e-6, 1e-12);        // another dtype's curve, below its first point
  EXPECT_NEAR(model->seconds(work(2000)), 1e-6 + 2e-6, 1e-12);  // no samples of fill: as accumulate
}

// 100 sequences take 2 us to find, as 800 bytes of labels do, and 3 us to copy: 6,400 bytes read and as many written.
TEST(MeasuredCompute, LoadsAreFoundAndCopied) {
  topologies::Cluster c = calibrated();
  topologies::Profile p = *c.profile;
  plan::Op op;
  plan::Host load{plan::HostTask::load_features, 100, 1};
  load.cols = 16;
  load.dtype = Dtype::fp32;
  op.work = load;
  EXPECT_EQ(make_compute_model("measured", c)->seconds(op), 0);  // not measured: a GPU's, beside which they run
  p.measured.memory.push_back({"load_labels", Dtype::fp64, 800, 2e-6});
  p.measured.memory.push_back({"copy.device_to_device", Dtype::u8, 12800, 3e-6});
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  EXPECT_NEAR(make_compute_model("measured", c)->seconds(op), 1e-6 + 2e-6 + 3e-6, 1e-12);
  load.task = plan::HostTask::write_checkpoint;
  op.work = load;
  EXPECT_EQ(make_compute_model("measured", c)->seconds(op), 0);
}

TEST(MeasuredCompute, CachedOperandsHaveTablesOfTheirOwn) {
  topologies::Cluster c = calibrated();
  topologies::Profile p = *c.profile;
  p.measured.memory[0].cached_seconds = 0.25e-6;
  p.measured.core_cache = {1000};
  p.measured.shared_cache = {6000};
  c.profile = std::make_shared<const topologies::Profile>(std::move(p));
  const auto model = make_compute_model("measured", c);
  EXPECT_NEAR(model->seconds(work(1000)), 1e-6 + 1e-6, 1e-12);
  EXPECT_NEAR(model->cached_seconds(work(1000)), 1e-6 + 0.25e-6, 1e-12);
  EXPECT_DOUBLE_EQ(model->cached_seconds(matmul(16, 64, 16)), model->seconds(matmul(16, 64, 16)));  // not measured
  EXPECT_EQ(model->cache(1).value, 7000);
  EXPECT_EQ(model->cache(2).value, 4000);
  EXPECT_EQ(model->cache(5).value, 4000);  // two cores: no more share at one time
}

TEST(MeasuredCompute, ADtypeWithoutSamplesIsNamed) {
  const topologies::Cluster c = calibrated();
  const auto model = make_compute_model("measured", c);
  EXPECT_EQ(test::message_of([&] { model->seconds(matmul(8, 8, 8, Dtype::bf16)); }),
            "the profile has no matmuls of bf16; known: fp32");
}

}  // namespace
}  // namespace foretrain::sim
