#include "search/shape_bound.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "sim/extra_latency.h"
#include "sim/power_limit.h"
#include "topologies/network.h"

namespace foretrain::search {

namespace {

constexpr int kClockRounds = 4;  // the last changes the clock by less than a thousandth

// No lower than the clock.
int level_of(double clock) {
  return static_cast<int>(std::ceil(clock * LayerProbe::kLevels));
}

}  // namespace

ShapeBounds::ShapeBounds(const plan::OpenJob& open, const std::vector<std::string>& rank_orders)
    : open_(open),
      has_usual_orders_(std::all_of(rank_orders.begin(), rank_orders.end(),
                                    [](const auto& order) { return order == kRankOrder || order == kDataOutside; })),
      has_like_ways_(!open.job.cluster.this_machine && !open.job.cluster.is_hosts() &&
                     !sim::LongRoutes(open.job.cluster).any()) {}

// Graphs by the hundred: on all cores.
ShapeBounds::~ShapeBounds() {
  std::vector<std::shared_ptr<LayerProbe>> all;
  for (auto& [key, probe] : probes_) {
    all.push_back(std::move(probe));
  }
  in_parallel(all.size(), [&](std::size_t i) { all[i].reset(); });
}

std::shared_ptr<LayerProbe> ShapeBounds::probe(const Shape& s) {
  const ProbeKey key{s.tp, s.cp, s.ep, s.micro_batch, s.sequence_parallel, s.whole_experts, s.recompute, s.cp_kind};
  {
    const std::lock_guard lock(mutex_);
    const auto found = probes_.find(key);
    if (found != probes_.end()) {
      return found->second;
    }
  }
  auto made = std::make_shared<LayerProbe>(open_, s);
  const std::lock_guard lock(mutex_);
  return probes_.try_emplace(key, std::move(made)).first->second;
}

std::vector<std::int64_t> ShapeBounds::layers(const Shape& s, const LayerProbe& p) const {
  return open_.given->contains("layers_per_stage")
             ? open_.given->at("layers_per_stage").get<std::vector<std::int64_t>>()
             : plan::even_layers(p.layers(), s.pp * s.virtual_stages);
}

// Their share of the time is no less than of the limit. And a step takes longer than at the full clock by what its
// devices compute longer, so that the limit at the full clock is lower (tested, as the bounds are).
double ShapeBounds::clock(const Shape& s, LayerProbe& p, Time limit) {
  const auto mean = [&](int level) {
    return static_cast<double>(p.busy(level)) * static_cast<double>(s.microbatches) / static_cast<double>(s.pp);
  };
  const double full = mean(LayerProbe::kLevels);
  double clock = 1;
  for (int round = 0; round < kClockRounds; ++round) {
    const double longer = mean(level_of(clock)) - full;
    const double busy = std::min(1.0, full / std::max(full, static_cast<double>(limit.value) - longer));
    const double lower = sim::rounded_clock(sim::sustained_clock(open_.job.cluster, busy));
    if (lower >= clock) {
      break;
    }
    clock = lower;
  }
  return clock;
}

double ShapeBounds::clock(const Shape& shape, Time limit) {
  return clock(shape, *probe(shape), limit);
}

Bound ShapeBounds::times(const Shape& s, LayerProbe& p, const std::vector<std::int64_t>& layers, Time limit) {
  const int level = level_of(clock(s, p, limit));
  std::vector<plan::Durations> by_stage;
  std::int64_t first = 0, all = 0;
  for (const std::int64_t count : layers) {
    by_stage.push_back(p.pass(level, first, first + count, s.overlap_ep || !has_usual_orders_));
    by_stage.back().message *= has_usual_orders_ ? 1 : 0;
    all += by_stage.back().forward +
           std::min(by_stage.back().backward, by_stage.back().backward_input + by_stage.back().backward_weight);
    first += count;
  }
  const Time mean{all / s.pp * s.microbatches};  // no less than of the rank that has most
  if (s.schedule == "dualpipe" || mean >= limit) {
    return {mean, mean, {}};
  }
  const auto longest = [](const std::vector<std::int64_t>& ranks) {
    return Time{*std::max_element(ranks.begin(), ranks.end())};
  };
  if (limit == kNever) {
    return {mean, longest(rows_.guess_by_rank(s, by_stage)), {}};
  }
  const Time least = longest(rows_.least_by_rank(s, by_stage));
  return {least, least, {}};
}

std::optional<Bound> ShapeBounds::bound(const Shape& s, Time limit, std::string& why) {
  const std::shared_ptr<LayerProbe> p = probe(s);
  if (!p->why().empty()) {
    why = p->why();
    return std::nullopt;
  }
  try {
    const std::vector<std::int64_t> split = layers(s, *p);
    if (std::accumulate(split.begin(), split.end(), std::int64_t{0}) != p->layers()) {
      throw InputError("layers_per_stage does not fit pp x virtual_stages");
    }
    Tail least;
    least.zero = 3;
    Bound b = times(s, *p, split, limit);
    b.memory = memory(s, least);
    return b;
  } catch (const InputError& e) {
    why = e.what();
    return std::nullopt;
  }
}

bool ShapeBounds::has_like_layers(const Shape& shape) {
  const auto is_given = [&](const char* word) { return open_.given->contains(word); };
  return probe(shape)->is_uniform() && !is_given("layers_per_stage") && !is_given("recompute_layers") &&
         !is_given("offload_layers");
}

bool ShapeBounds::has_like_orders(const Shape& shape) const {
  return has_like_ways_ && shape.tp * shape.cp % topologies::devices_per_unit(open_.job.cluster) == 0;
}

bool ShapeBounds::is_power_limited() const {
  return sim::sustained_clock(open_.job.cluster, 1.0) < 1;
}

Bytes ShapeBounds::memory(const Shape& s, const Tail& t) {
  const std::shared_ptr<LayerProbe> p = probe(s);
  const std::int64_t stages = s.pp * s.virtual_stages;
  // Whole experts have more replicas than all else where tp exceeds ep.
  const std::int64_t more = s.whole_experts ? std::max<std::int64_t>(1, s.tp / s.ep) : 1;
  const std::int64_t shards = t.zero == 0 ? 1 : (t.shard == 0 ? s.dp : t.shard) * s.cp * more;
  const auto shared = [&](std::int64_t bytes, int from) { return t.zero >= from ? bytes / shards : bytes; };
  const std::int64_t static_bytes =
      shared(p->parameter_bytes, 3) + shared(p->gradient_bytes, 2) + shared(p->state_bytes, 1);
  const std::int64_t kept = p->kept_bytes / std::max<std::int64_t>(1, p->layers()) * (p->layers() / stages);
  return Bytes{static_bytes / s.pp + kept * rows_.in_flight(s)};
}

}  // namespace foretrain::search
