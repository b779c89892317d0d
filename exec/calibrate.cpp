#include "exec/calibrate.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <memory>

#include "base/parallel.h"
#include "exec/calibrate_phase.h"
#include "topologies/this_machine.h"

namespace foretrain::exec {

namespace {

using Phases = std::vector<std::unique_ptr<Phase>>;

Phases phases_of(const Site& site) {
  Phases phases;
  phases.push_back(std::make_unique<OpsPhase>(site));
  if (site.scale.has_launches) {
    phases.push_back(std::make_unique<LaunchesPhase>(site));
  }
  phases.push_back(std::make_unique<MessagesPhase>(site, 2));
  for (const int ranks : site.scale.ranks) {
    phases.push_back(std::make_unique<SharingPhase>(site, ranks));
    phases.push_back(std::make_unique<CollectivesPhase>(site, ranks));
  }
  if (site.gpu == nullptr) {
    const int groups = std::max(2, site.cores);  // twice as many ranks as cores
    phases.push_back(std::make_unique<MessagesPhase>(site, 2, groups));
    phases.push_back(std::make_unique<CollectivesPhase>(site, 2, groups));
  }
  return phases;
}

// A rank in each process, with a GPU each.
Phases phases_between(const Site& site) {
  const int ranks = site.processes->count();
  Phases phases;
  phases.push_back(std::make_unique<MessagesPhase>(site, ranks));
  phases.push_back(std::make_unique<CollectivesPhase>(site, ranks));
  phases.push_back(std::make_unique<OverlapPhase>(site, ranks));
  return phases;
}

std::string date_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

void describe(const CalibrateOptions& options, const Site& site, topologies::Profile& profile) {
  profile.name = options.name;
  topologies::Measured& measured = profile.measured;
  measured.cores = site.cores;
  if (options.gpu != nullptr) {
    measured.device_memory = options.gpu->memory();
    measured.shared_cache = options.gpu->cache();
    const int gpus = site.processes != nullptr ? site.processes->count() : 1;
    measured.machine = fmt::format("{}{}, {}", gpus > 1 ? fmt::format("{} of ", gpus) : "", options.gpu->name(),
                                   to_string(measured.device_memory));
  } else {
    const topologies::CacheSizes caches = topologies::cache_sizes();
    measured.core_cache = caches.own;
    measured.shared_cache = caches.shared;
    measured.machine = fmt::format("{}, {} cores, {}", topologies::processor_name(), site.cores,
                                   to_string(topologies::available_memory()));
  }
  profile.description = fmt::format("measured on {}", measured.machine);
  measured.date = date_now();
  measured.commit = options.commit;
  measured.command = options.command;
}

}  // namespace

topologies::Profile calibrate(const CalibrateOptions& options) {
  return calibrate(options, options.gpu != nullptr ? scale_of_gpu(*options.gpu) : scale_of_cores(available_cores()));
}

topologies::Profile calibrate(const CalibrateOptions& options, const CalibrateScale& scale) {
  using Seconds = std::chrono::duration<double>;
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return Seconds(std::chrono::steady_clock::now() - begin); };
  const Seconds budget = options.budget;

  const Site site{scale, options.gpu != nullptr ? 1 : available_cores(), options.gpu, nullptr};
  const bool is_first = options.processes == nullptr || options.processes->number() == 0;
  const bool has_others = options.processes != nullptr && options.processes->count() > 1;
  const Site between{scale, 1, options.gpu, has_others ? options.processes : nullptr};
  // The others wait for number 0 where they next meet.
  Phases phases = is_first ? phases_of(site) : Phases{};
  for (auto& phase : has_others ? phases_between(between) : Phases{}) {
    phases.push_back(std::move(phase));
  }
  // Another round only if it ends in time.
  Seconds longest{0};
  bool goes_on = true;
  while (goes_on) {
    const Seconds start = elapsed();
    for (const auto& phase : phases) {
      if (options.on_progress) {
        options.on_progress(std::min(1.0, elapsed() / budget), phase->name());
      }
      phase->run(options.interrupted);
    }
    longest = std::max(longest, elapsed() - start);
    goes_on = elapsed() + longest < budget;
    if (has_others) {
      goes_on = options.processes->all_gather(goes_on ? "on" : "").front() == "on";
    }
  }

  topologies::Profile profile;
  describe(options, has_others ? between : site, profile);
  for (const auto& phase : phases) {
    if (is_first) {
      phase->report(profile.measured);
    }
  }
  level(profile.measured.sharing);
  return profile;
}

}  // namespace foretrain::exec
