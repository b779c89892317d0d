#include "plan/dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "plan/op_text.h"

namespace foretrain::plan {
namespace {

bool communicates(StreamKind k) {
  return k == StreamKind::collective || k == StreamKind::point_to_point;
}

template <class List, class Text>
std::string joined(const List& list, const char* separator, Text text) {
  std::string result;
  for (const auto& x : list) {
    result += (result.empty() ? "" : separator) + std::string(text(x));
  }
  return result;
}

std::string span_text(const AxisSpan& span) {
  std::string text(name(span.axis));
  if (!span.only.empty()) {
    return text + " {" + joined(span.only, ",", [](int c) { return std::to_string(c); }) + "}";
  }
  text += span.block == 0 ? "" : fmt::format(" in blocks of {}", span.block);
  return span.stride == 1 ? text : text + fmt::format(" in strides of {}", span.stride);
}

// "F0(3)": segment and microbatch; "F0|B0(3|1)": of two, the second beside the first; only the segment where there is
// no microbatch.
std::string instances_text(const Role& role, const std::vector<Instance>& instances) {
  return joined(instances, " ", [&](const Instance& i) {
    const std::string& segment = role.segments[static_cast<std::size_t>(i.segment)].name;
    if (i.every > 1) {
      return fmt::format("{}(every {} steps)", segment, i.every);
    }
    return i.microbatch < 0 ? segment
                            : fmt::format("{}({}{})", segment, i.microbatch,
                                          i.beside ? fmt::format("|{}", i.beside->microbatch) : "");
  });
}

std::string call_text(const Role& role, const BlockCall& call) {
  const std::string block = (call.beside ? "beside: " : "") + role.blocks[static_cast<std::size_t>(call.block)].name;
  if (call.first < 0) {
    return call.count == 1 ? block : fmt::format("{} x{}", block, call.count);
  }
  const std::int32_t last = call.first + (call.count - 1) * call.step;
  return call.count == 1 ? fmt::format("{} at layer {}", block, call.first)
                         : fmt::format("{} at layers {} to {}", block, call.first, last);
}

class RoleText {
 public:
  RoleText(const PlanGraph& graph, const Role& role, std::string& text)
      : graph_(graph), role_(role), out_(std::back_inserter(text)) {}

  void write() {
    const std::string at = joined(role_.ranks.fixed, ", ", [](const AxisRange& f) {
      return f.count == 1 ? fmt::format("{} {}", name(f.axis), f.first)
                          : fmt::format("{} {}-{}", name(f.axis), f.first, f.first + f.count - 1);
    });
    fmt::format_to(out_, "\nrole {}: {} of {} ranks{}{}, layers [{}], {} slots, {} holds, {} rings, arena {}\n",
                   role_.name, count(graph_.mesh, role_.ranks), graph_.mesh.ranks(), at.empty() ? "" : " at ", at,
                   joined(role_.global_layer, " ", [](int l) { return std::to_string(l); }), role_.slots, role_.holds,
                   role_.rings, foretrain::to_string(role_.memory.arena));
    fmt::format_to(out_, "  streams: {}\n", joined(role_.streams, ", ", [](const Stream& s) {
                     return communicates(s.kind) ? fmt::format("{} ({} over {})", s.name, name(s.kind), name(s.axis))
                                                 : fmt::format("{} ({})", s.name, name(s.kind));
                   }));
    fmt::format_to(out_, "  events: {}\n", joined(role_.events, ", ", [](const Event& e) {
                     return fmt::format("{} ({})", e.name, name(e.replicas));
                   }));
    buffers();
    for (const Block& block : role_.blocks) {
      fmt::format_to(out_, "  block {}\n", block.name);
      for (std::size_t i = 0; i < block.ops.size(); ++i) {
        op(block.ops[i], i);
      }
    }
    for (const Segment& segment : role_.segments) {
      fmt::format_to(out_, "  segment {}: {}\n", segment.name,
                     joined(segment.calls, ", ", [&](const BlockCall& c) { return call_text(role_, c); }));
    }
    part("prologue", role_.program.prologue);
    part("body", role_.program.body);
    part("epilogue", role_.program.epilogue);
    part("evaluation", role_.program.evaluation);
  }

 private:
  void part(const char* what, const std::vector<Instance>& instances) {
    if (!instances.empty()) {
      fmt::format_to(out_, "  {}: {}\n", what, instances_text(role_, instances));
    }
  }

  void buffers() {
    fmt::format_to(out_, "  buffers\n");
    for (std::size_t i = 0; i < role_.buffers.size(); ++i) {
      const Buffer& b = role_.buffers[i];
      const std::string place = i < role_.memory.placements.size()
                                    ? fmt::format(" at byte {}", role_.memory.placements[i].offset)
                                    : std::string();
      fmt::format_to(out_, "    {}: {} {}{}, {}, {}{}\n", b.name, b.elements, foretrain::name(b.dtype),
                     b.layers == 0 ? "" : fmt::format(" x {} layers{}", b.layers, b.wraps ? " in turn" : ""),
                     name(b.kind), name(b.lifetime), place);
    }
  }

  void op(const Op& o, std::size_t position) {
    const auto operand = [&](const Operand& x) { return operand_text(graph_, role_, x); };
    const auto event = [&](EventId e) { return role_.events[static_cast<std::size_t>(e)].name; };
    fmt::format_to(out_, "    {:3} {}, {}: {}\n", position, role_.streams[static_cast<std::size_t>(o.stream)].name,
                   name(o.phase), op_text(graph_, o));
    line("reads", joined(o.reads, ", ", operand));
    line("writes", joined(o.writes, ", ", operand));
    line("after", joined(o.after, ", ", [](int p) { return std::to_string(p); }));
    line("waits for", joined(o.waits, ", ", event));
    line("records", joined(o.records, ", ", event));
    line("guarded by", o.guard ? operand(o.guard->scalar) : "");
    line("bounded by",
         o.runtime_extent < 0 ? "" : graph_.runtime_extents[static_cast<std::size_t>(o.runtime_extent)].name);
  }

  void line(const char* what, const std::string& list) {
    if (!list.empty()) {
      fmt::format_to(out_, "        {} {}\n", what, list);
    }
  }

  const PlanGraph& graph_;
  const Role& role_;
  std::back_insert_iterator<std::string> out_;
};

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
    }
    result += c;
  }
  return result + "\"";
}

}  // namespace

std::string to_text(const PlanGraph& g) {
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "graph {}: {} ranks, {} (slowest first), {} microbatches, {} sequences x {} tokens, {} tensors\n",
                 g.name, g.mesh.ranks(),
                 joined(g.mesh.order, " x ", [&](Axis a) { return fmt::format("{} {}", name(a), g.mesh.size(a)); }) +
                     (g.mesh.beside == 0 ? "" : fmt::format(" + {}", g.mesh.beside)),
                 g.microbatches, g.sequences_per_step, g.seq_len, g.tensors);
  for (const Group& group : g.groups) {
    fmt::format_to(out, "group {}: over {}{}\n", group.name, joined(group.spans, ", ", span_text),
                   group.weights.empty() ? "" : fmt::format(", weights {}", fmt::join(group.weights, " ")));
  }
  for (const RuntimeExtent& e : g.runtime_extents) {
    fmt::format_to(out, "runtime extent {}: at most {}, from {}, mean {} deviation {}\n", e.name, e.maximum, e.source,
                   e.mean, e.stddev);
  }
  for (const Role& role : g.roles) {
    RoleText(g, role, text).write();
  }
  return text;
}

std::string to_dot(const PlanGraph& g, int role_index) {
  static constexpr const char* kColours[] = {"lightblue", "lightsalmon", "palegreen",  "gold",
                                             "plum",      "lightgrey",   "lightcoral", "khaki"};
  const Role& role = g.roles[static_cast<std::size_t>(role_index)];
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "digraph {} {{\n  node [shape=box, style=filled];\n", quoted(role.name));
  for (std::size_t b = 0; b < role.blocks.size(); ++b) {
    const Block& block = role.blocks[b];
    fmt::format_to(out, "  subgraph cluster_{} {{\n    label={};\n", b, quoted(block.name));
    std::vector<std::ptrdiff_t> last_of_stream(role.streams.size(), -1);
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      const Op& op = block.ops[i];
      const auto stream = static_cast<std::size_t>(op.stream);
      fmt::format_to(out, "    b{}_{} [label={}, fillcolor={}];\n", b, i, quoted(op_text(g, op)),
                     kColours[stream % std::size(kColours)]);
      if (last_of_stream[stream] >= 0) {
        fmt::format_to(out, "    b{}_{} -> b{}_{} [style=dotted];\n", b, last_of_stream[stream], b, i);
      }
      for (const std::uint16_t earlier : op.after) {
        fmt::format_to(out, "    b{}_{} -> b{}_{};\n", b, earlier, b, i);
      }
      last_of_stream[stream] = static_cast<std::ptrdiff_t>(i);
    }
    fmt::format_to(out, "  }}\n");
  }
  fmt::format_to(out, "}}\n");
  return text;
}

}  // namespace foretrain::plan
