// Nodes as other tools print them: the matrix of `nvidia-smi topo -m`, the XML that NCCL writes to
// $NCCL_TOPO_DUMP_FILE, and hwloc's (`lstopo node.xml`).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "topologies/node_graph.h"

namespace foretrain::topologies {

struct ImportedNode {
  std::string format;              // "nvidia-smi topo -m", "NCCL topology XML", "hwloc XML"
  NodeGraph graph;                 // adapter_bandwidth 0 where the source does not say it
  std::vector<std::string> notes;  // what was assumed and what was left out, one line each
};

// Latencies of a hop that no source has: of the ring, Simple protocol, in NCCL 2.30.7 src/graph/tuning.cc.
inline constexpr Time kNvlinkHop{3'400'000}, kPcieHop{5'700'000};

// Each throws InputError "origin:line: what stood there, what is allowed", the first mistake only: the rest of a matrix
// or of a tree means nothing then.
//
// The matrix says how close two things are, not how they are joined. PIX and PXB: under one PCIe switch (one vertex for
// however many bridges); PHB and NODE: under one socket; SYS: under two. NV#: so many NVLinks, on an NVSwitch where all
// pairs of an island have equally many and a GPU could not have that many to each other one (18 in all), else straight.
// GPUs whose PCIe relation an NV# hides are placed by the adapters near them and by their CPU affinity. No rate is in
// it: NVLink at 25 GB/s (NVLink 2 to 4), PCIe 4.0 x16 at 31.5 GB/s and sockets at 16 GB/s are assumed, and said in the
// notes.
ImportedNode import_smi_matrix(std::string_view text, const std::string& origin);

// <cpu>, <pci>, <gpu>, <nvlink>, <nic>, <net>. PCIe from link_speed and link_width; NVLink by the GPU's sm: 20 GB/s
// (60), 14.0625 (86), 25 (70 to 90 else), 50 (100); sockets as NCCL 2.30.7 src/graph/topo.h has them by vendor and
// model; all NVSwitches are one. Adapters are the fastest <net>s; slower ones (storage, management) are left out.
ImportedNode import_nccl_xml(std::string_view text, const std::string& origin);

// hwloc 2 and 3: packages, bridges, PCI devices, the matrix NVLinkBandwidth or XGMIBandwidth. GPUs are devices that
// CUDA, NVML or RSMI know (numbered as there), where hwloc was built without these the 3D controllers; adapters are
// OpenFabrics devices, whose rate into the fabric hwloc does not know. Bridges with one way on are a wire as fast as
// its slowest part. All NVSwitches are one. Rates between sockets are not in it: 16 GB/s is assumed, and said.
ImportedNode import_hwloc_xml(std::string_view text, const std::string& origin);

// One of them, by how the file begins.
ImportedNode import_topology(const std::string& path);
ImportedNode import_topology_text(std::string_view text, const std::string& origin);

}  // namespace foretrain::topologies
