// Flows beside SimGrid's: the same platform and traffic, one after the other in one run, and the ratio of their speeds.
//
//   build/release/flows_bench [--benchmark_filter=ring|256]
//
// SimGrid is given up after kPatience seconds, many times what we need: its ratio is then a lower bound.
// The platform is a fat tree: 32 hosts at a leaf with 50 GB/s each, 16 spines, every message between leaves sprayed
// over all of them; full bisection. There is no latency: with one, SimGrid's lazy update (its fastest, used here) goes
// wrong. Where both ran, the simulated ends of all messages are compared. Timed are the starts and the simulation, not
// the building of platforms.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>

#include "tests/support/simgrid.h"
#include "tests/support/traffic_patterns.h"

namespace foretrain::sim {
namespace {

constexpr int kLeafHosts = 32, kSpines = 16;
constexpr double kHostBandwidth = 50e9;
constexpr int kPatience = 120;

Platform fat_tree(int hosts) {
  Platform platform;
  platform.hosts = hosts;
  const int leaves = hosts / kLeafHosts, first_up = 2 * hosts, first_down = first_up + leaves * kSpines;
  platform.links.assign(static_cast<std::size_t>(first_up), {kHostBandwidth});
  platform.links.resize(static_cast<std::size_t>(first_down + leaves * kSpines),
                        {kHostBandwidth * kLeafHosts / kSpines});
  platform.spread.assign(static_cast<std::size_t>(first_up), 1);
  platform.spread.resize(platform.links.size(), kSpines);
  platform.route = [=](int from, int to, std::vector<LinkIndex>& route) {
    const int leaf = from / kLeafHosts, far_leaf = to / kLeafHosts;
    route.push_back(from);
    for (int s = 0; s < kSpines && leaf != far_leaf; ++s) {
      route.push_back(first_up + leaf * kSpines + s);
      route.push_back(first_down + far_leaf * kSpines + s);
    }
    route.push_back(hosts + to);
  };
  return platform;
}

// Everyone to everyone, 1 MB, all at once.
class AllToAll : public Traffic {
 public:
  explicit AllToAll(int hosts) : hosts_(hosts) {}
  std::int32_t size() const override { return hosts_ * (hosts_ - 1); }
  std::vector<std::pair<int, int>> pairs() const override {
    std::vector<std::pair<int, int>> pairs;
    for (int h = 0; h < hosts_; ++h) {
      for (int i = 1; i < hosts_; ++i) {
        pairs.emplace_back(h, (h + i) % hosts_);
      }
    }
    return pairs;
  }
  void begin(const Send& send) override {
    std::int32_t tag = 0;
    for (const auto& [from, to] : pairs()) {
      send(tag++, {from, to, Bytes{1'000'000}});
    }
  }
  void ended(std::int32_t, const Send&) override {}

 private:
  int hosts_;
};

// Random ends and sizes, the same in every run.
std::unique_ptr<Traffic> random_chains() {
  std::mt19937 random(1);
  return std::make_unique<RandomChains>(random, 1024, 10'000, 12'000);
}

struct Case {
  const char* name;
  int hosts;
  std::function<std::unique_ptr<Traffic>()> traffic;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"ring_1024", 1024, [] { return std::make_unique<RingAllReduce>(1024, Bytes{1 << 30}); }},
      {"all_to_all_256", 256, [] { return std::make_unique<AllToAll>(256); }},
      {"all_to_all_512", 512, [] { return std::make_unique<AllToAll>(512); }},
      {"random_10000_on_1024", 1024, random_chains},
  };
  return all;
}

struct Result {
  std::vector<double> walls_s;
  std::vector<double> ends_s;
};

// By case, then ours or SimGrid's.
std::map<std::string, std::map<bool, Result>>& results() {
  static std::map<std::string, std::map<bool, Result>> all;
  return all;
}

void run_case(benchmark::State& state, const Case& c, bool ours) {
  const Platform platform = fat_tree(c.hosts);
  for (auto _ : state) {
    const std::unique_ptr<Traffic> traffic = c.traffic();
    const std::optional<FlowRun> run =
        ours ? run_flows(platform, *traffic) : run_simgrid(platform, *traffic, SimgridUpdate::lazy, kPatience);
    if (!run) {
      state.SkipWithError("SimGrid was not found at build time (apt-get install libsimgrid-dev)");
      return;
    }
    state.SetIterationTime(run->wall_s);
    state.SetItemsProcessed(traffic->size());
    state.counters["given_up"] = run->ends_s.empty();
    results()[c.name][ours].walls_s.push_back(run->wall_s);
    results()[c.name][ours].ends_s = run->ends_s;
  }
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

void print_table() {
  fmt::print("\n{:<24}{:>10}{:>14}{:>16}{:>8}{:>24}\n", "medians", "flows", "ours flows/s", "SimGrid flows/s", "ratio",
             "largest difference");
  for (const Case& c : cases()) {
    const auto& both = results()[c.name];
    if (!both.contains(true) || !both.contains(false)) {
      continue;
    }
    const Result &ours = both.at(true), &theirs = both.at(false);
    const auto flows = static_cast<double>(ours.ends_s.size());
    const double our_time = median(ours.walls_s), their_time = median(theirs.walls_s);
    if (theirs.ends_s.empty()) {
      fmt::print("{:<24}{:>10}{:>14.0f}{:>16}{:>8}   given up after {:.0f} s\n", c.name, flows, flows / our_time, "",
                 fmt::format("> {:.1f}", their_time / our_time), their_time);
      continue;
    }
    double difference = 0;
    for (std::size_t i = 0; i < ours.ends_s.size(); ++i) {
      difference = std::max(difference, std::abs(ours.ends_s[i] / theirs.ends_s[i] - 1));
    }
    fmt::print("{:<24}{:>10}{:>14.0f}{:>16.0f}{:>8.1f}{:>17.1e} of end\n", c.name, flows, flows / our_time,
               flows / their_time, their_time / our_time, difference);
  }
}

}  // namespace
}  // namespace foretrain::sim

int main(int argc, char** argv) {
  using foretrain::sim::cases;
  benchmark::Initialize(&argc, argv);
  for (const auto& c : cases()) {
    for (const bool ours : {true, false}) {
      benchmark::RegisterBenchmark((std::string(c.name) + (ours ? "/ours" : "/simgrid")).c_str(),
                                   [&c, ours](benchmark::State& s) { foretrain::sim::run_case(s, c, ours); })
          ->UseManualTime()
          ->Iterations(1)
          ->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  foretrain::sim::print_table();
}
