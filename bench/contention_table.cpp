// What compute loses beside communication: a table of matmuls and collectives, the mean and the worst over a grid of
// sizes, and the case that was published. Run from anywhere: contention_table [SYSTEM ...]
//
// Lost: 1 - (time alone) / (time beside), the part of its speed that the kernel loses while the collective lasts.
#include <fmt/format.h>

#include <cstdio>

#include "base/error.h"
#include "tests/support/contention_grid.h"
#include "topologies/profile.h"

namespace foretrain {
namespace {

void print_system(const std::string& name) {
  topologies::Cluster cluster = topologies::load_system(name);
  topologies::load_profile_of(cluster);
  cluster.nodes = 16;
  const auto model = sim::make_roofline(cluster);
  const std::vector<testing::Beside> beside = testing::communication_grid(cluster);
  fmt::print("{}: speed lost, % of {} matmuls\n\n{:<24}{:>7}{:>10}{:>8}{:>8}{:>12}\n", name,
             testing::matmul_grid().size(), "beside", "blocks", "GB/s", "mean", "worst", "stream");
  double sum = 0, worst = 0, time_sum = 0;
  int count = 0;
  for (const testing::Beside& b : beside) {
    double own = 0, own_worst = 0;
    for (const testing::Shape& s : testing::matmul_grid()) {
      const double lost = testing::speed_lost(*model, testing::product(s.m, s.n, s.k), b.load);
      own += lost;
      own_worst = std::max(own_worst, lost);
      time_sum += 1 / (1 - lost) - 1;
    }
    const auto n = static_cast<double>(testing::matmul_grid().size());
    plan::Op fill;
    fill.work = plan::Fill{1 << 30, Dtype::bf16};
    fmt::print("{:<24}{:>7}{:>10.0f}{:>8.1f}{:>8.1f}{:>12.1f}\n", b.name, b.load.blocks,
               static_cast<double>(b.load.traffic) * 1e-9, 100 * own / n, 100 * own_worst,
               100 * testing::speed_lost(*model, fill, b.load));
    sum += own;
    worst = std::max(worst, own_worst);
    count += static_cast<int>(n);
  }
  fmt::print("{:<24}{:>25.1f}{:>8.1f}      (time: +{:.1f} % in the mean)\n\n", "all", 100 * sum / count, 100 * worst,
             100 * time_sum / count);
}

// 132 tiles of 128 x 256 on 132 multiprocessors beside the 24 blocks of an all-gather: one kernel, which no power limit
// slows.
void print_published() {
  topologies::Cluster cluster = topologies::load_system("dgx-h100");
  topologies::load_profile_of(cluster);
  topologies::Profile cool = *cluster.profile;
  cool.roofline.matmul_limit.clear();
  cool.roofline.matmul_spread = {0, "one device"};
  cluster.profile = std::make_shared<const topologies::Profile>(cool);
  const auto model = sim::make_roofline(cluster);
  const plan::Op op = testing::product(12 * 128, 11 * 256, 5120);
  const double flops = 2.0 * 12 * 128 * 11 * 256 * 5120;
  const double peak = cluster.device.peak.at(Dtype::bf16).value;
  const sim::DeviceLoad gather = testing::communication_grid(cluster)[1].load;
  const auto of_peak = [&](double seconds) { return 100 * flops / seconds / peak; };
  fmt::print(
      "dgx-h100: a matmul of 132 blocks beside an all_gather of {}: {:.0f} % of peak, alone {:.0f} %\n"
      "published: 47 %, alone 80 % (https://forums.developer.nvidia.com/t/337991)\n",
      gather.blocks, of_peak(model->seconds_beside(op, gather)), of_peak(model->seconds(op)));
}

}  // namespace
}  // namespace foretrain

int main(int argc, char** argv) {
  try {
    std::vector<std::string> systems(argv + 1, argv + argc);
    if (systems.empty()) {
      systems = {"dgx-a100-80gb", "dgx-h100"};
    }
    for (const std::string& name : systems) {
      foretrain::print_system(name);
    }
    foretrain::print_published();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "contention_table: %s\n", e.what());
    return 1;
  }
}
