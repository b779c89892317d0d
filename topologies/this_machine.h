// What the machine that the program runs on says of itself. Linux; nothing is measured here.
#pragma once

#include <string>

#include "base/units.h"

namespace foretrain::topologies {

// RAM of the machine, or of the control group that the process lives in where that has less.
Bytes available_memory();

// Size of the caches that the first core has for itself beyond the first level, and of those that it shares; 0 where
// the system does not say.
struct CacheSizes {
  Bytes own, shared;
};
CacheSizes cache_sizes();

// Seconds in which cores of this machine had work and a hypervisor did not run them, since it started; in steps of the
// system's clock tick, 10 ms as a rule. 0 where the system does not say.
double stolen_seconds();
// What was measured while more than this part of the time was stolen says little of the machine.
inline constexpr double kMostStolen = 0.02;

// "Intel(R) Xeon(R) Platinum 8481C", from /proc/cpuinfo; "CPU" where it says nothing.
std::string processor_name();

// Where `calibrate` puts the profile that `this-machine` uses: $FORETRAIN_PROFILE, else
// $XDG_DATA_HOME/foretrain/this-machine.json, else ~/.local/share/foretrain/this-machine.json.
std::string this_machine_profile_path();
// The same of `calibrate --device cuda` and `this-gpu`: $FORETRAIN_GPU_PROFILE, else this-gpu.json there.
std::string this_gpu_profile_path();

}  // namespace foretrain::topologies
