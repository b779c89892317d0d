#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "plan/locate.h"
#include "plan/memory.h"
#include "reports/report.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kLargestShown = 8;
constexpr double kTicks = 1e7;  // of a step: what times are counted in, so that a page stays small

const plan::Role& role_of(const Report& r, const Lane& lane) {
  return r.estimate.graph->roles[static_cast<std::size_t>(lane.role)];
}

// Values and their numbers, by first appearance: most things of a step come again, in every microbatch and every stage.
template <class T>
class Numbered {
 public:
  std::size_t operator()(const T& value) {
    const auto [place, is_new] = numbers_.try_emplace(value, values_.size());
    if (is_new) {
      values_.push_back(value);
    }
    return place->second;
  }
  const std::vector<T>& values() const { return values_; }

 private:
  std::map<T, std::size_t> numbers_;
  std::vector<T> values_;
};

// A bar after others of its lane: start behind the end of the one before, length, time at work (ticks), activity, and
// what it is of ("texts") counted on from the lane's last bar of that activity.
using Row = std::array<long long, 5>;

std::vector<std::size_t> rows_of(const Lane& lane, const plan::Role& role, Time start, double tick,
                                 Numbered<std::string>& texts, Numbered<Row>& rows) {
  const auto ticks = [&](Time t) { return std::llround(seconds(t) / tick); };
  std::vector<std::size_t> numbers;
  long long before = 0;
  std::array<long long, static_cast<std::size_t>(Activity::other) + 1> last{};
  for (const Bar& bar : lane.bars) {
    const plan::Instance& instance = *plan::instance_at(role, bar.instance);
    const Activity a = activity(role.segments[static_cast<std::size_t>(instance.segment)]);
    const auto text = static_cast<long long>(texts(bar_text(role, instance)));
    const long long from = ticks(bar.start - start), length = ticks(bar.end - bar.start);
    long long& former = last[static_cast<std::size_t>(a)];
    numbers.push_back(rows({from - before, length, ticks(bar.busy), static_cast<long long>(a), text - former}));
    before = from + length;
    former = text;
  }
  return numbers;
}

Json pipeline_json(const Report& r, bool with_communication) {
  const Pipeline& p = r.pipeline;
  const double tick = std::max(1e-12, seconds(p.end - p.start) / kTicks);
  Numbered<std::string> texts;
  Numbered<Row> rows;
  Json lanes = Json::array(), activities = Json::array();
  for (const Lane& lane : p.lanes) {
    if (lane.stream != plan::kCompute && !with_communication) {
      continue;
    }
    const plan::Role& role = role_of(r, lane);
    const plan::Stream& stream = role.streams[static_cast<std::size_t>(lane.stream)];
    lanes.push_back({{"role", role.name},
                     {"role_index", lane.role},
                     {"rank", lane.rank},
                     {"ranks", lane.ranks},
                     {"stream", stream.name},
                     {"kind", plan::name(stream.kind)},
                     {"bars", rows_of(lane, role, p.start, tick, texts, rows)}});
  }
  for (int a = 0; a <= static_cast<int>(Activity::other); ++a) {
    activities.push_back(name(static_cast<Activity>(a)));
  }
  return {{"tick_s", tick},
          {"length_s", number(seconds(p.end - p.start))},
          {"period", plan::period(*r.estimate.graph)},
          {"activities", std::move(activities)},
          {"texts", texts.values()},
          {"rows", rows.values()},
          {"lanes", std::move(lanes)}};
}

// Without the streams of communication where they would make the page too large.
Json pipeline_json(const Report& r) {
  constexpr std::size_t kMostBytes = 1'500'000;
  Json whole = pipeline_json(r, true);
  return whole.dump().size() > kMostBytes ? pipeline_json(r, false) : whole;
}

// Planned live bytes of each role in each bar of its compute stream, as changes ("changes") from bar to bar.
Json memory_json(const Report& r) {
  Json roles = Json::array();
  Numbered<long long> changes;
  std::vector<bool> seen(r.estimate.graph->roles.size(), false);
  for (const Lane& lane : r.pipeline.lanes) {
    const auto index = static_cast<std::size_t>(lane.role);
    if (lane.stream != plan::kCompute || seen[index]) {
      continue;
    }
    seen[index] = true;
    const plan::Role& role = role_of(r, lane);
    const plan::MemoryCurve curve = plan::memory_curve(role);
    std::vector<std::size_t> live;
    long long before = 0;
    for (const Bar& bar : lane.bars) {
      const long long bytes = curve.live.at(static_cast<std::size_t>(bar.instance)).value;
      live.push_back(changes(bytes - before));
      before = bytes;
    }
    Json largest = Json::array();
    for (const plan::LargeBuffer& b : plan::largest_buffers(role, kLargestShown)) {
      if (b.bytes.value > 0) {
        largest.push_back({{"name", b.name}, {"kind", plan::name(b.kind)}, {"bytes", b.bytes.value}});
      }
    }
    roles.push_back({{"role", role.name},
                     {"rank", lane.rank},
                     {"live", std::move(live)},
                     {"arena_bytes", role.memory.arena.value},
                     {"needed_bytes", r.estimate.fit.roles[index].needed().value},
                     {"largest", std::move(largest)}});
  }
  return {{"capacity_bytes", r.estimate.fit.capacity.value},
          {"shared", r.estimate.fit.shared},
          {"changes", changes.values()},
          {"roles", std::move(roles)}};
}

}  // namespace

nlohmann::ordered_json to_json(const Report& r) {
  const plan::Job& job = *r.estimate.job;
  Json out{{"schema", "foretrain.report/1"},
           {"program", r.program},
           {"title", job.name.empty() ? job.workload.model.name : job.name},
           {"description", job.description},
           {"headline", headline(job)},
           {"cluster", job.cluster.name},
           {"counted_in", job.workload.model.counted_in()},
           {"estimate", to_json(r.estimate)},
           {"pipeline", pipeline_json(r)},
           {"memory", memory_json(r)}};
  if (r.network) {
    out["network"] = to_json(*r.network);
  }
  if (!r.resources.empty()) {
    Json resources = Json::array();
    for (const ResourceGain& g : r.resources) {
      resources.push_back(to_json(g));
      resources.back()["words"] = g.words;
    }
    out["resources"] = std::move(resources);
  } else if (!r.no_resources.empty()) {
    out["no_resources"] = r.no_resources;
  }
  if (r.comparison) {
    out["comparison"] = to_json(*r.comparison, job, std::nullopt);
  }
  if (r.search) {
    out["search"] = to_json(*r.search);
  }
  return out;
}

}  // namespace foretrain::reports
