// The routed network as the simulator sees it: directed links with a capacity, and for every pair of end points the
// links that a flow between them loads.
//
// The mathematics. A flow f with rate r_f puts w_{f,l} r_f on link l, where w_{f,l} = share / whole (a Route has both).
// Rates are feasible when, for every link l,    sum over f of w_{f,l} r_f  <=  capacity(l).
//   one path (hashed ECMP, dimension order):  w = 1 on each link of it;
//   sprayed over several paths:               w_l = the part of the flow that crosses l; no switch keeps any.
// Bundles. Where spraying is even over W parallel cables (every flow out of a subtree of a fat tree uses each of its W
// uplinks for 1/W), all W loads are equal at all times, and the W constraints are one: the bundle is ONE link of
// capacity W c with w = 1 (`width` = W). This is exact for every flow system, not only for max-min fairness, because
// the W inequalities are the same inequality. A cable that is slowed to c' holds back each flow's share on it, and so
// the bundle to W c' (even spraying does not adapt). The bundle of a pod may carry petabytes a second; a solver that
// counts in smaller numbers takes the inequality divided by W: capacity / width, and share / (whole x width).
//
// Nothing is listed: links, routes and classes come arithmetically from the few numbers of a Fabric; routes inside a
// node from one table of one node. Values are immutable after construction and may be read from many threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/units.h"
#include "topologies/cluster.h"

namespace foretrain::topologies {

using LinkId = std::int32_t;

// A directed link, one direction of a cable or of a bundle of cables. Two links of a class are equal in everything.
struct LinkInfo {
  Bandwidth capacity;  // of all its cables together; more than zero
  Time latency;
  int link_class = 0;
  int width = 1;  // cables that stand behind it
};

struct LinkEnds {
  std::int64_t from = 0, to = 0;  // vertices
};

// What one flow loads, reused from call to call. With one path the links stand in path order; no link comes twice.
struct Route {
  struct Hop {
    LinkId link;
    std::int32_t share;  // of `whole`; 1 <= share <= whole
  };
  std::vector<Hop> hops;
  std::int32_t whole = 1;
  Time latency;  // of the longest of its paths: sum over its links

  void clear() {
    hops.clear();
    whole = 1;
    latency = {};
  }
};

// End points are the devices 0 .. devices()-1 in order of rank (node by node), then the host memories, if the node
// description has any. Vertices (end points are the first) are switches, adapters, sockets, or stages of them.
class Network {
 public:
  virtual ~Network() = default;

  virtual std::int64_t devices() const = 0;
  virtual std::int64_t hosts() const = 0;
  // The host memory nearest to a device, as an end point; -1 where the description has none.
  virtual std::int64_t host_of(std::int64_t device) const = 0;

  virtual LinkId link_count() const = 0;
  virtual LinkInfo link(LinkId id) const = 0;
  virtual const std::vector<std::string>& link_classes() const = 0;  // names, by LinkInfo::link_class

  // Replaces `out`. from == to: no links. `salt` tells flows of one pair apart where ECMP hashes (ports of a
  // connection); elsewhere it has no effect. Throws InputError that names both ends where there is no route.
  virtual void route(std::int64_t from, std::int64_t to, std::uint64_t salt, Route& out) const = 0;

  // Whether flows that do not fill an adapter can never fill a link between switches either, whatever they are: a
  // simulation may then leave these out. False where nobody has shown it.
  virtual bool non_blocking() const = 0;

  // Cheap for ends() and unit_of(); the rest is for drawings, checks and importers, not for simulation.
  virtual std::int64_t vertex_count() const = 0;
  virtual LinkEnds ends(LinkId id) const = 0;
  virtual std::string vertex_name(std::int64_t vertex) const = 0;
  virtual std::int64_t unit_of(std::int64_t vertex) const = 0;  // its node, or domain of nodes; -1: of the fabric
  virtual std::string fabric_shape() const = 0;                 // "8 rails: 32 leaves, 16 spines"; "" with one node
  // One direction, between the halves of the adapters (those of idle devices too) that the fabric joins worst, by its
  // formula; with one node, between the first and the last half of its devices.
  virtual Bandwidth bisection() const = 0;
};

// The network of the cluster's fabric (topologies/fabric.h). Requires: cluster.nodes >= 1. Throws InputError for a
// description that the cluster outgrows ("radix 64 in 2 tiers joins 2,048 adapters; 16,384 are asked for").
std::unique_ptr<Network> make_network(const Cluster& cluster);

// Of a node, or of a domain of nodes that share their switches (NVL72): devices that reach each other without adapters.
int devices_per_unit(const Cluster& cluster);

}  // namespace foretrain::topologies
