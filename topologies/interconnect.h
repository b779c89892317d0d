// What joins the adapters of all nodes. One implementation per kind of fabric, each with its arithmetic in its header
// comment; ports 0 .. ports-1 are adapters in order of their node.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "topologies/fabric.h"
#include "topologies/network.h"

namespace foretrain::topologies {

struct Ports {
  std::int64_t count = 0;
  Bandwidth bandwidth;  // of one adapter
  int cables = 1;       // that one adapter has
  Time latency;         // of the way from an adapter through one switch to another adapter
  Time switch_latency;  // of every further switch
  Routing routing = Routing::sprayed;
};

class Interconnect {
 public:
  virtual ~Interconnect() = default;
  virtual std::int64_t link_count() const = 0;
  virtual const std::vector<LinkClass>& classes() const = 0;
  virtual int link_class(std::int64_t link) const = 0;
  virtual LinkEnds ends(std::int64_t link) const = 0;
  // Vertices: the ports first, then switches or stages of them.
  virtual std::int64_t vertex_count() const = 0;
  virtual std::string vertex_name(std::int64_t vertex) const = 0;

  // Appends the links between two ports, with `whole` set where it is not 1, and adds the latency of the longest path.
  // `hash`: any number; picks the path where routing is hashed. Throws InputError where there is no route.
  // Requires: from != to; out.whole == 1.
  virtual void route(std::int64_t from, std::int64_t to, std::uint64_t hash, Route& out) const = 0;
  // Half of a route: from a port to where the fabric leaves for other sites, and back.
  virtual void leave(std::int64_t port, std::uint64_t hash, Route& out) const;
  virtual void enter(std::int64_t port, std::uint64_t hash, Route& out) const;
  virtual std::int64_t gateway() const;  // that vertex

  // As Network::non_blocking.
  virtual bool non_blocking() const;
  // Whether two ports are on one rail; true where there are no rails.
  virtual bool same_rail(std::int64_t a, std::int64_t b) const;
  virtual Bandwidth bisection() const = 0;
  virtual std::string shape() const = 0;  // "2 tiers, 8 rails, 16 leaves": for lists and drawings
};

// `gateway`: makes leave() and enter() possible. Each throws InputError that says what the numbers allow.
std::unique_ptr<Interconnect> make_fat_tree(const FatTree& tree, const Ports& ports, bool gateway);
std::unique_ptr<Interconnect> make_non_blocking(const Ports& ports, bool gateway);
std::unique_ptr<Interconnect> make_dragonfly(const Dragonfly& dragonfly, const Ports& ports);
std::unique_ptr<Interconnect> make_torus(const Torus& torus, const Ports& ports);
std::unique_ptr<Interconnect> make_interconnect(const Fabric& fabric, const Ports& ports);

}  // namespace foretrain::topologies
