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

// Of a full Ethernet frame of 1514 bytes TCP carries 1448: what a host's link (Cluster::is_hosts) gives a run.
inline constexpr double kTcpPayload = 1448, kTcpFrame = 1514, kTcpShare = kTcpPayload / kTcpFrame;

// The machine that a device hangs on, as one of its devices has it to itself; 0 where nothing is known.
struct HostPart {
  Bandwidth link;    // between the device and the host's memory, one direction
  Bandwidth memory;  // of the host's memory, this device's share
};

// What data is read from: of each node, or (is_shared) of all together. Nothing known: reading takes no time.
struct Storage {
  Bandwidth bandwidth;
  Time latency;  // of each read
  bool is_shared = false;
};

// Hosts that a job names, by what their ranks are. None: whichever a launcher has.
struct NamedHosts {
  std::vector<std::string> worker, server, loader;

  bool empty() const { return worker.empty(); }
  std::vector<std::string> all() const {  // in the order of their ranks
    std::vector<std::string> names = worker;
    names.insert(names.end(), server.begin(), server.end());
    names.insert(names.end(), loader.begin(), loader.end());
    return names;
  }
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
  Link inter;  // one device's share of the node's NICs; of hosts (below) the host's link, which its ranks share
  HostPart host;
  Storage storage;
  bool this_machine = false;  // ranks are threads; they may outnumber the devices
  // this_machine: its GPUs, not its cores. With one device all ranks share it; else each has its own.
  bool is_gpu = false;
  Bytes shared_memory;  // this_machine: all ranks of a host together must fit in it; 0 elsewhere
  // this_machine with several nodes: hosts like this machine, on each the same number of ranks (devices_per_node), in
  // blocks by rank. hosts_share_cores: they are network namespaces of one machine.
  int cores_per_host = 0;
  bool hosts_share_cores = false;
  NamedHosts hosts;
  std::string profile_path;  // "" = none: generic figures
  std::shared_ptr<const Profile> profile;
  std::shared_ptr<const Fabric> fabric;  // null: devices of a node on one switch, nodes on another (intra, inter)
  std::vector<std::string> sources;      // of the figures above, "what: where from"
  Disturbance disturbance;               // on this machine slow devices only, which runs are held to
  std::int64_t device_count() const { return nodes * devices_per_node; }
  bool is_hosts() const { return this_machine && nodes > 1; }
  // Ranks share the machine's cores and memory, or one GPU.
  bool shares_devices() const { return this_machine && (!is_gpu || devices_per_node == 1); }
  // this_machine: that the ranks of one machine share; of all machines.
  std::int64_t machine_cores() const { return is_hosts() ? cores_per_host : device_count(); }
  std::int64_t cores() const { return machine_cores() * (is_hosts() && !hosts_share_cores ? nodes : 1); }
};

}  // namespace foretrain::topologies
