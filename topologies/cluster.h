// What the hardware is: devices in nodes, nodes on a fabric, and the profile that says how fast they really run.
// Rates are per direction. Every catalogue figure carries its source in the file it is read from.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/units.h"
#include "topologies/disturbance.h"

namespace foretrain::topologies {

struct Device {
  std::string name;
  Bytes memory;                    // capacity that a program can allocate
  Bandwidth memory_bandwidth;      // datasheet
  std::map<Dtype, FlopRate> peak;  // dense, by compute dtype
  int multiprocessors = 0;         // SMs; 0 on a CPU
  Bytes l2;
  double tdp_watts = 0;
  bool exclusive_streams = false;  // a CPU core: ops of all streams of one rank take turns
};

// A link class inside a node or between nodes, as a rank sees it.
struct Link {
  Bandwidth bandwidth;  // per device, one direction, datasheet
  Time latency;         // per hop
};

// The machine that a device hangs on, as one of its devices has it to itself; 0 where nothing is known.
struct HostPart {
  Bandwidth link;    // between the device and the host's memory, one direction
  Bandwidth memory;  // of the host's memory, this device's share
};

// `measured` tables of calibrate and fitted efficiencies; read from topologies/profiles/*.json.
struct Profile;

// How nodes and the network between them are built (topologies/fabric.h).
struct Fabric;

struct Cluster {
  std::string name;
  std::string description;
  std::int64_t nodes = 1;  // 0 only between reading the file and knowing the job's ranks
  int devices_per_node = 1;
  Device device;
  Link intra;  // device to device in one node
  Link inter;  // one device's share of the node's NICs
  HostPart host;
  bool this_machine = false;  // ranks are threads; they may outnumber the devices
  Bytes shared_memory;        // this_machine: all ranks together must fit in it; 0 elsewhere
  std::string profile_path;   // "" = none: generic figures
  std::shared_ptr<const Profile> profile;
  std::shared_ptr<const Fabric> fabric;  // null: devices of a node on one switch, nodes on another (intra, inter)
  std::vector<std::string> sources;      // of the figures above, "what: where from"
  Disturbance disturbance;               // none on this machine
  std::int64_t device_count() const { return nodes * devices_per_node; }
};

}  // namespace foretrain::topologies
