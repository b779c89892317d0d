// Clusters as JSON: the "cluster" part of a job file, the catalogue's systems and devices.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/json.h"
#include "topologies/cluster.h"

namespace foretrain::topologies {

// Folders of the catalogue.
inline constexpr const char* kSystemFolder = "topologies/systems";
inline constexpr const char* kDeviceFolder = "topologies/devices";
inline constexpr const char* kProfileFolder = "topologies/profiles";

// Reads "system" (a catalogue name, a path, or an object), "nodes" and "devices_per_node" (fewer than the system has:
// runs that leave some idle), and "profile" in place of the system's. Nodes that are not given are 0: they follow from
// the ranks. Records mistakes, and then returns some cluster that breaks no invariant. The profile is named, not
// loaded.
Cluster read_cluster(ObjectReader& reader);

// A system by catalogue name or path, with one node. Throws InputError with every mistake.
Cluster load_system(const std::string& name_or_path);

// The part with every default filled in; read_cluster gives back an equal cluster.
nlohmann::json to_json(const Cluster& cluster);

}  // namespace foretrain::topologies
