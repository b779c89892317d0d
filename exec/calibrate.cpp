#include "exec/calibrate.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <memory>

#include "exec/calibrate_phase.h"
#include "topologies/this_machine.h"

namespace foretrain::exec {

namespace {

constexpr int kMostRanks = 8;

std::vector<std::unique_ptr<Phase>> all_phases(int cores) {
  std::vector<std::unique_ptr<Phase>> phases;
  phases.push_back(std::make_unique<OpsPhase>());
  phases.push_back(std::make_unique<MessagesPhase>());
  for (const int ranks : {2, 3, 4, 6, kMostRanks}) {
    if (ranks <= 2 * cores) {
      phases.push_back(std::make_unique<SharingPhase>(ranks, cores));
      phases.push_back(std::make_unique<CollectivesPhase>(ranks));
    }
  }
  return phases;
}

std::string date_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

}  // namespace

topologies::Profile calibrate(const CalibrateOptions& options) {
  using Seconds = std::chrono::duration<double>;
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return Seconds(std::chrono::steady_clock::now() - begin); };
  const Seconds budget = options.budget;

  const int cores = topologies::available_cores();
  const std::vector<std::unique_ptr<Phase>> phases = all_phases(cores);
  // Another round only if it ends in time.
  Seconds longest{0};
  do {
    const Seconds start = elapsed();
    for (const auto& phase : phases) {
      if (options.on_progress) {
        options.on_progress(std::min(1.0, elapsed() / budget), phase->name());
      }
      phase->run(options.interrupted);
    }
    longest = std::max(longest, elapsed() - start);
  } while (elapsed() + longest < budget);

  topologies::Profile profile;
  profile.name = options.name;
  topologies::Measured& measured = profile.measured;
  measured.cores = cores;
  measured.machine =
      fmt::format("{}, {} cores, {}", topologies::processor_name(), cores, to_string(topologies::available_memory()));
  profile.description = fmt::format("measured on {}", measured.machine);
  measured.date = date_now();
  measured.commit = options.commit;
  const topologies::CacheSizes caches = topologies::cache_sizes();
  measured.core_cache = caches.own;
  measured.shared_cache = caches.shared;
  measured.command = options.command;
  for (const auto& phase : phases) {
    phase->report(measured);
  }
  return profile;
}

}  // namespace foretrain::exec
