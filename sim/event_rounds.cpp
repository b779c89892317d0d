#include "sim/event_rounds.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "plan/cursor.h"
#include "sim/flow_instants.h"

namespace foretrain::sim {
namespace {

// Spans of every class, in order of completion.
class Trace : public plan::SpanSink {
 public:
  explicit Trace(const std::vector<RankClass>& classes) : spans(classes.size()) {
    for (std::size_t c = 0; c < classes.size(); ++c) {
      class_of_.emplace(classes[c].first, c);
    }
  }
  void span(const plan::Span& s) override { spans[class_of_.at(s.rank)].push_back(s); }

  std::vector<std::vector<plan::Span>> spans;

 private:
  std::unordered_map<plan::Rank, std::size_t> class_of_;
};

// What lies around the rounds of a step that are alike.
struct Window {
  Time period;
  Time since;    // nothing before them ends after
  Time longest;  // of their ops, as far as they are under way before the window ends
};

// What is left of the graph, all steps in one.
plan::PlanGraph what_is_left(const plan::PlanGraph& graph, const Rounds& rounds, int steps) {
  plan::PlanGraph left = graph;
  for (std::size_t r = 0; r < left.roles.size(); ++r) {
    std::vector<plan::Instance>& body = left.roles[r].program.body;
    body.clear();
    for (std::size_t s = 0; s < static_cast<std::size_t>(steps); ++s) {
      const std::vector<plan::Instance>& of_step = rounds.roles[r].bodies[s];
      body.insert(body.end(), of_step.begin(), of_step.end());
    }
  }
  return left;
}

// One class's spans in program order.
class Rows {
 public:
  Rows(const plan::Role& role, const RoundCut& cut, std::int32_t kept, std::vector<plan::Span> spans)
      : first_(plan::first_body_instance(role.program)), cut_(cut), kept_(kept), spans_(std::move(spans)) {
    std::sort(spans_.begin(), spans_.end(), [](const plan::Span& x, const plan::Span& y) { return x.op < y.op; });
  }

  // Of the ops before the next step begins.
  Time end_of(std::int32_t step) const {
    Time end;
    for (auto i = spans_.begin(); i != begin_of(instance_of(step + 1)); ++i) {
      end = std::max(end, i->end);
    }
    return end;
  }

  // When the first of what comes after the rounds of a step begins.
  Time begin_after(std::int32_t step) const {
    Time first = kNever;
    for (auto i = begin_of(cut_of(step)); i != spans_.end(); ++i) {
      first = std::min(first, i->start);
    }
    return first;
  }

  // Of a step; nothing where the last two rounds are not alike. From `until` on what comes after the rounds plays a
  // part: what begins or ends later need not be alike. `submit`: of the host, per round.
  std::optional<Window> find(std::int32_t step, Time until, Time submit, bool waits_for_host) const {
    const std::optional<Time> period = last_period(step, until);
    if (!period) {
      return std::nullopt;
    }
    Window w;
    w.period = *period;
    const auto same = [&](Time before, Time now) {
      return before + w.period == now || (before + w.period >= until && now >= until);
    };
    const std::int32_t cut = cut_of(step);
    auto end = begin_of(cut), begin = round(step, 1);
    bool is_held = false;
    std::int32_t alike = 1;
    for (; alike < kept_; ++alike) {
      const auto before = round(step, alike + 1);
      if (!std::equal(before, begin, begin, end, [&](const plan::Span& x, const plan::Span& y) {
            return x.op.instance + length() == y.op.instance && x.op.position == y.op.position &&
                   same(x.start, y.start) && same(x.end, y.end) &&
                   (x.held_by_host == y.held_by_host || y.start >= until);
          })) {
        break;
      }
      for (auto i = begin; i != end; ++i) {
        w.longest = std::max(w.longest, std::min(i->end, until) - i->start);
        is_held = is_held || (i->held_by_host && i->start < until);
      }
      end = begin;
      begin = before;
    }
    if (alike == 1 || (!waits_for_host && (submit > w.period || (is_held && submit != w.period)))) {
      return std::nullopt;
    }
    // The first round that the next one is like is itself like none.
    for (auto i = spans_.begin(); i != end; ++i) {
      w.since = std::max(w.since, i->end);
    }
    return w;
  }

 private:
  using Place = std::vector<plan::Span>::const_iterator;
  std::int32_t length() const { return static_cast<std::int32_t>(cut_.length); }
  std::int32_t cut_of(std::int32_t step) const { return instance_of(step) + static_cast<std::int32_t>(cut_.cut); }
  // Where so many rounds before the cut begin.
  Place round(std::int32_t step, std::int32_t before) const { return begin_of(cut_of(step) - before * length()); }
  // Between the ends of the last two rounds that were over by then.
  std::optional<Time> last_period(std::int32_t step, Time until) const {
    for (std::int32_t before = 0; before + 2 <= kept_; ++before) {
      const Place end = round(step, before), begin = round(step, before + 1);
      if (begin == spans_.begin() || begin == end) {
        return std::nullopt;
      }
      if (std::prev(end)->end <= until) {
        return std::prev(end)->end - std::prev(begin)->end;
      }
    }
    return std::nullopt;
  }
  std::int32_t instance_of(std::int32_t step) const {
    return first_ + step * static_cast<std::int32_t>(cut_.bodies[0].size());
  }
  Place begin_of(std::int32_t instance) const {
    return std::lower_bound(spans_.begin(), spans_.end(), instance,
                            [](const plan::Span& s, std::int32_t at) { return s.op.instance < at; });
  }

  std::int32_t first_;
  const RoundCut& cut_;
  std::int32_t kept_;
  std::vector<plan::Span> spans_;
};

struct HostWork {
  Time submit;
  bool holds = false;  // it waits for one of the ops
};

HostWork host_work(const RoleModel& model, const RoundCut& cut) {
  HostWork work;
  for (std::size_t i = cut.cut - cut.length; i < cut.cut; ++i) {
    for (const plan::BlockCall& call : model.role->segments[static_cast<std::size_t>(cut.bodies[0][i].segment)].calls) {
      for (const OpModel& op : model.blocks[static_cast<std::size_t>(call.block)]) {
        work.submit += Time{op.submit.value * call.count};
        work.holds = work.holds || (op.holds_host && call.count > 0);
      }
    }
  }
  return work;
}

// Of the last step, with `left_out` more periods from `from` on.
plan::Breakdown whole(const plan::PlanGraph& graph, std::int32_t role, const std::vector<plan::Span>& spans,
                      const std::vector<Time>& step_ends, Time from, Time period, std::int32_t left_out) {
  plan::BreakdownAccumulator accumulator(graph, role);
  for (const plan::Span& s : spans) {
    accumulator.add(s);
  }
  for (std::size_t i = 0; i + 1 < step_ends.size(); ++i) {
    accumulator.end_step(step_ends[i]);
  }
  for (const Time end : {from, from + period, step_ends.back()}) {
    accumulator.end_step(end);
  }
  const std::vector<plan::Breakdown> parts = accumulator.finish();
  plan::Breakdown sum = parts[parts.size() - 3];
  sum += parts.back();
  for (std::int32_t i = 0; i <= left_out; ++i) {
    sum += parts[parts.size() - 2];
  }
  return sum;
}

}  // namespace

std::optional<StepTimes> run_rounds(const plan::PlanGraph& graph, const std::vector<RoleModel>& models,
                                    const std::vector<RankClass>& classes, const Rounds& rounds,
                                    const EventOptions& options) {
  const plan::PlanGraph left = what_is_left(graph, rounds, options.steps);
  std::vector<RoleModel> left_models = models;
  for (RoleModel& m : left_models) {
    m.role = &left.roles[static_cast<std::size_t>(m.role - graph.roles.data())];
  }
  EventOptions one_step = options;
  one_step.steps = 1;
  Trace trace(classes);
  StepTimes result = run_events(left, left_models, classes, one_step, &trace);
  result.step_ends.assign(static_cast<std::size_t>(options.steps), {});
  std::vector<Rows> rows;
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const auto role = static_cast<std::size_t>(classes[c].role);
    rows.emplace_back(left.roles[role], rounds.roles[role], rounds.kept, trace.spans[c]);
  }
  std::vector<Window> windows(result.step_ends.size());
  for (std::int32_t step = 0; step < options.steps; ++step) {
    Window& w = windows[static_cast<std::size_t>(step)];
    Time until = kNever;
    for (const Rows& r : rows) {
      until = std::min(until, r.begin_after(step));
    }
    for (std::size_t c = 0; c < classes.size(); ++c) {
      const HostWork host = host_work(models[static_cast<std::size_t>(classes[c].model)],
                                      rounds.roles[static_cast<std::size_t>(classes[c].role)]);
      const std::optional<Window> own = rows[c].find(step, until, host.submit, host.holds);
      if (!own || (c > 0 && own->period != w.period)) {
        return std::nullopt;
      }
      w.period = own->period;
      w.since = std::max(w.since, own->since);
      w.longest = std::max(w.longest, own->longest);
      Time& end = result.step_ends[static_cast<std::size_t>(step)];
      end = std::max(end, rows[c].end_of(step));
    }
    if (w.since + w.longest + w.period > until) {
      return std::nullopt;
    }
  }
  const Window& last = windows.back();
  for (std::size_t c = 0; c < classes.size(); ++c) {
    result.breakdown[c] = whole(left, classes[c].role, trace.spans[c], result.step_ends, last.since + last.longest,
                                last.period, rounds.left_out);
  }
  Time later;
  for (std::size_t s = 0; s < windows.size(); ++s) {
    later += Time{windows[s].period.value * rounds.left_out};
    result.step_ends[s] += later;
  }
  result.rounds_left_out = rounds.left_out;
  return result;
}

}  // namespace foretrain::sim
