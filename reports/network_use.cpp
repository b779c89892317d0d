#include "reports/network_use.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "reports/text.h"

namespace foretrain::reports {

namespace {

using topologies::LinkEnds;
using topologies::LinkId;
using topologies::LinkInfo;
using topologies::Network;

constexpr std::int64_t kDrawnWhole = 200;  // vertices
constexpr std::size_t kDrawnOfTier = 16;   // switches, of a large network

std::vector<LinkClassUse> class_uses(const Network& network, const std::vector<double>& busy) {
  std::vector<LinkClassUse> classes;
  for (const std::string& name : network.link_classes()) {
    classes.push_back({name, 0, 0, {}, 0, 0});
  }
  for (LinkId id = 0; id < network.link_count(); ++id) {
    const LinkInfo info = network.link(id);
    LinkClassUse& c = classes[static_cast<std::size_t>(info.link_class)];
    const double part = busy[static_cast<std::size_t>(id)];
    if (c.links == 0 || part > c.busiest) {
      c.capacity = info.capacity;
    }
    ++c.links;
    c.idle += part == 0 ? 1 : 0;
    c.busiest = std::max(c.busiest, part);
    c.mean += part;
  }
  for (LinkClassUse& c : classes) {
    c.mean /= static_cast<double>(std::max<std::int64_t>(1, c.links));
  }
  std::erase_if(classes, [](const LinkClassUse& c) { return c.links == 0; });
  return classes;
}

// Vertices of the busiest unit, and the busiest switches that its links and theirs lead to.
std::vector<std::int64_t> busiest_part(const Network& network, const std::vector<double>& busy) {
  std::int64_t unit = 0;
  double most = -1;
  std::map<std::int64_t, std::vector<LinkId>> of_fabric;  // by vertex: links to the fabric
  for (LinkId id = 0; id < network.link_count(); ++id) {
    const LinkEnds ends = network.ends(id);
    const std::int64_t from = network.unit_of(ends.from), to = network.unit_of(ends.to);
    if (to < 0) {
      of_fabric[ends.from].push_back(id);
    }
    if (std::max(from, to) >= 0 && busy[static_cast<std::size_t>(id)] > most) {
      most = busy[static_cast<std::size_t>(id)];
      unit = std::max(from, to);
    }
  }
  std::vector<std::int64_t> drawn;
  for (std::int64_t v = 0; v < network.vertex_count(); ++v) {
    if (network.unit_of(v) == unit) {
      drawn.push_back(v);
    }
  }
  // Two tiers: leaves, and what is above them.
  std::size_t from = 0;
  for (int tier = 0; tier < 2; ++tier) {
    std::vector<LinkId> links;
    for (const std::size_t end = drawn.size(); from < end; ++from) {
      links.insert(links.end(), of_fabric[drawn[from]].begin(), of_fabric[drawn[from]].end());
    }
    std::stable_sort(links.begin(), links.end(), [&](LinkId a, LinkId b) {
      return busy[static_cast<std::size_t>(a)] > busy[static_cast<std::size_t>(b)];
    });
    for (const LinkId id : links) {
      const std::int64_t to = network.ends(id).to;
      if (drawn.size() - from < kDrawnOfTier && std::find(drawn.begin(), drawn.end(), to) == drawn.end()) {
        drawn.push_back(to);
      }
    }
  }
  return drawn;
}

}  // namespace

NetworkUse network_use(const Network& network, const std::vector<double>& busy_seconds, double step_seconds) {
  std::vector<double> busy;
  for (const double s : busy_seconds) {
    busy.push_back(s / step_seconds);
  }
  NetworkUse use;
  use.shape = network.fabric_shape();
  use.class_names = network.link_classes();
  use.classes = class_uses(network, busy);
  use.units = network.devices() == 0 ? 0 : network.unit_of(network.devices() - 1) + 1;
  use.is_whole = network.vertex_count() <= kDrawnWhole;
  std::vector<std::int64_t> drawn;
  if (use.is_whole) {
    for (std::int64_t v = 0; v < network.vertex_count(); ++v) {
      drawn.push_back(v);
    }
  } else {
    drawn = busiest_part(network, busy);
  }
  std::map<std::int64_t, std::size_t> place;
  for (const std::int64_t v : drawn) {
    place.try_emplace(v, place.size());
    use.vertices.push_back({network.vertex_name(v), network.unit_of(v), v < network.devices()});
  }
  std::map<std::pair<std::size_t, std::size_t>, std::size_t> between;
  for (LinkId id = 0; id < network.link_count(); ++id) {
    const LinkEnds ends = network.ends(id);
    const auto from = place.find(ends.from), to = place.find(ends.to);
    if (from == place.end() || to == place.end()) {
      continue;
    }
    const LinkInfo info = network.link(id);
    const double part = busy[static_cast<std::size_t>(id)];
    const auto pair = std::minmax(from->second, to->second);
    const auto [known, is_new] = between.try_emplace({pair.first, pair.second}, use.links.size());
    if (is_new) {
      use.links.push_back({pair.first, pair.second, info.link_class, info.capacity, 0, 0});
    }
    DrawnLink& link = use.links[known->second];
    double& way = from->second < to->second ? link.there : link.back;
    way = std::max(way, part);
  }
  return use;
}

nlohmann::ordered_json to_json(const NetworkUse& n) {
  using Json = nlohmann::ordered_json;
  Json classes = Json::array(), vertices = Json::array(), links = Json::array();
  for (const LinkClassUse& c : n.classes) {
    classes.push_back({{"name", c.name},
                       {"links", c.links},
                       {"idle", c.idle},
                       {"bandwidth_bytes_per_s", number(c.capacity.value)},
                       {"busiest", number(c.busiest)},
                       {"mean", number(c.mean)}});
  }
  for (const DrawnVertex& v : n.vertices) {
    vertices.push_back({{"name", v.name}, {"unit", v.unit}, {"device", v.is_device}});
  }
  for (const DrawnLink& l : n.links) {
    links.push_back({{"from", l.from},
                     {"to", l.to},
                     {"class", l.link_class},
                     {"bandwidth_bytes_per_s", number(l.capacity.value)},
                     {"there", number(l.there)},
                     {"back", number(l.back)}});
  }
  return {{"shape", n.shape},
          {"units", n.units},
          {"whole", n.is_whole},
          {"class_names", n.class_names},
          {"classes", std::move(classes)},
          {"vertices", std::move(vertices)},
          {"links", std::move(links)}};
}

}  // namespace foretrain::reports
