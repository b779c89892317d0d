// Networks of a few nodes with round figures.
#pragma once

#include <cstdint>
#include <memory>

#include "topologies/cluster.h"
#include "topologies/fabric.h"
#include "topologies/network.h"

namespace foretrain::test {

// Nodes of `devices` on NVSwitch (100 GB/s) with an adapter each (10 GB/s): 1 us in the node, 5 us between nodes, 100
// ns for each switch beyond the first.
inline topologies::Fabric fabric_of(int devices) {
  topologies::Fabric f;
  f.node.devices = f.node.adapters = devices;
  f.node.bandwidth = {100e9};
  f.node.latency = {1'000'000};
  f.node.adapter_bandwidth = {10e9};
  f.latency = {5'000'000};
  f.switch_latency = {100'000};
  return f;
}

// `devices_per_node` 0: as many as the fabric's nodes have.
inline std::unique_ptr<topologies::Network> network_of(const topologies::Fabric& fabric, std::int64_t nodes,
                                                       int devices_per_node = 0) {
  topologies::Cluster c;
  c.nodes = nodes;
  c.devices_per_node = devices_per_node > 0 ? devices_per_node : fabric.node.devices / fabric.node.nodes_per_domain;
  c.fabric = std::make_shared<topologies::Fabric>(fabric);
  return topologies::make_network(c);
}

}  // namespace foretrain::test
