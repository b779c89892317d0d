#include "plan/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <variant>

#include "plan/cursor.h"
#include "plan/dump.h"

namespace foretrain::plan {
namespace {

constexpr std::size_t kMost = 20;

// Equal for the spans of one collective, or of a message's two ends; ranks stand for their classes.
struct Meeting {
  bool is_message = false;
  std::int32_t step = 0;
  MatchKey key;
  Rank first = 0, second = 0;  // the group's first class; or sender and receiver
  friend auto operator<=>(const Meeting&, const Meeting&) = default;
};

struct Met {
  std::vector<const Span*> spans;  // of a collective
  const Span *send = nullptr, *recv = nullptr;
};

// Walks one rank's program beside its spans.
class Checker {
 public:
  Checker(const PlanGraph& graph, const Timeline& timeline, Time slack)
      : graph_(graph), timeline_(timeline), slack_(slack) {}

  std::vector<std::string> check() {
    if (timeline_.spans.empty()) {
      fail("no spans");
      return lines_;
    }
    first_step_ = timeline_.spans.front().step;
    find_classes();
    if (!lines_.empty()) {
      return lines_;
    }
    for (std::size_t first = 0; first < timeline_.spans.size();) {
      std::size_t last = first;
      while (last < timeline_.spans.size() && timeline_.spans[last].rank == timeline_.spans[first].rank) {
        ++last;
      }
      check_rank(first, last);
      first = last;
    }
    check_meetings();
    check_step_ends();
    return lines_;
  }

 private:
  void fail(std::string line) {
    if (lines_.size() < kMost) {
      lines_.push_back(std::move(line));
    }
  }

  std::string at(const Span& s) const {
    return fmt::format("rank {} step {}: {} at {} ps", s.rank, s.step, describe(graph_, s.op), s.start.value);
  }

  void find_classes() {
    std::vector<std::int64_t> covered(graph_.roles.size(), 0);
    class_of_role_.assign(graph_.roles.size(), -1);
    for (std::size_t i = 0; i < timeline_.spans.size(); ++i) {
      const Span& s = timeline_.spans[i];
      if (i > 0 && timeline_.spans[i - 1].rank == s.rank) {
        continue;
      }
      if (s.rank < 0 || s.rank >= graph_.mesh.ranks() || !has_role(s) || role_of(graph_, s.rank) != s.op.role) {
        fail(fmt::format("rank {}: its first span is of role {}, which it does not have", s.rank, s.op.role));
        return;
      }
      if (!ranks_.insert(s.rank).second) {
        fail(fmt::format("rank {}: its spans do not stand together", s.rank));
        return;
      }
      covered[static_cast<std::size_t>(s.op.role)] += s.multiplicity;
      class_of_role_[static_cast<std::size_t>(s.op.role)] = s.rank;
    }
    for (std::size_t r = 0; r < covered.size(); ++r) {
      if (covered[r] != count(graph_.mesh, graph_.roles[r].ranks)) {
        fail(fmt::format("{}: spans stand for {} of {} ranks", graph_.roles[r].name, covered[r],
                         count(graph_.mesh, graph_.roles[r].ranks)));
      }
    }
  }

  bool has_role(const Span& s) const {
    return s.op.role >= 0 && s.op.role < static_cast<std::int32_t>(graph_.roles.size());
  }

  // Whose spans stand for a rank's.
  Rank class_of(Rank r) const {
    return ranks_.count(r) > 0 ? r : class_of_role_[static_cast<std::size_t>(role_of(graph_, r))];
  }

  void check_rank(std::size_t first, std::size_t last) {
    const Span& head = timeline_.spans[first];
    const int role_index = head.op.role;
    const Role& role = graph_.roles[static_cast<std::size_t>(role_index)];
    const Program& program = role.program;
    const int body = first_body_instance(program);
    const int epilogue = body + static_cast<int>(program.body.size());
    RankState state{role,
                    std::vector<Time>(role.streams.size()),
                    std::vector<Time>(static_cast<std::size_t>(event_copies(role))),
                    {},
                    {}};
    std::size_t next = first;
    // One of the program's lists, op by op; false at the first span that does not fit.
    const auto walk = [&](const std::vector<Instance>& instances, int first_instance, std::int32_t step) {
      for (ProgramCursor c(role, role_index, instances, first_instance, step); c; c.next(), ++next) {
        if (next == last) {
          fail(fmt::format("rank {} step {}: no span of {}", head.rank, step, describe(graph_, c.id())));
          return false;
        }
        const Span& s = timeline_.spans[next];
        if (s.op != c.id() || s.step != step || s.stream != c.op().stream || s.multiplicity != head.multiplicity) {
          fail(fmt::format("{}: expected {} in step {}", at(s), describe(graph_, c.id()), step));
          return false;
        }
        check_op(state, c, s);
      }
      return true;
    };
    if (head.op.instance < body && !walk(program.prologue, 0, first_step_)) {
      return;
    }
    std::int32_t step = first_step_;
    while (next < last && timeline_.spans[next].op.instance < epilogue) {
      if (!walk(program.body, body, step++)) {
        return;
      }
    }
    if (next < last && !walk(program.epilogue, epilogue, step - 1)) {
      return;
    }
    if (next < last) {
      fail(fmt::format("{}: after the end of the program", at(timeline_.spans[next])));
    }
    if (step - first_step_ != static_cast<std::int32_t>(timeline_.step_ends.size())) {
      fail(fmt::format("rank {}: spans of {} steps, {} steps have an end", head.rank, step - first_step_,
                       timeline_.step_ends.size()));
    }
  }

  struct RankState {
    const Role& role;
    std::vector<Time> stream_end;
    std::vector<Time> event_end;                          // of the latest record
    std::vector<Time> block_end;                          // of this block iteration's ops so far
    std::map<GroupId, std::pair<Rank, int>> group_class;  // first class of my group, and how many classes it has
  };

  void check_op(RankState& state, const ProgramCursor& c, const Span& s) {
    const Op& op = c.op();
    if (c.starts_block()) {
      state.block_end.clear();
    }
    Time& stream_end = state.stream_end[static_cast<std::size_t>(op.stream)];
    if (s.end < s.start || s.start < Time{}) {
      fail(fmt::format("{}: ends at {} ps", at(s), s.end.value));
    }
    if (s.start + slack_ < stream_end) {
      fail(fmt::format("{}: its stream is busy until {} ps", at(s), stream_end.value));
    }
    Time ready{};
    for (const std::uint16_t earlier : op.after) {
      ready = std::max(ready, state.block_end[earlier]);
    }
    for (const EventId event : op.waits) {
      ready = std::max(ready, state.event_end[copy(state.role, event, c)]);
    }
    if (s.start + slack_ < ready) {
      fail(fmt::format("{}: starts before what it depends on ends, at {} ps", at(s), ready.value));
    }
    stream_end = s.end;
    state.block_end.push_back(s.end);
    for (const EventId event : op.records) {
      state.event_end[copy(state.role, event, c)] = s.end;
    }
    const std::size_t step = static_cast<std::size_t>(s.step - first_step_);
    if (last_end_.size() <= step) {
      last_end_.resize(step + 1);
    }
    const int epilogue = first_body_instance(state.role.program) + static_cast<int>(state.role.program.body.size());
    if (s.op.instance < epilogue) {
      last_end_[step] = std::max(last_end_[step], s.end);
    }
    note_meetings(state, c, s);
  }

  static std::size_t copy(const Role& role, EventId event, const ProgramCursor& c) {
    return static_cast<std::size_t>(event_copy(role, event, c.binding()));
  }

  void note_meetings(RankState& state, const ProgramCursor& c, const Span& s) {
    if (const auto* collective = std::get_if<Collective>(&c.op().work)) {
      const auto [known, is_new] = state.group_class.try_emplace(collective->group);
      if (is_new) {
        std::set<Rank> classes;
        for (const Rank r : members(graph_.mesh, graph_.groups[static_cast<std::size_t>(collective->group)], s.rank)) {
          classes.insert(class_of(r));
        }
        known->second = {*classes.begin(), static_cast<int>(classes.size())};
      }
      if (known->second.second > 1) {
        const MatchKey key = match_key(state.role, collective->tag, c.binding());
        meetings_[{false, s.step, key, known->second.first, -1}].spans.push_back(&s);
      }
    } else if (const auto* exchange = std::get_if<Exchange>(&c.op().work)) {
      for (const Message& m : exchange->messages) {
        const Rank other = class_of(graph_.mesh.peer(s.rank, m.axis, m.peer, m.relative));
        const MatchKey key = match_key(state.role, m.tag, c.binding());
        Met& met = meetings_[{true, s.step, key, m.send ? s.rank : other, m.send ? other : s.rank}];
        (m.send ? met.send : met.recv) = &s;
      }
    }
  }

  void check_meetings() {
    for (const auto& [meeting, met] : meetings_) {
      if (met.send != nullptr && met.recv != nullptr && met.recv->end + slack_ < met.send->start) {
        fail(fmt::format("{}: received at {} ps what is sent from {} ps on", at(*met.recv), met.recv->end.value,
                         met.send->start.value));
      }
      for (const Span* s : met.spans) {
        const Time other = met.spans.front()->start;
        if (s->start + slack_ < other || other + slack_ < s->start) {
          fail(fmt::format("{}: another member starts at {} ps", at(*s), other.value));
        }
      }
    }
  }

  void check_step_ends() {
    for (std::size_t i = 0; i < std::min(last_end_.size(), timeline_.step_ends.size()); ++i) {
      const Time end = timeline_.step_ends[i];
      if (end + slack_ < last_end_[i] || last_end_[i] + slack_ < end) {
        fail(fmt::format("step {} ends at {} ps; its last op ends at {} ps", first_step_ + static_cast<std::int32_t>(i),
                         end.value, last_end_[i].value));
      }
    }
  }

  const PlanGraph& graph_;
  const Timeline& timeline_;
  Time slack_;
  std::int32_t first_step_ = 0;
  std::set<Rank> ranks_;
  std::vector<Rank> class_of_role_;
  std::map<Meeting, Met> meetings_;
  std::vector<Time> last_end_;  // by step
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> validate(const PlanGraph& graph, const Timeline& timeline, Time slack) {
  return Checker(graph, timeline, slack).check();
}

}  // namespace foretrain::plan
