// Transfers of one round that take the same time, found from the routes alone: the coarsest equitable partition of
// transfers and links.
//
// Two transfers of a class have as many bytes, the same latency, and cross links of the same classes as often; two
// links of a class have the same capacity and are used equally much by every class of transfers:
//
//     A_ij = sum over transfers t of class i that cross l of  w_tl copies_t      is one number for all l of class j
//
// Max-min rates are a function of the system (sim/fair_share.h), and exchanging members of a class leaves the system as
// it is to every equation: so members of a class have one rate, and the system with one link per class and one flow
// per class, which uses A_ij of link j, has the same rates to the bit. When a class ends it ends as a whole, and what
// is left is equitable still.
//
// Found by refining colours: a link's colour takes in those of its transfers, a transfer's those of its links, until no
// class of transfers splits. Colours are hashes, so the partition is then checked against the definition; should it
// not hold, or should colours still split after many rounds, everything is a class of its own, which is always right.
// Nothing is assumed about the network: a slow link or a hashed path tells apart what it reaches.
// Source: McKay 1981 (colour refinement); Grohe et al. 2014 (reducing linear programs by it).
#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"
#include "sim/fair_share.h"

namespace foretrain::sim::collective {

struct RoutedTransfer {
  std::int64_t count = 1;   // chunks of each copy
  std::int64_t copies = 1;  // equal transfers between the same two
  Time latency;
  std::int32_t first_hop = 0, hops = 0;  // in RoutedTransfers::route
};

struct RoutedTransfers {
  std::vector<RoutedTransfer> transfers;
  std::vector<LinkUse> route;         // of one copy; links are indices of `capacities`
  std::vector<Bandwidth> capacities;  // of the links in use
};

struct TransferClasses {
  struct Class {
    std::int64_t count = 1;  // chunks
    Time latency;
    std::vector<LinkUse> route;  // links are indices of `capacities`; uses by all of the class together
    std::int64_t members = 0;    // transfers, copies counted
  };
  std::vector<Class> classes;         // by their first transfer
  std::vector<Bandwidth> capacities;  // of one link of each class
};

TransferClasses fold(const RoutedTransfers& round);
// Every transfer by itself, with its copies.
TransferClasses unfolded(const RoutedTransfers& round);

}  // namespace foretrain::sim::collective
