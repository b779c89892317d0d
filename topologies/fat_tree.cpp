// A folded Clos of any height, as an extended generalised fat tree (Oehring et al. 1995): a subtree of level l has m[l]
// subtrees of level l-1 below it, and every switch of level l-1 has w[l] parents. Level 0 are the ports.
//   W[l] = w[1] ... w[l]    switches of level l in one subtree, and cables out of each of its children
//   a port p lies in subtree t(p, l) = leaf(p) / (m[2] ... m[l]) of level l, which has the switches (t, 0 .. W[l]-1)
//   switch (t, b) of level l-1 reaches (t / m[l], b w[l] + i), i < w[l]: a route up is fixed by b at its top, and by
//   b / w[l] below
// Two ports meet at the lowest level where their subtrees are equal; any of its W switches joins them, and the way down
// has the same b. sprayed: all b at once, so the stage of a subtree is one vertex and the cables between two stages are
// one bundle (topologies/network.h). hashed: b = hash mod W.
// Leaves in order are: for each group of leaf_ports nodes' adapters, one leaf per rail.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "topologies/interconnect.h"
#include "topologies/tree_levels.h"

namespace foretrain::topologies {

namespace {

struct Stage {
  const char* one;
  const char* plural;
};
constexpr std::array<Stage, kMaxTiers + 1> kStages{
    {{"port", "ports"}, {"leaf", "leaves"}, {"spine", "spines"}, {"core", "cores"}, {"super core", "super cores"}}};

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

struct Level : TreeLevel {
  explicit Level(const TreeLevel& level) : TreeLevel(level) {}
  std::int64_t switches = 1;  // W, in one subtree
  std::int64_t subtrees = 1;  // in use
  std::int64_t replicas = 1;  // vertices per subtree: W where hashed, 1 where sprayed
  std::int64_t first_link = 0;
  std::int64_t first_vertex = 0;
};

class Tree : public Interconnect {
 public:
  Tree(const std::vector<TreeLevel>& levels, const Ports& ports, int rails, int radix, bool gateway)
      : ports_(ports), rails_(rails), radix_(radix), levels_(levels.begin(), levels.end()) {
    vertices_ = ports.count;
    for (std::size_t l = 1; l < levels_.size(); ++l) {
      Level& level = levels_[l];
      level.switches = levels_[l - 1].switches * level.parents;
      level.replicas = ports.routing == Routing::hashed ? level.switches : 1;
      level.subtrees = l == 1 ? leaf_count() : divide_up(levels_[l - 1].subtrees, level.children);
      level.first_link = links_;
      level.first_vertex = vertices_;
      links_ += 2 * children(l) * level.replicas;
      vertices_ += level.subtrees * level.replicas;
      add_classes(l);
    }
    if (gateway && top().subtrees > 1) {
      throw InputError("the rails of one tier meet nowhere, so that no link to another site could start there");
    }
    if (gateway && ports.routing == Routing::hashed) {
      first_gateway_link_ = links_;
      links_ += 2 * top().replicas;
      ++vertices_;
      // Each top switch can pass on all that its cables bring: the gateway adds no bound of its own.
      classes_.push_back(
          {"gateway", Bandwidth{top().cable.value * static_cast<double>(children(levels_.size() - 1))}, Time{}});
    }
  }

  std::int64_t link_count() const override { return links_; }
  const std::vector<LinkClass>& classes() const override { return classes_; }
  std::int64_t vertex_count() const override { return vertices_; }

  int link_class(std::int64_t link) const override {
    if (link >= first_gateway_link_) {
      return static_cast<int>(classes_.size()) - 1;
    }
    const std::size_t l = level_of_link(link);
    return l == 1 ? static_cast<int>((link - levels_[1].first_link) % 2) : static_cast<int>(l);
  }

  LinkEnds ends(std::int64_t link) const override {
    LinkEnds e;
    if (link >= first_gateway_link_) {
      const std::int64_t b = (link - first_gateway_link_) / 2;
      e = {top().first_vertex + b, vertices_ - 1};
    } else {
      const std::size_t l = level_of_link(link);
      const Level& level = levels_[l];
      const std::int64_t cable = (link - level.first_link) / 2;
      const std::int64_t child = cable / level.replicas, b = cable % level.replicas;
      e.from = l == 1 ? child : vertex(l - 1, child, b / (level.replicas / levels_[l - 1].replicas));
      e.to = vertex(l, l == 1 ? leaf_of(child) : child / level.children, b);
    }
    if (link % 2 == 1) {
      std::swap(e.from, e.to);
    }
    return e;
  }

  std::string vertex_name(std::int64_t v) const override {
    if (v < ports_.count) {
      return fmt::format("port {}", v);
    }
    if (first_gateway_link_ < links_ && v == vertices_ - 1) {
      return "gateway";
    }
    std::size_t l = levels_.size() - 1;
    while (levels_[l].first_vertex > v) {
      --l;
    }
    const std::int64_t at = v - levels_[l].first_vertex;
    const char* word = kStages[l].one;
    const std::int64_t subtree = at / levels_[l].replicas, replica = at % levels_[l].replicas;
    const std::string of = levels_[l].subtrees > 1 ? fmt::format(" {}", subtree) : "";
    if (levels_[l].replicas > 1) {
      return fmt::format("{}{} / {}", word, of, replica);
    }
    return levels_[l].switches > 1 ? fmt::format("{} stage{} (x{})", word, of, levels_[l].switches)
                                   : fmt::format("{}{}", word, of);
  }

  void route(std::int64_t from, std::int64_t to, std::uint64_t hash, Route& out) const override {
    std::int64_t a = leaf_of(from), b = leaf_of(to);
    std::size_t meet = 1;
    for (; a != b; ++meet) {
      if (meet + 1 == levels_.size()) {
        throw InputError(
            fmt::format("no route from adapter {} to adapter {}: nothing joins rail {} and rail {}; expected a second "
                        "tier, or \"pxn\": true",
                        from, to, from % rails_, to % rails_));
      }
      a /= levels_[meet + 1].children;
      b /= levels_[meet + 1].children;
    }
    climb(from, meet, hash, out);
    descend(to, meet, hash, out);
  }

  void leave(std::int64_t port, std::uint64_t hash, Route& out) const override {
    climb(port, levels_.size() - 1, hash, out);
    if (first_gateway_link_ < links_) {
      push(out, first_gateway_link_ + 2 * pick(levels_.size() - 1, hash));
    }
  }
  void enter(std::int64_t port, std::uint64_t hash, Route& out) const override {
    if (first_gateway_link_ < links_) {
      push(out, first_gateway_link_ + 2 * pick(levels_.size() - 1, hash) + 1);
    }
    descend(port, levels_.size() - 1, hash, out);
  }
  std::int64_t gateway() const override { return vertices_ - 1; }

  bool same_rail(std::int64_t a, std::int64_t b) const override { return a % rails_ == b % rails_; }

  // All that leaves a subtree comes over the adapters below it, spread evenly over uplinks that carry as much. Where
  // routes are hashed two flows may meet on one cable.
  bool non_blocking() const override {
    std::int64_t adapters = 1;  // below one subtree
    for (std::size_t l = 1; l < levels_.size(); ++l) {
      if (levels_[l].replicas > 1) {
        return false;
      }
      if (l + 1 == levels_.size() || levels_[l].subtrees == 1) {
        continue;
      }
      adapters = std::min(adapters * levels_[l].children, ports_.count);
      constexpr double kRounding = 1e-9;
      const double up = static_cast<double>(levels_[l + 1].switches) * levels_[l + 1].cable.value;
      if (up < static_cast<double>(adapters) * ports_.bandwidth.value * (1 - kRounding)) {
        return false;
      }
    }
    return true;
  }

  // Half of the ports send to the other half over the top: every level lets through what its cables carry.
  Bandwidth bisection() const override {
    double share = ports_.bandwidth.value;  // of one port
    std::int64_t ports_below = 1;
    for (std::size_t l = 2; l < levels_.size() && levels_[l - 1].subtrees > 1; ++l) {
      ports_below *= levels_[l - 1].children;
      const std::int64_t used = std::min(ports_below, divide_up(ports_.count, levels_[l - 1].subtrees));
      share = std::min(share,
                       static_cast<double>(levels_[l].switches) * levels_[l].cable.value / static_cast<double>(used));
    }
    return {top().subtrees > 1 ? 0 : static_cast<double>(ports_.count / 2) * share};
  }

  // Switches as one buys them: the top has all of its ports below, and may have several cables to one below.
  std::string shape() const override {
    std::string text;
    for (std::size_t l = 1; l < levels_.size(); ++l) {
      const bool is_top = l + 1 == levels_.size() && l > 1;
      const std::int64_t count =
          is_top ? divide_up(children(l) * levels_[l].switches, radix_) : levels_[l].switches * levels_[l].subtrees;
      text += fmt::format("{}{} {}", l == 1 ? "" : ", ", count, count == 1 ? kStages[l].one : kStages[l].plural);
    }
    return levels_.size() == 2 && rails_ == 1 ? "one switch"
           : rails_ > 1                       ? fmt::format("{} rails: {}", rails_, text)
                                              : text;
  }

 private:
  const Level& top() const { return levels_.back(); }

  std::int64_t leaf_of(std::int64_t port) const { return port / rails_ / levels_[1].children * rails_ + port % rails_; }
  std::int64_t leaf_count() const {
    return divide_up(divide_up(ports_.count, rails_), levels_[1].children) *
           std::min<std::int64_t>(rails_, ports_.count);
  }
  std::int64_t children(std::size_t l) const { return l == 1 ? ports_.count : levels_[l - 1].subtrees; }
  std::int64_t vertex(std::size_t l, std::int64_t subtree, std::int64_t replica) const {
    return levels_[l].first_vertex + subtree * levels_[l].replicas + replica;
  }
  std::size_t level_of_link(std::int64_t link) const {
    std::size_t l = levels_.size() - 1;
    while (levels_[l].first_link > link) {
      --l;
    }
    return l;
  }

  void add_classes(std::size_t l) {
    const Level& level = levels_[l];
    const std::int64_t cables = level.switches / level.replicas;
    const Bandwidth capacity{level.cable.value * static_cast<double>(cables)};
    const int width = static_cast<int>(cables);
    if (l == 1) {
      classes_.push_back({"adapter up", capacity, ports_.latency, width});
      classes_.push_back({"adapter down", capacity, Time{}, width});
    } else {
      classes_.push_back({fmt::format("tier {} to {}", l - 1, l), capacity, ports_.switch_latency, width});
    }
  }

  // The switch of a subtree of level l that the hash stands for; those below it on the way are b / w.
  std::int64_t pick(std::size_t l, std::uint64_t hash) const {
    return static_cast<std::int64_t>(hash % static_cast<std::uint64_t>(levels_[l].replicas));
  }
  void push(Route& out, std::int64_t link) const {
    out.hops.push_back({static_cast<LinkId>(link), 1});
    out.latency += classes_[static_cast<std::size_t>(link_class(link))].latency;
  }
  // Links between the port and level `meet`, of which `top` says which.
  void climb(std::int64_t port, std::size_t meet, std::uint64_t hash, Route& out) const {
    std::int64_t subtree = port;
    for (std::size_t l = 1; l <= meet; ++l) {
      push(out, cable(l, subtree, pick(meet, hash), meet));
      subtree = l == 1 ? leaf_of(port) : subtree / levels_[l].children;
    }
  }
  void descend(std::int64_t port, std::size_t meet, std::uint64_t hash, Route& out) const {
    const std::size_t begin = out.hops.size();
    climb(port, meet, hash, out);
    std::reverse(out.hops.begin() + static_cast<std::ptrdiff_t>(begin), out.hops.end());
    for (std::size_t i = begin; i < out.hops.size(); ++i) {
      ++out.hops[i].link;  // the way down of the same cable
    }
    out.latency -= ports_.latency;  // climb counted it; the way down of an adapter's cable has none
  }
  std::int64_t cable(std::size_t l, std::int64_t child, std::int64_t at_meet, std::size_t meet) const {
    return levels_[l].first_link +
           2 * (child * levels_[l].replicas + at_meet / (levels_[meet].replicas / levels_[l].replicas));
  }

  Ports ports_;
  int rails_, radix_;
  std::vector<Level> levels_;  // [0]: the ports
  std::vector<LinkClass> classes_;
  std::int64_t links_ = 0, vertices_ = 0;
  std::int64_t first_gateway_link_ = INT64_MAX;
};

}  // namespace

std::unique_ptr<Interconnect> make_fat_tree(const FatTree& tree, const Ports& ports, bool gateway) {
  return std::make_unique<Tree>(tree_levels(tree, ports), ports, tree.rails, tree.radix, gateway);
}

std::unique_ptr<Interconnect> make_non_blocking(const Ports& ports, bool gateway) {
  TreeLevel level;
  level.children = std::max<std::int64_t>(1, ports.count);
  level.parents = ports.cables;
  level.cable = {ports.bandwidth.value / ports.cables};
  return std::make_unique<Tree>(std::vector<TreeLevel>{TreeLevel{}, level}, ports, 1, 1, gateway);
}

}  // namespace foretrain::topologies
