// How long a compute op takes on one device, alone.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "plan/graph.h"
#include "sim/device_load.h"
#include "topologies/cluster.h"

namespace foretrain::sim {

class ComputeModel {
 public:
  virtual ~ComputeModel() = default;
  virtual std::string_view name() const = 0;
  // Seconds from the moment the op could start to its end: launch or dispatch included. Zero for a Join and for Host
  // work. Not for communication. Throws InputError for a dtype that the device does not have.
  virtual double seconds(const plan::Op& op) const = 0;
  // The same where all operands are in the core's caches; and what these hold while `ranks` share the machine: 0 where
  // the model knows no caches.
  virtual double cached_seconds(const plan::Op& op) const { return seconds(op); }
  virtual Bytes cache(std::int64_t ranks) const {
    (void)ranks;
    return {};
  }
  // The same beside communication kernels of this load all the time, never less than seconds(op): only models that know
  // multiprocessors and memory bandwidth, or have measured it, tell the difference.
  virtual double seconds_beside(const plan::Op& op, const DeviceLoad& load) const {
    (void)load;
    return seconds(op);
  }
  // By which factor the op slows down while `active` ranks of the machine compute. 1 unless ranks share a machine.
  virtual double slowdown(const plan::Op& op, std::int64_t active) const = 0;
};

// Name and one line on what the model does and does not, for messages and `list`.
struct ModelCard {
  std::string_view name, card;
};
const std::vector<ModelCard>& compute_models();

// "auto" takes the profile's tables where it has some. The cluster must outlive the model. Throws InputError for an
// unknown name, and for "measured" without tables. `clock` as of sim/power_limit.h, for what a profile gives figures
// of.
std::unique_ptr<ComputeModel> make_compute_model(const std::string& name, const topologies::Cluster& cluster,
                                                 double clock = 1);

// One function per file compute_<name>.cpp.
std::unique_ptr<ComputeModel> make_roofline(const topologies::Cluster& cluster, double clock = 1);
std::unique_ptr<ComputeModel> make_measured_compute(const topologies::Cluster& cluster);

}  // namespace foretrain::sim
