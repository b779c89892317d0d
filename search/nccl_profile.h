// The network part of a profile from what nccl-tests measured on the machine itself. Three figures are read off each
// sweep by asking the model (sim/network_alpha_beta.cpp) until it gives back the measurement:
//   rate     node_busbw, fabric_fraction or, of sendrecv, a message's fraction:   the time of the largest size
//   latency  node_extra, fabric_extra, or a message's latency:                    the median of the three smallest
//   sizes kappa    of the side, inside a node or over the fabric:                       the least mean |ln error| of
//   all sizes
// Sweeps that share a figure give it their mean.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "topologies/cluster.h"
#include "topologies/nccl_tests.h"
#include "topologies/profile.h"

namespace foretrain::search {

// A sweep beside what the profile makes of it.
struct NcclFit {
  std::string origin, collective;
  int ranks = 0, nodes = 0;
  std::int64_t smallest = 0, largest = 0;  // bytes
  std::string figure;                      // that the largest size sets: "fabric_fraction.all_reduce"
  double value = 0;
  double median_error = 0, worst_error = 0;  // of all sizes, relative; worst signed
  std::int64_t worst_bytes = 0;
};

struct NcclProfile {
  topologies::Profile profile;  // everything else is the cluster's profile
  std::vector<NcclFit> fits;
  std::vector<std::string> assumed, warnings;
};

// `cluster`: one node of the system that was measured, with its profile loaded. Requires: sweeps with a collective,
// ranks and nodes. Throws InputError for a sweep that the system cannot have run, and where none says anything.
NcclProfile profile_of(const topologies::Cluster& cluster, const std::vector<topologies::NcclSweep>& sweeps);

}  // namespace foretrain::search
