// What happens to a run of weeks: failures by component, restarts, checkpoints, slow spells, what power is drawn. The
// file is topologies/operations.json, each figure with its source; users may bring their own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"

namespace foretrain::topologies {

// What interrupts a run. `share`: of a site's failures; with a rate of its own it is the same at every site.
struct FailureCause {
  std::string name, kind;  // kind: gpu, host, network, software, unknown
  double share = 0;
  std::optional<double> per_device_hour;
};

// A cluster that somebody counted on. Which one the next cluster will be like nobody knows: forecasts draw one.
struct Site {
  std::string name, source;
  double per_device_hour = 0;  // failures of all causes without a rate of their own
};

// From low to high, seconds or a fraction.
struct Range {
  double low = 0, high = 0;
  double mean() const { return (low + high) / 2; }
};

struct Operations {
  std::vector<FailureCause> causes;
  std::vector<Site> sites;
  double planned_per_device_hour = 0;  // stops that wait for the next checkpoint
  // Seconds, equally likely: until a failure is found, and from there to training again without reading the checkpoint.
  Range detect, resume;
  Bandwidth storage_per_node;  // where the cluster's own is not said
  // A device slows the whole job by `slowdown` (equally likely) for `spell` (seconds, equally likely in logarithm)
  double spells_per_device_hour = 0;
  Range spell, slowdown;
  std::vector<double> step_mean_over_median;  // of measured runs; a forecast draws one
  // Of a device's power limit: what it draws while it waits, and the rest of its node all the time; then the building.
  double waiting_power = 0, node_power = 0, pue = 1;
  std::string restart_source, storage_source, power_source;

  // Failures per device and hour of one cause at a site, and of all.
  double rate(const Site& site, const FailureCause& cause) const {
    return cause.per_device_hour.value_or(site.per_device_hour * cause.share);
  }
  double rate(const Site& site) const;
};

// "" reads the catalogue's. Throws InputError with every mistake.
Operations load_operations(const std::string& path);
// `origin` stands in messages.
Operations operations_from_text(std::string_view text, const std::string& origin);

// Leaves that site alone. Throws InputError for one that is not there.
void set_site(Operations& operations, const std::string& name);

// One site, whose failures stop a job of so many devices once in `seconds`, shared over all causes by their counts.
void set_mtbf(Operations& operations, double seconds, std::int64_t devices);

// "gpu=2e-5,NIC=1e-7": failures per device and hour of a kind, which its causes share as before, or of one cause.
// Throws InputError with what is allowed.
void set_failure_rates(Operations& operations, const std::string& text);

}  // namespace foretrain::topologies
