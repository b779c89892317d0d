// Packets beside our flows, where ns-3's library was present at build time (packet_level.cpp, else
// no_packet_level.cpp).
#pragma once

#include <optional>

#include "tests/support/flow_traffic.h"

namespace foretrain::sim {

// Leaves of equally many hosts under one spine; full-duplex cables.
struct LeafSpine {
  int leaves = 1, hosts_per_leaf = 1;
  Bandwidth host, uplink;  // of a host's cable; of a leaf's to the spine
  Time latency;            // of a cable
  int hosts() const { return leaves * hosts_per_leaf; }
};

// The same as flows see it: no packet waits for its last bit on the way, and headers are bandwidth that is not there.
Platform as_flows(const LeafSpine& network);

// Runs the traffic in ns-3: UDP at line rate in packets of kPayload bytes, switches that store and forward, queues that
// lose nothing. Messages of one pair arrive in the order in which they were sent. None where ns-3 is absent.
std::optional<FlowRun> run_packets(const LeafSpine& network, Traffic& traffic);

// Of a packet: bytes of the message, and of UDP, IPv4 and point-to-point headers.
inline constexpr int kPayload = 4096, kHeaders = 8 + 20 + 2;

}  // namespace foretrain::sim
