// The "fabric" part of a system file (docs/formats.md has its keys).
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "base/json.h"
#include "topologies/cluster.h"
#include "topologies/fabric.h"

namespace foretrain::topologies {

// A bandwidth that a link can have: from 1 kB/s to 100 TB/s. Records a mistake otherwise and returns one that can be.
Bandwidth link_bandwidth(ObjectReader& reader, const std::string& key, std::optional<Bandwidth> fallback);

// A latency that a link can have: at most 10 s.
Time link_latency(ObjectReader& reader, const std::string& key, Time fallback);

// `cluster`: devices of a whole node, intra and inter, which absent figures follow from. Records mistakes, and then
// returns null.
std::shared_ptr<const Fabric> read_fabric(ObjectReader reader, const Cluster& cluster);

// Every default filled in; read_fabric gives back an equal fabric.
nlohmann::json to_json(const Fabric& fabric);

}  // namespace foretrain::topologies
