#include "search/critical_path.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "plan/locate.h"
#include "sim/network.h"
#include "topologies/network.h"

namespace foretrain::search {

namespace {

// Spans that take time, by when they ended.
std::vector<const plan::Span*> by_end(const plan::Timeline& timeline, Time from) {
  std::vector<const plan::Span*> spans;
  for (const plan::Span& s : timeline.spans) {
    if (s.end > s.start && s.end > from) {
      spans.push_back(&s);
    }
  }
  std::stable_sort(spans.begin(), spans.end(), [](const auto* a, const auto* b) { return a->end < b->end; });
  return spans;
}

class Walk {
 public:
  Walk(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const plan::Timeline& timeline)
      : graph_(graph),
        per_unit_(topologies::devices_per_unit(cluster)),
        end_(timeline.step_ends.back()),
        begin_(timeline.step_ends.size() > 1 ? timeline.step_ends[timeline.step_ends.size() - 2] : Time{}),
        spans_(by_end(timeline, begin_)) {}

  std::vector<PathPart> parts() {
    Time at = end_;
    plan::Rank rank = -1;
    while (at > begin_) {
      const plan::Span* s = before(at, rank);
      if (s == nullptr) {
        add("", "", at - begin_);
        break;
      }
      if (s->end < at) {
        add("", "", at - s->end);
      }
      const Time start = std::max(s->start, begin_);
      const plan::Op& op = *plan::locate(graph_, s->op).op;
      add(plan::kind_name(op.work), link_of(op, *s), s->end - start);
      at = start;
      rank = s->rank;
    }
    std::vector<PathPart> all;
    for (auto& [key, part] : parts_) {
      all.push_back(part);
    }
    std::stable_sort(all.begin(), all.end(), [](const PathPart& a, const PathPart& b) { return a.time > b.time; });
    return all;
  }

 private:
  // Of those that ended at that instant one of this rank, compute before all else; else one of any rank; else what this
  // rank (any, for -1) did last before it.
  const plan::Span* before(Time at, plan::Rank rank) const {
    const auto past =
        std::upper_bound(spans_.begin(), spans_.end(), at, [](Time t, const plan::Span* s) { return t < s->end; });
    const plan::Span* other = nullptr;
    const plan::Span* own = nullptr;
    for (auto i = past; i != spans_.begin();) {
      const plan::Span* s = *--i;
      if (s->end < at && (own != nullptr || other != nullptr)) {
        break;
      }
      const bool is_own = rank < 0 || s->rank == rank;
      if (is_own && (own == nullptr || s->stream == plan::kCompute)) {
        own = s;
      } else if (!is_own && s->end == at && other == nullptr) {
        other = s;
      }
      if (own != nullptr && own->end < at) {
        break;
      }
    }
    return own != nullptr ? own : other;
  }

  std::string link_of(const plan::Op& op, const plan::Span& s) const {
    const plan::Role& role = graph_.roles[static_cast<std::size_t>(s.op.role)];
    const plan::Stream& stream = role.streams[static_cast<std::size_t>(s.stream)];
    if (stream.kind != plan::StreamKind::collective && stream.kind != plan::StreamKind::point_to_point) {
      return stream.kind == plan::StreamKind::compute ? "" : std::string(plan::name(stream.kind));
    }
    const std::string axis = stream.experts ? "ep" : std::string(plan::name(stream.axis));
    bool inside = true;
    if (const auto* c = std::get_if<plan::Collective>(&op.work)) {
      const plan::Group& group = graph_.groups[static_cast<std::size_t>(c->group)];
      inside = sim::place_group(graph_.mesh, group, s.rank, per_unit_).nodes == 1;
    } else if (const auto* e = std::get_if<plan::Exchange>(&op.work)) {
      inside = std::all_of(e->messages.begin(), e->messages.end(), [&](const plan::Message& m) {
        return graph_.mesh.peer(s.rank, m.axis, m.peer, m.relative) / per_unit_ == s.rank / per_unit_;
      });
    } else {
      const plan::Group line{"", {{stream.axis, 0, {}, 1}}, {}};
      inside = sim::place_group(graph_.mesh, line, s.rank, per_unit_).nodes == 1;
    }
    return axis + (inside ? ", in the node" : ", between nodes");
  }

  void add(const std::string& kind, const std::string& link, Time time) {
    PathPart& part = parts_[{kind, link}];
    part.kind = kind;
    part.link = link;
    ++part.ops;
    part.time += time;
  }

  const plan::PlanGraph& graph_;
  const int per_unit_;
  const Time end_, begin_;
  const std::vector<const plan::Span*> spans_;
  std::map<std::pair<std::string, std::string>, PathPart> parts_;
};

}  // namespace

std::vector<PathPart> critical_path(const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                                    const plan::Timeline& timeline) {
  return timeline.step_ends.empty() ? std::vector<PathPart>{} : Walk(graph, cluster, timeline).parts();
}

}  // namespace foretrain::search
