// A Chakra execution trace of every rank on a cluster: nodes begin when all that they depend on is over.
//   compute      takes the trace's duration; where it has none, max(FLOPs / rate, bytes / rate) of the device as its
//                profile has them. A rank's device does one at a time, its host another
//   collective   begins when its last member has come and the group's one before is over; takes what the network model
//                says of such a group alone (sim/network_alpha_beta.cpp)
//   send, recv   begin when both have come; a message of the model
// The k-th collective of a group, and the k-th message of a pair and tag, are those that each rank's file has in k-th
// place. Not seen: communications that share links or slow the compute beside them, hosts that submit late.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/units.h"
#include "plan/foreign/chakra.h"
#include "plan/mesh.h"
#include "topologies/cluster.h"

namespace foretrain::search {

struct ChakraTraces {
  std::vector<std::string> origins;                       // by rank, for messages
  std::vector<std::vector<plan::ChakraNode>> nodes;       // by rank, in the file's order
  std::map<std::string, std::vector<plan::Rank>> groups;  // by name; a name that is not here means all ranks
};

struct ChakraReplay {
  Time step;              // from 0 to the last end
  plan::Rank last = 0;    // the rank that ends last; the lowest
  Time compute, network;  // of that rank: time while its device computes; while any communication of it is under way
  Time exposed;           // ... and its device does nothing
  Time recorded;          // step, were every communication as long as the trace says; 0: it does not say of all
  std::int64_t nodes = 0, without_duration = 0;  // compute nodes that were priced by FLOPs and bytes
  std::vector<std::string> assumed;
};

// `dtype`: of compute nodes without a duration. Ranks fill the cluster's nodes in order. Throws InputError for ranks
// that the cluster has no devices for, what Chakra's words do not settle, and traces that wait for each other for ever.
ChakraReplay replay(const ChakraTraces& traces, const topologies::Cluster& cluster, Dtype dtype);

}  // namespace foretrain::search
