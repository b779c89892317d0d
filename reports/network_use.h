// How busy the links of a network are, for tables and for a drawing that can be read.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/units.h"
#include "topologies/network.h"

namespace foretrain::reports {

// Links of a class, those that nothing crosses too.
struct LinkClassUse {
  std::string name;
  std::int64_t links = 0, idle = 0;
  Bandwidth capacity;            // of the fullest
  double busiest = 0, mean = 0;  // parts of the step
};

// What is drawn: all of a small network; of a large one the unit (node, or domain of nodes) with the busiest link, and
// the switches of the fabric that its links lead to.
struct DrawnVertex {
  std::string name;
  std::int64_t unit = -1;  // -1: of the fabric
  bool is_device = false;
};
struct DrawnLink {
  std::size_t from = 0, to = 0;  // vertices drawn
  int link_class = 0;
  Bandwidth capacity;
  double there = 0, back = 0;  // busy parts of the step
};

struct NetworkUse {
  std::string shape;  // of the fabric
  std::int64_t units = 0;
  bool is_whole = true;
  std::vector<std::string> class_names;  // by DrawnLink::link_class
  std::vector<LinkClassUse> classes;
  std::vector<DrawnVertex> vertices;
  std::vector<DrawnLink> links;
};

// `busy_seconds`: by link, of a step of so many seconds.
NetworkUse network_use(const topologies::Network& network, const std::vector<double>& busy_seconds,
                       double step_seconds);

nlohmann::ordered_json to_json(const NetworkUse& n);

}  // namespace foretrain::reports
