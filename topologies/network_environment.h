// Networks that collectives were measured on: what the links are, and, where several tables were measured, up to six
// numbers per collective that set NCCL's own figures right (sim/collective_price.h has the formula). The file is
// topologies/network_environments.json; scripts/fit-collectives writes its numbers.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "topologies/nccl_constants.h"

namespace foretrain::topologies {

// The two branches of a collective. The defaults are NCCL's constants alone.
struct CollectiveConstants {
  double ll_latency = 1;  // small messages: factor on NCCL's LL latency
  double ll_rate = 0.5;   // ... and their rate, as a fraction of the links'
  double latency = 1;     // large messages: factor on NCCL's Simple latency
  // ... fraction of NCCL's bandwidth that trees reach (all_reduce over three nodes or more); nothing: not measured
  std::optional<double> tree_efficiency;
  double efficiency = 1;  // ... that everything else reaches
  double ramp = 1;        // ... exponent q of (latency^q + transfer^q)^(1/q): 1 is a sum, less climbs more slowly
  std::string source;
};

struct NetworkEnvironment {
  std::string name, source;
  GpuGeneration generation = GpuGeneration::hopper;
  Bandwidth node_rate;    // of NCCL's ring inside a node, all channels together
  Bandwidth fabric_rate;  // of one rank's adapter
  int channels = 16;
  bool nvlink = true, in_switch = true;
  bool amd_host = false;            // NCCL's limits over the fabric depend on the maker of the processor
  int nvlink_ranks = 0;             // > 0: more ranks than these on a node are joined by slower links,
  Bandwidth beyond_rate;            // ... of this rate
  int domain = 0;                   // > 0: that many devices share an NVLink domain, whatever the nodes are
  std::vector<std::string> tables;  // of measurements on it; "*" stands for anything
  // Names of topologies/systems whose jobs are priced by it, within a node and over the fabric: of several
  // environments of a system the first that has constants for the collective.
  std::vector<std::string> node_systems, fabric_systems;
  // By collective's name ("all_reduce", ..., "sendrecv"), within a node and over the fabric.
  std::map<std::string, CollectiveConstants> node, fabric;
};

// The catalogue's; read once, for they do not change while the program runs.
const std::vector<NetworkEnvironment>& network_environments();
// In the file's order. Throws InputError with every mistake.
std::vector<NetworkEnvironment> load_network_environments(const std::string& path);
// `origin` stands in messages.
std::vector<NetworkEnvironment> network_environments_from_text(std::string_view text, const std::string& origin);
// The first whose `tables` match; nullptr when none does.
const NetworkEnvironment* environment_of(const std::vector<NetworkEnvironment>& all, const std::string& table);

}  // namespace foretrain::topologies
