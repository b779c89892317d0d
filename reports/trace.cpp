#include "reports/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "base/error.h"
#include "plan/cursor.h"
#include "plan/locate.h"
#include "plan/memory.h"
#include "plan/op_text.h"

namespace foretrain::reports {

namespace {

// A JSON string with its quotes.
std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump();
}

std::string microseconds(Time t) {
  const char* sign = t.value < 0 ? "-" : "";
  const std::int64_t ps = t.value < 0 ? -t.value : t.value;
  return fmt::format("{}{}.{:06}", sign, ps / 1000000, ps % 1000000);
}

// Text of an op that all its spans share, made once.
struct OpWords {
  std::string name;    // quoted
  std::string common;  // "block" and "op" arguments, quoted
};

// One message of a step of a timeline: who sends it to whom.
using FlowKey = std::tuple<std::size_t, std::int32_t, plan::MatchKey, plan::Rank, plan::Rank>;

class TraceWriter {
 public:
  TraceWriter(const plan::PlanGraph& graph, const std::vector<TracedTimeline>& timelines,
              const std::function<void(std::string_view)>& write)
      : graph_(graph), timelines_(timelines), write_(write) {}

  void run() {
    write_("{\"displayTimeUnit\":\"ns\",\"otherData\":" + other_data() + ",\"traceEvents\":[");
    for (std::size_t i = 0; i < timelines_.size(); ++i) {
      std::set<plan::Rank> named;
      for (const plan::Span& span : timelines_[i].timeline->spans) {
        if (span.step < timelines_[i].first_step || span.step > timelines_[i].last_step) {
          continue;
        }
        if (named.insert(span.rank).second) {
          name_process(i, span);
        }
        slice(i, span);
        memory(i, span);
      }
    }
    write_("\n]}\n");
  }

 private:
  std::string other_data() const {
    nlohmann::ordered_json data{{"program", "foretrain"}, {"graph", graph_.name}};
    for (const TracedTimeline& t : timelines_) {
      data[t.label] = t.timeline->machine;
    }
    return data.dump();
  }

  const plan::Role& role(const plan::Span& span) const { return graph_.roles[static_cast<std::size_t>(span.op.role)]; }

  std::int64_t process(std::size_t timeline, plan::Rank rank) const {
    return rank * static_cast<std::int64_t>(timelines_.size()) + static_cast<std::int64_t>(timeline) + 1;
  }

  void event(const std::string& text) {
    write_((first_ ? "\n" : ",\n") + text);
    first_ = false;
  }

  void metadata(const char* kind, std::int64_t pid, int tid, const std::string& argument) {
    event(fmt::format(R"({{"ph":"M","name":"{}","pid":{},"tid":{},"args":{{{}}}}})", kind, pid, tid, argument));
  }

  void name_process(std::size_t timeline, const plan::Span& span) {
    const std::int64_t pid = process(timeline, span.rank);
    const std::string ranks = span.multiplicity == 1 ? fmt::format("rank {}", span.rank)
                                                     : fmt::format("rank {} (1 of {})", span.rank, span.multiplicity);
    metadata("process_name", pid, 0,
             "\"name\":" + json_string(fmt::format("{}, {}: {}", ranks, role(span).name, timelines_[timeline].label)));
    metadata("process_sort_index", pid, 0, fmt::format("\"sort_index\":{}", pid));
    const auto& streams = role(span).streams;
    for (std::size_t s = 0; s < streams.size(); ++s) {
      metadata("thread_name", pid, static_cast<int>(s) + 1, "\"name\":" + json_string(streams[s].name));
      metadata("thread_sort_index", pid, static_cast<int>(s) + 1, fmt::format("\"sort_index\":{}", s));
    }
  }

  const OpWords& words(const plan::Span& span, const plan::Place& place) {
    const auto [entry, is_new] = words_.try_emplace({span.op.role, place.block, place.op_in_block});
    if (is_new) {
      entry->second.name = json_string(plan::op_text(graph_, *place.op));
      entry->second.common = fmt::format("\"kind\":{},\"block\":{}", json_string(plan::kind_name(place.op->work)),
                                         json_string(role(span).blocks[static_cast<std::size_t>(place.block)].name));
    }
    return entry->second;
  }

  void slice(std::size_t timeline, const plan::Span& span) {
    const plan::Place place = plan::locate(graph_, span.op);
    const plan::Instance* instance = plan::instance_at(role(span), span.op.instance);
    CHECK(place.op != nullptr && instance != nullptr, "a span of op {}.{}.{}, which the graph has not", span.op.role,
          span.op.instance, span.op.position);
    const OpWords& text = words(span, place);
    const std::int32_t layer = place.layer < 0 ? -1 : role(span).global_layer[static_cast<std::size_t>(place.layer)];
    const plan::Segment& segment = role(span).segments[static_cast<std::size_t>(instance->segment)];
    const std::string at = fmt::format(R"("pid":{},"tid":{},"ts":{})", process(timeline, span.rank), span.stream + 1,
                                       microseconds(span.start - timelines_[timeline].origin));
    std::string arguments = fmt::format(R"("op":"{}.{}.{}",{},"segment":{},"step":{})", span.op.role, span.op.instance,
                                        span.op.position, text.common, json_string(segment.name), span.step);
    if (place.binding.microbatch >= 0) {
      arguments += fmt::format(R"(,"microbatch":{})", place.binding.microbatch);
    }
    if (layer >= 0) {
      arguments += fmt::format(R"(,"layer":{})", layer);
    }
    event(fmt::format(R"({{"ph":"X","name":{},"cat":"{}",{},"dur":{},"args":{{{}}}}})", text.name,
                      plan::name(place.op->phase), at, microseconds(span.end - span.start), arguments));
    if (const auto* exchange = std::get_if<plan::Exchange>(&place.op->work)) {
      for (const plan::Message& message : exchange->messages) {
        arrow_end(timeline, span, message, plan::match_key(role(span), message.tag, place.binding), at);
      }
    }
  }

  // Planned live bytes, once for each instance that the rank begins.
  void memory(std::size_t timeline, const plan::Span& span) {
    const auto curve = curves_.try_emplace(span.op.role);
    if (curve.second) {
      curve.first->second = plan::memory_curve(role(span)).live;
    }
    const std::vector<Bytes>& live = curve.first->second;
    const std::int64_t pid = process(timeline, span.rank);
    const auto instance = static_cast<std::size_t>(span.op.instance);
    auto& counted = counted_.try_emplace(pid, -1, -1).first->second;
    const std::pair here{span.step, span.op.instance};
    if (span.stream != plan::kCompute || instance >= live.size() || counted == here) {
      return;
    }
    counted = here;
    event(fmt::format(R"({{"ph":"C","name":"memory","pid":{},"tid":0,"ts":{},"args":{{"planned bytes":{}}}}})", pid,
                      microseconds(span.start - timelines_[timeline].origin), live[instance].value));
  }

  void arrow_end(std::size_t timeline, const plan::Span& span, const plan::Message& message, const plan::MatchKey& key,
                 const std::string& at) {
    const plan::Rank peer = graph_.mesh.peer(span.rank, message.axis, message.peer, message.relative);
    const FlowKey flow{timeline, span.step, key, message.send ? span.rank : peer, message.send ? peer : span.rank};
    const auto id = flows_.try_emplace(flow, flows_.size() + 1).first->second;
    const std::string tag = json_string(graph_.tags[static_cast<std::size_t>(message.tag)]);
    event(fmt::format(R"({{"ph":"{}","name":{},"cat":"message","id":{},{}{}}})", message.send ? "s" : "f", tag, id, at,
                      message.send ? "" : R"(,"bp":"e")"));
  }

  const plan::PlanGraph& graph_;
  const std::vector<TracedTimeline>& timelines_;
  const std::function<void(std::string_view)>& write_;
  std::map<std::tuple<std::int32_t, plan::BlockId, int>, OpWords> words_;
  std::map<FlowKey, std::size_t> flows_;
  std::map<std::int32_t, std::vector<Bytes>> curves_;                      // by role, by instance
  std::map<std::int64_t, std::pair<std::int32_t, std::int32_t>> counted_;  // by process: step and instance counted last
  bool first_ = true;
};

}  // namespace

TracedTimeline traced(const plan::Timeline& timeline, const std::string& label) {
  TracedTimeline t{&timeline, label, 0, 0, {}};
  for (const plan::Span& span : timeline.spans) {
    t.last_step = std::max(t.last_step, span.step);
  }
  return t;
}

TracedTimeline traced_step(const plan::Timeline& timeline, const std::string& label, std::int32_t step) {
  TracedTimeline t{&timeline, label, step, step, {}};
  bool found = false;
  for (const plan::Span& span : timeline.spans) {
    if (span.step == step) {
      t.origin = found ? std::min(t.origin, span.start) : span.start;
      found = true;
    }
  }
  CHECK(found, "step {} of a timeline that has no such step", step);
  return t;
}

void write_trace(const plan::PlanGraph& graph, const std::vector<TracedTimeline>& timelines,
                 const std::function<void(std::string_view)>& write) {
  TraceWriter(graph, timelines, write).run();
}

}  // namespace foretrain::reports
