#include "sim/link_loads.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "sim/lane_order.h"

namespace foretrain::sim {
namespace {

using plan::Rank;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

class Finder {
 public:
  Finder(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, const Meetings& meetings,
         const topologies::Cluster& cluster, const topologies::Network& network)
      : graph_(graph), models_(models), meetings_(meetings), cluster_(cluster), network_(network) {}

  LinkLoads find() {
    find_slow_links();
    find_lanes();
    for (std::size_t i = 0; i < meetings_.all.size(); ++i) {
      std::set<std::int32_t> shapes;
      for (const InstanceLane& lane : lanes_of_[i]) {
        shapes.insert(lane.shape);
      }
      for (const std::int32_t shape : shapes) {
        load(static_cast<std::int32_t>(i), shape);
      }
    }
    add_background();
    drop_those_never_full();
    out_.link_classes = network_.link_classes();
    return std::move(out_);
  }

 private:
  struct InstanceLane {
    std::int32_t shape = 0, stream = 0;
    Rate largest_cap = 0;
  };
  // An instance's meetings of one stream: one at a time.
  struct Use {
    std::int32_t instance = 0, stream = 0;
    auto operator<=>(const Use&) const = default;
  };
  struct Hop {
    std::int32_t link;
    std::int64_t use;
  };

  void find_slow_links() {
    const std::vector<std::string>& classes = network_.link_classes();
    for (const topologies::SlowLink& slow : cluster_.disturbance.links) {
      const auto named = std::find(classes.begin(), classes.end(), slow.link_class);
      if (named == classes.end()) {
        throw InputError(fmt::format("cluster.disturbance.links: {} has no links \"{}\"; expected one of: {}",
                                     cluster_.name, slow.link_class, fmt::join(classes, ", ")));
      }
      network_.route(slow.from, slow.to, 0, route_);
      bool is_on_the_way = false;
      for (const topologies::Route::Hop& hop : route_.hops) {
        if (network_.link(hop.link).link_class == named - classes.begin()) {
          is_on_the_way = true;
          slow_links_.try_emplace(hop.link, 1).first->second *= slow.speed;
        }
      }
      if (!is_on_the_way) {
        throw InputError(fmt::format("cluster.disturbance.links: the way from device {} to device {} has no \"{}\"",
                                     slow.from, slow.to, slow.link_class));
      }
    }
  }

  std::int32_t shape_index(const TrafficShape& shape) {
    const auto next = static_cast<std::int32_t>(out_.shapes.size());
    const auto [known, is_new] = shapes_.try_emplace(shape, next);
    if (is_new) {
      out_.shapes.push_back(shape);
    }
    return known->second;
  }

  // Streams are those of an instance's first member: it takes part in all meetings of the instance. Where it does not
  // know a shape that another member names, that one counts as a stream of its own.
  void find_lanes() {
    lanes_of_.resize(meetings_.all.size());
    lanes_in_order_.resize(models_.size());
    for (const bool first : {true, false}) {
      for (std::size_t i = 0; i < meetings_.role.size(); ++i) {
        for (const Lane& lane : models_[at(meetings_.role[i])].lanes) {
          const auto instance = at(meetings_.of_rank[i][at(lane.view)]);
          if ((meetings_.all[instance].seen.front() == meetings_.orbits.rank(i)) == first) {
            add_lane(lanes_of_[instance], shape_index(lane.shape), lane, first);
          }
        }
      }
    }
  }

  static void add_lane(std::vector<InstanceLane>& lanes, std::int32_t shape, const Lane& lane, bool first) {
    bool known = false;
    for (InstanceLane& l : lanes) {
      if (l.shape == shape && (!first || l.stream == lane.stream)) {
        l.largest_cap = std::max(l.largest_cap, lane.largest_cap);
        known = true;
      }
    }
    if (!known) {
      lanes.push_back({shape, first ? lane.stream : -1 - shape, lane.largest_cap});
    }
  }

  std::int64_t node_of(Rank device) const { return device / cluster_.devices_per_node; }
  bool is_seen(Rank r) const { return meetings_.orbits.seen(r) == r; }

  std::int32_t link_index(topologies::LinkId id, bool between_switches, double speed) {
    const auto next = static_cast<std::int32_t>(out_.links.size());
    const auto [known, is_new] = links_.try_emplace(id, next);
    if (is_new) {
      const topologies::LinkInfo info = network_.link(id);
      LinkLoads::Link link;
      double capacity = info.capacity.value;
      for (; capacity > 5e13 && link.scale < kMostScale; ++link.scale) {
        capacity /= 2;
      }
      nominal_.push_back(rate_of(Bandwidth{std::min(capacity, 5e13)}));
      link.capacity = std::max<Rate>(1, std::llround(static_cast<double>(nominal_.back()) * speed));
      link.link_class = info.link_class;
      link.is_between_switches = between_switches;
      out_.links.push_back(link);
    }
    return known->second;
  }

  // Appends the hops of one route that lie in one unit, or anywhere (unit -1).
  void add_hops(Rank from, Rank to, std::uint64_t salt, std::int64_t only_unit, std::int64_t use) {
    const topologies::Disturbance& d = cluster_.disturbance;
    network_.route(from, to, salt, route_);
    for (const topologies::Route::Hop& hop : route_.hops) {
      const topologies::LinkEnds ends = network_.ends(hop.link);
      const std::int64_t a = network_.unit_of(ends.from), b = network_.unit_of(ends.to);
      const bool between_switches = a < 0 && b < 0;
      if ((between_switches && network_.non_blocking() && slow_links_.empty()) ||
          (only_unit >= 0 && a != only_unit && b != only_unit)) {
        continue;
      }
      const auto slow = slow_links_.find(hop.link);
      const double speed = (a == b || between_switches ? 1 : speed_of(d.nodes, node_of(a >= 0 ? from : to))) *
                           (slow == slow_links_.end() ? 1 : slow->second);
      const std::int64_t part = (use * hop.share + route_.whole / 2) / route_.whole;
      hops_.push_back({link_index(hop.link, between_switches, speed), std::max<std::int64_t>(1, part)});
    }
  }

  void load(std::int32_t instance, std::int32_t shape) {
    const MeetingInstance& meeting = meetings_.all[at(instance)];
    const bool is_message = meeting.group == plan::kNoGroup;
    std::vector<Rank> members =
        is_message ? meeting.seen : plan::members(graph_.mesh, graph_.groups[at(meeting.group)], meeting.member);
    if (!is_message) {
      std::sort(members.begin(), members.end());
    }
    streams_.clear();
    add_streams(
        out_.shapes[at(shape)], members, topologies::devices_per_unit(cluster_), [&](Rank r) { return is_seen(r); },
        streams_);
    hops_.clear();
    const auto salt = static_cast<std::uint64_t>(meeting.group + 1);
    for (const Stream& s : streams_) {
      if (is_seen(s.to)) {
        add_hops(s.from, s.to, salt, -1, s.use);
      } else {
        const plan::Rank to = meetings_.orbits.seen(s.to);
        add_hops(s.from, s.to, salt, network_.unit_of(s.from), s.use);
        add_hops(meetings_.orbits.moved_with(s.from, s.to), to, salt, network_.unit_of(to), s.use);
      }
    }
    sum_hops();
    for (const Hop& hop : hops_) {
      std::int64_t use = hop.use;
      const LinkLoads::Link& link = out_.links[at(hop.link)];
      if (!link.is_between_switches) {
        const Wide most =
            ((static_cast<Wide>(nominal_[at(hop.link)]) << link.scale) * kWholeUse) / out_.shapes[at(shape)].unit;
        use = static_cast<std::int64_t>(std::min<Wide>(use, most));
      }
      out_.loads.push_back({instance, shape, hop.link, use});
    }
  }

  void sum_hops() {
    std::sort(hops_.begin(), hops_.end(), [](const Hop& x, const Hop& y) { return x.link < y.link; });
    std::size_t last = 0;
    for (std::size_t i = 1; i < hops_.size(); ++i) {
      if (hops_[i].link == hops_[last].link) {
        hops_[last].use += hops_[i].use;
      } else {
        hops_[++last] = hops_[i];
      }
    }
    hops_.resize(hops_.empty() ? 0 : last + 1);
  }

  void add_background() {
    for (const topologies::BackgroundFlow& flow : cluster_.disturbance.background) {
      hops_.clear();
      add_hops(flow.from, flow.to, 0, -1, kWholeUse);
      sum_hops();
      const auto self = static_cast<std::int32_t>(out_.background.size());
      LinkLoads::Background& b = out_.background.emplace_back();
      b.cap = rate_of(flow.bandwidth);
      for (const Hop& hop : hops_) {
        b.loads.push_back({self, 0, hop.link, hop.use});
      }
    }
  }

  static Wide full(const LinkLoads::Link& link) { return (static_cast<Wide>(link.capacity) << link.scale) * kWholeUse; }

  // What is under way at once holds some use, and beside it only what may overlap it. Between switches, where thousands
  // of uses meet and few of them have a rank in common, all count.
  Wide most_at_once(const std::map<Use, Wide>& uses, const LinkLoads::Link& link) {
    Wide result = 0;
    for (const auto& [use, largest] : uses) {
      result += largest;
    }
    if (link.is_between_switches || result <= full(link)) {
      return result;
    }
    result = 0;
    for (const auto& [one, own] : uses) {
      Wide with_it = own;
      for (const auto& [other, largest] : uses) {
        with_it += other == one || are_in_order(one.instance, other.instance) ? 0 : largest;
      }
      result = std::max(result, with_it);
    }
    return result;
  }

  bool are_in_order(std::int32_t a, std::int32_t b) {
    const auto [known, is_new] = in_order_.try_emplace(std::minmax(a, b), false);
    if (is_new) {
      const MeetingInstance &x = meetings_.all[at(a)], &y = meetings_.all[at(b)];
      std::vector<Rank> both;
      std::set_intersection(x.seen.begin(), x.seen.end(), y.seen.begin(), y.seen.end(), std::back_inserter(both));
      known->second = a != b && !both.empty() && seen_tells(x) && seen_tells(y) && has_in_order(both.front(), x, y);
    }
    return known->second;
  }

  // Whether what is seen in two instances is a rank of both: where they have all of the axis along which seen ranks
  // stand for others, or one coordinate of it.
  bool seen_tells(const MeetingInstance& meeting) const {
    if (meeting.group == plan::kNoGroup) {
      return true;
    }
    const std::vector<plan::AxisSpan>& spans = graph_.groups[at(meeting.group)].spans;
    return std::all_of(spans.begin(), spans.end(), [](const plan::AxisSpan& s) {
      return s.axis != plan::Axis::dp || (s.block == 0 && s.only.empty() && s.stride == 1);
    });
  }

  // Whether the rank has all its meetings of one in order with all of the other.
  bool has_in_order(Rank rank, const MeetingInstance& a, const MeetingInstance& b) {
    const std::size_t i = meetings_.orbits.index(rank);
    const auto role = at(meetings_.role[i]);
    const std::vector<Lane>& lanes = models_[role].lanes;
    std::optional<std::vector<std::vector<bool>>>& in_order = lanes_in_order_[role];
    if (!in_order) {
      in_order = lanes_in_order(models_[role]);
    }
    const auto instance = [&](const Lane& lane) { return &meetings_.all[at(meetings_.of_rank[i][at(lane.view)])]; };
    for (std::size_t x = 0; x < lanes.size(); ++x) {
      for (std::size_t y = 0; y < lanes.size(); ++y) {
        if (instance(lanes[x]) == &a && instance(lanes[y]) == &b && !(*in_order)[x][y]) {
          return false;
        }
      }
    }
    return true;
  }

  void drop_those_never_full() {
    std::vector<std::vector<const LinkLoads::Load*>> of_link(out_.links.size());
    for (const LinkLoads::Load& l : out_.loads) {
      of_link[at(l.link)].push_back(&l);
    }
    std::vector<Wide> most(out_.links.size(), 0);
    std::map<Use, Wide> uses;  // of a link: the largest at once
    for (std::size_t link = 0; link < of_link.size(); ++link) {
      uses.clear();
      for (const LinkLoads::Load* l : of_link[link]) {
        for (const InstanceLane& lane : lanes_of_[at(l->instance)]) {
          if (lane.shape == l->shape) {
            Wide& largest = uses[{l->instance, lane.stream}];
            largest = std::max(largest, static_cast<Wide>(l->use) * lane.largest_cap);
          }
        }
      }
      most[link] = most_at_once(uses, out_.links[link]);
    }
    for (const LinkLoads::Background& b : out_.background) {
      for (const LinkLoads::Load& l : b.loads) {
        most[at(l.link)] += static_cast<Wide>(l.use) * b.cap;
      }
    }
    std::vector<std::int32_t> renamed(out_.links.size(), -1);
    std::vector<LinkLoads::Link> kept;
    for (std::size_t link = 0; link < renamed.size(); ++link) {
      const LinkLoads::Link& l = out_.links[link];
      if (most[link] > full(l)) {
        renamed[link] = static_cast<std::int32_t>(kept.size());
        kept.push_back(l);
      }
    }
    const auto rename = [&](std::vector<LinkLoads::Load>& loads) {
      std::erase_if(loads, [&](const LinkLoads::Load& l) { return renamed[at(l.link)] < 0; });
      for (LinkLoads::Load& l : loads) {
        l.link = renamed[at(l.link)];
      }
    };
    rename(out_.loads);
    for (LinkLoads::Background& b : out_.background) {
      rename(b.loads);
    }
    out_.links = std::move(kept);
  }

  const plan::PlanGraph& graph_;
  const std::vector<RoleModel>& models_;
  const Meetings& meetings_;
  const topologies::Cluster& cluster_;
  const topologies::Network& network_;
  LinkLoads out_;
  std::map<TrafficShape, std::int32_t> shapes_;
  std::vector<std::vector<InstanceLane>> lanes_of_;                            // by instance
  std::vector<std::optional<std::vector<std::vector<bool>>>> lanes_in_order_;  // by role, once asked for
  std::map<std::pair<std::int32_t, std::int32_t>, bool> in_order_;             // by instances, as far as asked
  std::unordered_map<topologies::LinkId, std::int32_t> links_;
  std::unordered_map<topologies::LinkId, double> slow_links_;  // speed
  std::vector<Rate> nominal_;                                  // by link: not degraded
  topologies::Route route_;
  std::vector<Stream> streams_;
  std::vector<Hop> hops_;
};

}  // namespace

Orbits find_orbits(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                   const topologies::Cluster& cluster, const topologies::Network& network) {
  const topologies::Disturbance& d = cluster.disturbance;
  const int all = graph.mesh.size(plan::Axis::dp);
  if (!network.non_blocking() || !d.devices.empty() || !d.nodes.empty() || d.needs_links()) {
    return {graph.mesh, all};
  }
  std::int64_t unit = 1;  // ranks of one
  while (unit < network.devices() && network.unit_of(unit) == network.unit_of(0)) {
    ++unit;
  }
  return {graph.mesh, job_period(graph, models, unit)};
}

LinkLoads find_link_loads(const plan::PlanGraph& graph, const std::vector<RoleModel>& models, const Meetings& meetings,
                          const topologies::Cluster& cluster, const topologies::Network& network) {
  return Finder(graph, models, meetings, cluster, network).find();
}

}  // namespace foretrain::sim
