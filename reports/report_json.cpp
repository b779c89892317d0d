#include <algorithm>
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

double tick_seconds(const Pipeline& p) {
  return std::max(1e-12, seconds(p.end - p.start) / kTicks);
}

// Streams of communication are left out where all of them would make a page too large.
constexpr std::size_t kMostBars = 40'000;

// Bars as a flat list, five numbers each: start behind the end of the one before, length, time at work (ticks), what it
// is of ("texts"), activity.
Json pipeline_json(const Report& r) {
  const Pipeline& p = r.pipeline;
  const double tick = tick_seconds(p);
  const auto ticks = [&](Time t) { return std::llround(seconds(t) / tick); };
  std::map<std::string, std::size_t> texts;
  Json lanes = Json::array(), names = Json::array(), activities = Json::array();
  std::size_t all_bars = 0;
  for (const Lane& lane : p.lanes) {
    all_bars += lane.bars.size();
  }
  for (const Lane& lane : p.lanes) {
    if (lane.stream != plan::kCompute && all_bars > kMostBars) {
      continue;
    }
    const plan::Role& role = role_of(r, lane);
    const plan::Stream& stream = role.streams[static_cast<std::size_t>(lane.stream)];
    Json bars = Json::array();
    long long before = 0;
    for (const Bar& bar : lane.bars) {
      const plan::Instance& instance = *plan::instance_at(role, bar.instance);
      const auto [text, is_new] = texts.try_emplace(bar_text(role, instance), texts.size());
      if (is_new) {
        names.push_back(text->first);
      }
      const long long start = ticks(bar.start - p.start), end = ticks(bar.end - p.start);
      const Activity a = activity(role.segments[static_cast<std::size_t>(instance.segment)]);
      for (const long long n : {start - before, end - start, ticks(bar.busy), static_cast<long long>(text->second),
                                static_cast<long long>(a)}) {
        bars.push_back(n);
      }
      before = end;
    }
    lanes.push_back({{"role", role.name},
                     {"role_index", lane.role},
                     {"rank", lane.rank},
                     {"ranks", lane.ranks},
                     {"stream", stream.name},
                     {"kind", plan::name(stream.kind)},
                     {"bars", std::move(bars)}});
  }
  for (int a = 0; a <= static_cast<int>(Activity::other); ++a) {
    activities.push_back(name(static_cast<Activity>(a)));
  }
  return {{"tick_s", tick},
          {"length_s", number(seconds(p.end - p.start))},
          {"period", plan::period(*r.estimate.graph)},
          {"activities", std::move(activities)},
          {"texts", std::move(names)},
          {"lanes", std::move(lanes)}};
}

// Planned live bytes of each role over the step, [time in s, bytes, ...], where they change.
Json memory_json(const Report& r) {
  Json roles = Json::array();
  std::vector<bool> seen(r.estimate.graph->roles.size(), false);
  for (const Lane& lane : r.pipeline.lanes) {
    const auto index = static_cast<std::size_t>(lane.role);
    if (lane.stream != plan::kCompute || seen[index]) {
      continue;
    }
    seen[index] = true;
    const plan::Role& role = role_of(r, lane);
    const plan::MemoryCurve curve = plan::memory_curve(role);
    Json points = Json::array();
    Bytes last{-1};
    for (const Bar& bar : lane.bars) {
      const Bytes live = curve.live.at(static_cast<std::size_t>(bar.instance));
      if (live != last) {
        points.push_back(number(std::round(seconds(bar.start - r.pipeline.start) * 1e9) / 1e9));
        points.push_back(live.value);
        last = live;
      }
    }
    Json largest = Json::array();
    for (const plan::LargeBuffer& b : plan::largest_buffers(role, kLargestShown)) {
      if (b.bytes.value > 0) {
        largest.push_back({{"name", b.name}, {"kind", plan::name(b.kind)}, {"bytes", b.bytes.value}});
      }
    }
    roles.push_back({{"role", role.name},
                     {"points", std::move(points)},
                     {"arena_bytes", role.memory.arena.value},
                     {"needed_bytes", r.estimate.fit.roles[index].needed().value},
                     {"largest", std::move(largest)}});
  }
  return {{"capacity_bytes", r.estimate.fit.capacity.value},
          {"shared", r.estimate.fit.shared},
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
