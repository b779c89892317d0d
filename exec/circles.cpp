#include "exec/circles.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace foretrain::exec {

namespace {

using Lane = std::pair<plan::Rank, plan::StreamId>;  // a stream of a rank

// Lanes that share an operation are of one set; a set is known by its least lane.
class Sets {
 public:
  Lane of(Lane lane) const {
    for (auto next = parents_.find(lane); next != parents_.end(); next = parents_.find(lane)) {
      lane = next->second;
    }
    return lane;
  }
  void join(const Lane& a, const Lane& b) {
    const auto [low, high] = std::minmax({of(a), of(b)});
    if (low != high) {
      parents_[high] = low;
    }
  }

 private:
  std::map<Lane, Lane> parents_;
};

class Finder {
 public:
  explicit Finder(const plan::PlanGraph& graph) : graph_(graph), mesh_(graph.mesh) {
    std::map<std::pair<std::vector<plan::Rank>, std::int32_t>, Lane> collectives;  // by members and tag
    std::map<std::tuple<plan::Rank, plan::Rank, std::int32_t>, Lane> messages;     // by ends and tag
    for_each_operation(
        [&](const Lane& lane, const plan::Collective& c) {
          collective_sets_.join(lane, collectives.try_emplace({members(lane, c), c.tag}, lane).first->second);
        },
        [&](const Lane& lane, const plan::Message& m) {
          const plan::Rank peer = mesh_.peer(lane.first, m.axis, m.peer, m.relative);
          const auto ends = m.send ? std::pair(lane.first, peer) : std::pair(peer, lane.first);
          message_sets_.join(lane, messages.try_emplace({ends.first, ends.second, m.tag}, lane).first->second);
          message_lanes_.insert(lane);
        });
    for (const Lane& lane : message_lanes_) {
      std::vector<plan::Rank>& reach = reach_[message_sets_.of(lane)];
      if (!reach.empty() && reach.back() == lane.first) {
        throw InputError(
            fmt::format("messages of this plan join several streams of rank {}: ranks on GPUs of their own "
                        "cannot tell them apart",
                        lane.first));
      }
      reach.push_back(lane.first);
    }
  }

  Circles circles() const {
    std::map<std::tuple<bool, std::vector<plan::Rank>, Lane>, int> indices;
    Circles found;
    found.of_tag.resize(static_cast<std::size_t>(mesh_.ranks()));
    const auto add = [&](plan::Rank rank, std::int32_t tag, bool is_message, const std::vector<plan::Rank>& members,
                         const Lane& set) {
      const auto [circle, is_new] =
          indices.try_emplace({is_message, members, set}, static_cast<int>(found.members.size()));
      if (is_new) {
        found.members.push_back(members);
      }
      const int known = found.of_tag[static_cast<std::size_t>(rank)].try_emplace(tag, circle->second).first->second;
      CHECK(known == circle->second, "rank {} has \"{}\" in two circles", rank,
            graph_.tags[static_cast<std::size_t>(tag)]);
    };
    for_each_operation(
        [&](const Lane& lane, const plan::Collective& c) {
          add(lane.first, c.tag, false, members(lane, c), collective_sets_.of(lane));
        },
        [&](const Lane& lane, const plan::Message& m) {
          const Lane set = message_sets_.of(lane);
          add(lane.first, m.tag, true, reach_.at(set), set);
        });
    return found;
  }

 private:
  template <class OnCollective, class OnMessage>
  void for_each_operation(const OnCollective& on_collective, const OnMessage& on_message) const {
    for (plan::Rank r = 0; r < mesh_.ranks(); ++r) {
      for (const plan::Block& block : graph_.roles[static_cast<std::size_t>(plan::role_of(graph_, r))].blocks) {
        for (const plan::Op& op : block.ops) {
          const Lane lane{r, op.stream};
          if (const auto* const collective = std::get_if<plan::Collective>(&op.work)) {
            on_collective(lane, *collective);
          } else if (const auto* const exchange = std::get_if<plan::Exchange>(&op.work)) {
            for (const plan::Message& message : exchange->messages) {
              on_message(lane, message);
            }
          }
        }
      }
    }
  }
  std::vector<plan::Rank> members(const Lane& lane, const plan::Collective& c) const {
    return plan::members(mesh_, graph_.groups[static_cast<std::size_t>(c.group)], lane.first);
  }

  const plan::PlanGraph& graph_;
  const plan::Mesh& mesh_;
  Sets collective_sets_, message_sets_;
  std::set<Lane> message_lanes_;
  std::map<Lane, std::vector<plan::Rank>> reach_;  // of each set of messages, its ranks
};

}  // namespace

Circles circles_of(const plan::PlanGraph& graph) {
  return Finder(graph).circles();
}

}  // namespace foretrain::exec
