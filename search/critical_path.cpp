#include "search/critical_path.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "plan/cursor.h"
#include "plan/locate.h"
#include "sim/network.h"
#include "topologies/network.h"

namespace foretrain::search {

namespace {

// By when they ended, or began; within an instant as the timeline has them.
std::vector<const plan::Span*> by(Time plan::Span::*instant, const plan::Timeline& timeline, Time from) {
  std::vector<const plan::Span*> spans;
  for (const plan::Span& s : timeline.spans) {
    if (s.end > from) {
      spans.push_back(&s);
    }
  }
  std::stable_sort(spans.begin(), spans.end(),
                   [instant](const auto* a, const auto* b) { return a->*instant < b->*instant; });
  return spans;
}

bool takes_time(const plan::Span& s) {
  return s.end > s.start;
}

auto program_order(const plan::Span& s) {
  return std::tuple(s.step, s.op.instance, s.op.position);
}

// Compares spans with an instant.
struct Instant {
  Time plan::Span::*of;
  bool operator()(const plan::Span* s, const Time* t) const { return s->*of < *t; }
  bool operator()(const Time* t, const plan::Span* s) const { return *t < s->*of; }
};

class Walk {
 public:
  Walk(const plan::PlanGraph& graph, const topologies::Cluster& cluster, const plan::Timeline& timeline)
      : graph_(graph),
        per_unit_(topologies::devices_per_unit(cluster)),
        end_(timeline.step_ends.back()),
        begin_(timeline.step_ends.size() > 1 ? timeline.step_ends[timeline.step_ends.size() - 2] : Time{}),
        by_end_(by(&plan::Span::end, timeline, begin_)),
        by_start_(by(&plan::Span::start, timeline, begin_)) {}

  std::vector<PathPart> parts() {
    Time at = end_;
    const plan::Span* behind = nullptr;
    while (at > begin_) {
      const plan::Span* s = before(at, behind);
      if (s == nullptr) {
        add("", "", at - begin_);
        break;
      }
      if (s->end < at) {
        add("", "", at - s->end);
      }
      at = std::max(s->start, begin_);
      if (takes_time(*s)) {
        const plan::Op& op = *plan::locate(graph_, s->op).op;
        add(plan::kind_name(op.work), link_of(op, *s), s->end - at);
      }
      behind = s;
    }
    std::vector<PathPart> all;
    for (auto& [key, part] : parts_) {
      all.push_back(part);
    }
    std::stable_sort(all.begin(), all.end(), [](const PathPart& a, const PathPart& b) { return a.time > b.time; });
    return all;
  }

 private:
  // The order of preference that the header states; `behind` is nullptr at the path's end.
  const plan::Span* before(Time at, const plan::Span* behind) const {
    const auto [first, last] = std::equal_range(by_end_.begin(), by_end_.end(), &at, Instant{&plan::Span::end});
    const std::vector<const plan::Span*> ended(first, last);
    if (behind != nullptr) {
      if (const plan::Span* s = waited_for(*behind, ended)) {
        return s;
      }
      for (const plan::Span* partner : partners(*behind)) {
        if (const plan::Span* s = waited_for(*partner, ended)) {
          return s;
        }
      }
    }
    const plan::Span* any = nullptr;
    const auto preference = [behind](const plan::Span& s) {
      return std::tuple(behind != nullptr && s.rank != behind->rank, s.rank, s.stream);
    };
    for (const plan::Span* s : ended) {
      if (takes_time(*s) && (any == nullptr || preference(*s) < preference(*any))) {
        any = s;
      }
    }
    for (auto i = first; any == nullptr && i != by_end_.begin();) {
      const plan::Span* s = *--i;
      any = behind == nullptr || s->rank == behind->rank ? s : nullptr;
    }
    return any;
  }

  // Of these, all of one instant: one that the op depends on, else the one before it on its stream; what takes time
  // first.
  const plan::Span* waited_for(const plan::Span& s, const std::vector<const plan::Span*>& ended) const {
    const plan::Span* best = nullptr;
    const auto preference = [&](const plan::Span& e) { return std::tuple(!depends(s, e), !takes_time(e), e.stream); };
    for (const plan::Span* e : ended) {
      const bool earlier = e->rank == s.rank && program_order(*e) < program_order(s);
      if (earlier && (e->stream == s.stream || depends(s, *e)) &&
          (best == nullptr || preference(*e) <= preference(*best))) {
        best = e;
      }
    }
    return best;
  }

  // REQUIRES: `earlier` is so in the same rank's program.
  bool depends(const plan::Span& s, const plan::Span& earlier) const {
    const plan::Place to = plan::locate(graph_, s.op), from = plan::locate(graph_, earlier.op);
    const bool in_block = s.step == earlier.step && s.op.instance == earlier.op.instance &&
                          s.op.position - to.op_in_block == earlier.op.position - from.op_in_block;
    if (in_block && std::find(to.op->after.begin(), to.op->after.end(), from.op_in_block) != to.op->after.end()) {
      return true;
    }
    const plan::Role& role = graph_.roles[static_cast<std::size_t>(s.op.role)];
    return std::any_of(to.op->waits.begin(), to.op->waits.end(), [&](plan::EventId e) {
      const auto& records = from.op->records;
      return std::find(records.begin(), records.end(), e) != records.end() &&
             plan::event_copy(role, e, to.binding) == plan::event_copy(role, e, from.binding);
    });
  }

  std::vector<plan::MatchKey> keys(const plan::Span& s) const {
    const plan::Place place = plan::locate(graph_, s.op);
    const plan::Role& role = graph_.roles[static_cast<std::size_t>(s.op.role)];
    std::vector<plan::MatchKey> result;
    if (const auto* c = std::get_if<plan::Collective>(&place.op->work)) {
      result.push_back(plan::match_key(role, c->tag, place.binding));
    } else if (const auto* e = std::get_if<plan::Exchange>(&place.op->work)) {
      for (const plan::Message& m : e->messages) {
        result.push_back(plan::match_key(role, m.tag, place.binding));
      }
    }
    return result;
  }

  // Of the meetings that the op is part of, other ranks' spans: they began with it.
  std::vector<const plan::Span*> partners(const plan::Span& s) const {
    const std::vector<plan::MatchKey> own = keys(s);
    std::vector<const plan::Span*> result;
    if (own.empty()) {
      return result;
    }
    const auto [first, last] =
        std::equal_range(by_start_.begin(), by_start_.end(), &s.start, Instant{&plan::Span::start});
    std::copy_if(first, last, std::back_inserter(result), [&](const plan::Span* p) {
      const std::vector<plan::MatchKey> theirs = keys(*p);
      return p->rank != s.rank && p->step == s.step &&
             std::find_first_of(own.begin(), own.end(), theirs.begin(), theirs.end()) != own.end();
    });
    return result;
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
  const std::vector<const plan::Span*> by_end_, by_start_;
  std::map<std::pair<std::string, std::string>, PathPart> parts_;
};

}  // namespace

std::vector<PathPart> critical_path(const plan::PlanGraph& graph, const topologies::Cluster& cluster,
                                    const plan::Timeline& timeline) {
  return timeline.step_ends.empty() ? std::vector<PathPart>{} : Walk(graph, cluster, timeline).parts();
}

}  // namespace foretrain::search
