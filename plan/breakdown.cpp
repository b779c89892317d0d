#include "plan/breakdown.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <variant>

#include "base/error.h"
#include "plan/cursor.h"

namespace foretrain::plan {
namespace {

Share of_axis(Axis axis) {
  switch (axis) {
    case Axis::tp: return &Breakdown::exposed_tp;
    case Axis::dp: return &Breakdown::exposed_dp;
    case Axis::pp: return &Breakdown::exposed_pp;
    case Axis::cp: return &Breakdown::exposed_cp;
  }
  return &Breakdown::bubble;
}

Share of_stream(const Stream& stream) {
  const bool communicates = stream.kind == StreamKind::collective || stream.kind == StreamKind::point_to_point;
  return communicates ? (stream.experts ? &Breakdown::exposed_ep : of_axis(stream.axis)) : &Breakdown::host;
}

// Of an op on the compute stream. Communication may be put there to block it.
Share of_compute_op(const PlanGraph& graph, const Op& op) {
  if (const auto* collective = std::get_if<Collective>(&op.work)) {
    const Group& group = graph.groups[static_cast<std::size_t>(collective->group)];
    return group.spans.empty() ? &Breakdown::compute : of_axis(group.spans.back().axis);
  }
  if (const auto* exchange = std::get_if<Exchange>(&op.work); exchange != nullptr && !exchange->messages.empty()) {
    return of_axis(exchange->messages.front().axis);
  }
  if (std::holds_alternative<Host>(op.work)) {
    return &Breakdown::host;
  }
  switch (op.phase) {
    case Phase::recompute: return &Breakdown::recompute;
    case Phase::optimizer: return &Breakdown::optimizer;
    default: return &Breakdown::compute;
  }
}

// The k-th op of a stream other than compute; stream -1: none that could still be waited for.
struct Handle {
  int stream = -1;
  std::int64_t ordinal = 0;
};

// Known from two sides: its span, and its place in the program. Either may come first.
struct OtherOp {
  bool has_span = false, has_place = false;
  bool is_sent_to_host = false;  // what is trained on: the wait for who sends it is the host's, too
  Time start, end;
  std::vector<Handle> waits;
};

struct StreamWindow {
  std::deque<OtherOp> ops;
  std::int64_t first = 0;   // ordinal of ops.front()
  std::int64_t spans = 0;   // that came so far
  std::int64_t placed = 0;  // that the program walk passed so far

  OtherOp& at(std::int64_t ordinal) {
    while (first + static_cast<std::int64_t>(ops.size()) <= ordinal) {
      ops.emplace_back();
    }
    return ops[static_cast<std::size_t>(ordinal - first)];
  }
  // nullptr when it was dropped, or has not ended yet.
  const OtherOp* ended(std::int64_t ordinal) const {
    if (ordinal < first || ordinal - first >= static_cast<std::int64_t>(ops.size())) {
      return nullptr;
    }
    const OtherOp& op = ops[static_cast<std::size_t>(ordinal - first)];
    return op.has_span ? &op : nullptr;
  }
  // Nothing that ended before `t` can explain a wait after it.
  void drop_until(Time t) {
    while (!ops.empty() && ops.front().has_span && ops.front().has_place && ops.front().end <= t) {
      ops.pop_front();
      ++first;
    }
  }
};

struct Piece {
  Time start, end;
  Share share;
};

enum class Part : std::uint8_t { prologue, body, epilogue };

}  // namespace

struct BreakdownAccumulator::Impl {
  const PlanGraph& graph;
  const Role& role;
  int role_index;
  Time begin;       // of the period that is being summed
  Time busy_until;  // end of the last compute op: everything before is attributed
  std::vector<StreamWindow> streams;
  std::vector<Handle> events;     // by event copy: its latest record
  std::vector<Handle> block_ops;  // ops of the current block iteration
  std::optional<ProgramCursor> cursor;
  Part part = Part::body;
  std::int32_t step = 0;
  std::deque<Piece> pieces;  // attributed, in no finished period yet
  std::deque<Time> ends;     // of periods not finished yet
  std::vector<Breakdown> steps;
  Breakdown current;
  std::vector<Piece> gap;  // scratch, latest first

  Impl(const PlanGraph& g, int r, Time start)
      : graph(g),
        role(g.roles[static_cast<std::size_t>(r)]),
        role_index(r),
        begin(start),
        busy_until(start),
        streams(role.streams.size()),
        events(static_cast<std::size_t>(event_copies(role))) {}

  void enter(Part p) {
    const Program& program = role.program;
    part = p;
    const int before_body = first_body_instance(program);
    const int before_epilogue = before_body + static_cast<int>(program.body.size());
    if (p == Part::prologue) {
      cursor.emplace(role, role_index, program.prologue, 0);
    } else if (p == Part::body) {
      cursor.emplace(role, role_index, program.body, before_body, step);
    } else {
      cursor.emplace(role, role_index, program.epilogue, before_epilogue);
    }
  }

  // After the end of a part: a step follows, or the epilogue where the next op is one of it.
  void wrap(OpId next) {
    const std::size_t before_epilogue = role.program.prologue.size() + role.program.body.size();
    CHECK(part != Part::epilogue, "{}: spans after the epilogue", role.name);
    step += part == Part::body ? 1 : 0;
    enter(static_cast<std::size_t>(next.instance) >= before_epilogue ? Part::epilogue : Part::body);
  }

  // What the op at the cursor waits for on other streams; then notes its records.
  std::vector<Handle> place(Handle self) {
    const Op& op = cursor->op();
    if (cursor->starts_block()) {
      block_ops.clear();
    }
    std::vector<Handle> waits;
    for (const std::uint16_t position : op.after) {
      if (block_ops[position].stream >= 0) {
        waits.push_back(block_ops[position]);
      }
    }
    for (const EventId event : op.waits) {
      const Handle& record = events[static_cast<std::size_t>(event_copy(role, event, cursor->binding()))];
      if (record.stream >= 0) {
        waits.push_back(record);
      }
    }
    for (const EventId event : op.records) {
      events[static_cast<std::size_t>(event_copy(role, event, cursor->binding()))] = self;
    }
    block_ops.push_back(self);
    return waits;
  }

  void place_other() {
    const int stream = cursor->op().stream;
    StreamWindow& window = streams[static_cast<std::size_t>(stream)];
    const std::int64_t ordinal = window.placed++;
    std::vector<Handle> waits = place({stream, ordinal});
    OtherOp& op = window.at(ordinal);
    op.has_place = true;
    op.is_sent_to_host = role.streams[static_cast<std::size_t>(stream)].kind == StreamKind::host &&
                         std::holds_alternative<Exchange>(cursor->op().work);
    op.waits = std::move(waits);
  }

  // Walks the program up to the compute op `id`, which becomes the cursor's.
  void advance(OpId id) {
    for (int wraps = 0;;) {
      if (!*cursor) {
        CHECK(++wraps < 4, "{}: no op {}.{} on the compute stream", role.name, id.instance, id.position);
        wrap(id);
      } else if (cursor->op().stream == kCompute) {
        return;
      } else {
        place_other();
        cursor->next();
      }
    }
  }

  void push(Time start, Time end, Share share) {
    if (start >= end) {
      return;
    }
    if (!pieces.empty() && pieces.back().share == share && pieces.back().end == start) {
      pieces.back().end = end;
    } else {
      pieces.push_back({start, end, share});
    }
  }

  // Sums pieces into the periods whose ends are known and behind us.
  void close_steps() {
    while (!ends.empty() && ends.front() <= busy_until) {
      const Time end = ends.front();
      while (!pieces.empty() && pieces.front().start < end) {
        Piece& p = pieces.front();
        current.*p.share += std::min(p.end, end) - p.start;
        if (p.end > end) {
          p.start = end;
          break;
        }
        pieces.pop_front();
      }
      steps.push_back(current);
      current = {};
      begin = end;
      ends.pop_front();
    }
  }

  // Nothing was waited for and nothing ran: another stream's op may have had the device.
  void take_by_others(Time from, Time to) {
    while (from < to) {
      const OtherOp* last = nullptr;
      Share share = &Breakdown::bubble;
      for (std::size_t s = 0; s < streams.size(); ++s) {
        for (const OtherOp& op : streams[s].ops) {
          if (op.has_span && op.start < to && op.end > from && (last == nullptr || op.end > last->end)) {
            last = &op;
            share = of_stream(role.streams[s]);
          }
        }
      }
      const Time end = last == nullptr ? from : std::min(last->end, to);
      gap.push_back({end, to, &Breakdown::bubble});
      const Time start = last == nullptr ? from : std::max(last->start, from);
      gap.push_back({start, end, share});
      to = start;
    }
  }

  // [busy_until, to) before a compute op that waits for `waits`: back along what was waited for.
  void attribute_gap(Time to, const std::vector<Handle>& waits, bool held_by_host) {
    gap.clear();
    const Time from = busy_until;
    const std::vector<Handle>* next = &waits;
    Handle before;  // the op ahead on the stream of the one we look at
    Share waiting = &Breakdown::bubble;
    for (bool is_first = true; to > from; is_first = false) {
      const OtherOp* last = nullptr;
      Handle last_handle;
      const auto look = [&](const Handle& h) {
        const OtherOp* op = h.stream < 0 ? nullptr : streams[static_cast<std::size_t>(h.stream)].ended(h.ordinal);
        if (op != nullptr && op->end > from && (last == nullptr || op->end > last->end)) {
          last = op;
          last_handle = h;
        }
      };
      std::for_each(next->begin(), next->end(), look);
      look(before);
      const Time end = last == nullptr ? from : std::min(last->end, to);
      if (is_first && held_by_host) {
        gap.push_back({end, to, &Breakdown::host});
      } else if (is_first) {
        take_by_others(end, to);
      } else {
        gap.push_back({end, to, waiting});
      }
      if (last == nullptr) {
        break;
      }
      to = std::max(std::min(last->start, end), from);
      gap.push_back({to, end, of_stream(role.streams[static_cast<std::size_t>(last_handle.stream)])});
      waiting = last->is_sent_to_host ? &Breakdown::host : &Breakdown::bubble;
      next = &last->waits;
      before = {last_handle.stream, last_handle.ordinal - 1};
    }
    for (auto p = gap.rbegin(); p != gap.rend(); ++p) {
      push(p->start, p->end, p->share);
    }
  }

  void add(const Span& span) {
    if (!cursor) {
      step = span.step;
      enter(span.step == 0 && !role.program.prologue.empty() ? Part::prologue : Part::body);
    }
    if (span.stream != kCompute) {
      StreamWindow& window = streams[static_cast<std::size_t>(span.stream)];
      OtherOp& op = window.at(window.spans++);
      op.has_span = true;
      op.start = span.start;
      op.end = span.end;
      return;
    }
    advance(span.op);
    CHECK(cursor->id() == span.op, "{}: span of op {}.{} where {}.{} is next", role.name, span.op.instance,
          span.op.position, cursor->id().instance, cursor->id().position);
    const Op& op = cursor->op();
    const std::vector<Handle> waits = place({});
    const Time end = std::max(span.end, busy_until);
    const bool is_join = std::holds_alternative<Join>(op.work);
    const Time start = is_join ? end : std::clamp(span.start, busy_until, end);
    if (start > busy_until) {
      attribute_gap(start, waits, span.held_by_host);
    }
    push(start, end, of_compute_op(graph, op));
    cursor->next();
    busy_until = end;
    for (StreamWindow& window : streams) {
      window.drop_until(busy_until);
    }
    close_steps();
  }

  std::vector<Breakdown> finish() {
    while (cursor && *cursor) {
      if (cursor->op().stream == kCompute) {
        place({});
      } else {
        place_other();
      }
      cursor->next();
    }
    if (!ends.empty() && ends.back() > busy_until) {
      std::vector<Handle> all;
      for (std::size_t s = 0; s < streams.size(); ++s) {
        all.push_back({static_cast<int>(s), streams[s].spans - 1});
      }
      attribute_gap(ends.back(), all, false);
      busy_until = ends.back();
    }
    close_steps();
    return std::move(steps);
  }
};

Share share_of(const PlanGraph& graph, const Role& role, const Op& op) {
  return op.stream == kCompute ? of_compute_op(graph, op)
                               : of_stream(role.streams[static_cast<std::size_t>(op.stream)]);
}

BreakdownAccumulator::BreakdownAccumulator(const PlanGraph& graph, int role, Time begin)
    : impl_(std::make_unique<Impl>(graph, role, begin)) {}
BreakdownAccumulator::~BreakdownAccumulator() = default;
BreakdownAccumulator::BreakdownAccumulator(BreakdownAccumulator&&) noexcept = default;
BreakdownAccumulator& BreakdownAccumulator::operator=(BreakdownAccumulator&&) noexcept = default;

void BreakdownAccumulator::add(const Span& span) {
  impl_->add(span);
}

void BreakdownAccumulator::end_step(Time end) {
  impl_->ends.push_back(end);
  impl_->close_steps();
}

std::vector<Breakdown> BreakdownAccumulator::finish() {
  return impl_->finish();
}

}  // namespace foretrain::plan
