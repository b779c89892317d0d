#include "search/shape_bound.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "plan/build.h"
#include "plan/schedule.h"
#include "sim/least_time.h"
#include "sim/network.h"

namespace foretrain::search {

namespace {

using nlohmann::json;

// Words that say how stages, replicas and time are arranged: not of a probe.
constexpr const char* kArrangement[] = {"dp",           "pp",   "virtual_stages",      "schedule",
                                        "zero",         "shard", "overlap_grad_reduce", "overlap_param_gather",
                                        "overlap_ep",   "rank_order", "layers_per_stage", "zero_kind",
                                        "reshard",      "prefetch",   "optimizer_sync",   "recompute_layers",
                                        "offload_layers", "scatter_gather"};

struct Cost {
  Time extent, busy;
};

Cost operator+(Cost a, const Cost& b) {
  return {a.extent + b.extent, a.busy + b.busy};
}

}  // namespace

// One microbatch of a shape's kind through all layers on one stage.
class ShapeBounds::Probe {
 public:
  Probe(const plan::OpenJob& open, const Shape& shape) {
    try {
      plan::Job job = open.job;
      job.strategy = {};
      json strategy = open.given;
      for (const char* const key : kArrangement) {
        strategy.erase(key);
      }
      strategy["dp"] = job.cluster.device_count() / (shape.tp * shape.cp);
      strategy["tp"] = shape.tp;
      strategy["cp"] = shape.cp;
      strategy["cp_kind"] = shape.cp_kind;
      strategy["ep"] = shape.ep;
      strategy["expert_tp"] = shape.whole_experts ? 1 : shape.tp;
      strategy["micro_batch"] = shape.micro_batch;
      strategy["sequence_parallel"] = shape.sequence_parallel;
      if (shape.recompute != "listed") {
        strategy["recompute"] = shape.recompute;
      }
      constexpr std::int64_t kMicrobatches = 2;  // the last one's backward may do more
      job.workload.global_batch = strategy["dp"].get<std::int64_t>() * shape.micro_batch * kMicrobatches;
      job_ = plan::with_strategy(job, strategy);
      graph_ = plan::build(job_);
      look();
    } catch (const InputError& e) {
      why_ = e.what();
    }
  }

  const std::string& why() const { return why_; }
  std::int64_t layers() const { return layers_; }
  const plan::Role& role() const { return graph_.roles.front(); }

  // Forward, and backward, of a microbatch through layers [first, end).
  struct Pass {
    Cost forward, backward;
    Cost both() const { return forward + backward; }
  };
  const Pass& pass(std::int64_t first, std::int64_t end) {
    const bool begins = first == 0, ends = end == layers_;
    const std::int64_t from = uniform_ && !begins && !ends ? 1 : first;
    const auto [at, is_new] = passes_.try_emplace({from, from + (end - first)});
    if (is_new) {
      at->second = {cost(*forward_, from, from + (end - first), begins, ends),
                    cost(*backward_, from, from + (end - first), begins, ends)};
    }
    return at->second;
  }

  std::int64_t parameter_bytes = 0, gradient_bytes = 0, state_bytes = 0;  // of all layers
  std::int64_t kept_bytes = 0;                                            // of a microbatch, until its backward

  std::mutex mutex;

 private:
  void look() {
    const std::unique_ptr<sim::ComputeModel> compute = sim::make_compute_model("auto", job_.cluster);
    const std::unique_ptr<sim::NetworkModel> network =
        sim::make_network_model("auto", job_.cluster, {}, graph_.mesh.ranks());
    models_ = sim::model_roles(graph_, job_.cluster, *compute, *network);
    least_ = std::make_unique<sim::LeastTime>(models_.front());
    const plan::Role& role = graph_.roles.front();
    layers_ = std::ssize(role.global_layer);
    for (const plan::Instance& instance : role.program.body) {
      const plan::Segment& segment = role.segments[static_cast<std::size_t>(instance.segment)];
      if (segment.chunk < 0 || instance.microbatch != 0) {
        continue;
      }
      (forward_ == nullptr ? forward_ : backward_) = &instance;
    }
    CHECK(forward_ != nullptr && backward_ != nullptr, "{}: no forward and backward", graph_.name);
    uniform_ = is_uniform(*forward_) && is_uniform(*backward_);
    for (const plan::Buffer& b : role.buffers) {
      const std::int64_t bytes = size_bytes(b.dtype, b.elements) * b.layers;
      const bool stays = b.lifetime == plan::Lifetime::persistent;
      parameter_bytes += stays && b.kind == plan::BufferKind::parameter ? bytes : 0;
      gradient_bytes += stays && b.kind == plan::BufferKind::gradient ? bytes : 0;
      state_bytes += stays && b.kind == plan::BufferKind::optimizer_state ? bytes : 0;
      kept_bytes += b.lifetime == plan::Lifetime::slot && b.kind == plan::BufferKind::activation && !b.wraps ? bytes : 0;
    }
  }

  const plan::Segment& segment(const plan::Instance& instance) const {
    return role().segments[static_cast<std::size_t>(instance.segment)];
  }

  // Whether all of its layers are one block's.
  bool is_uniform(const plan::Instance& instance) const {
    plan::BlockId block = -1;
    for (const plan::BlockCall& call : segment(instance).calls) {
      if (call.first >= 0 && block >= 0 && block != call.block) {
        return false;
      }
      block = call.first >= 0 ? call.block : block;
    }
    return true;
  }

  // Of what stands before the layers, and behind them, a forward's first part is of the first stage, a backward's of
  // the last.
  Cost cost(const plan::Instance& instance, std::int64_t first, std::int64_t end, bool begins, bool ends) {
    const bool is_backward = &instance == backward_;
    bool behind = false;
    least_->begin();
    for (const plan::BlockCall& call : segment(instance).calls) {
      behind = behind || call.first >= 0;
      if (call.first < 0 && !(behind == is_backward ? begins : ends)) {
        continue;
      }
      for (std::int32_t i = 0; i < call.count; ++i) {
        const std::int64_t layer = call.first + i * call.step;
        if (call.first < 0 || (first <= layer && layer < end)) {
          least_->add(call.block, plan::bind(segment(instance), instance, call, i));
        }
      }
    }
    return {least_->extent(), least_->busy()};
  }

  std::string why_;
  plan::Job job_;
  plan::PlanGraph graph_;
  std::vector<sim::RoleModel> models_;
  std::unique_ptr<sim::LeastTime> least_;
  const plan::Instance *forward_ = nullptr, *backward_ = nullptr;
  std::int64_t layers_ = 0;
  bool uniform_ = false;
  std::map<std::pair<std::int64_t, std::int64_t>, Pass> passes_;
};

ShapeBounds::ShapeBounds(const plan::OpenJob& open) : open_(open) {}
ShapeBounds::~ShapeBounds() = default;

std::shared_ptr<ShapeBounds::Probe> ShapeBounds::probe(const Shape& s) {
  const std::string key = fmt::format("{} {} {} {} {} {} {} {}", s.tp, s.cp, s.ep, s.micro_batch, s.sequence_parallel,
                                      s.whole_experts, s.recompute, s.cp_kind);
  {
    const std::lock_guard lock(mutex_);
    const auto found = probes_.find(key);
    if (found != probes_.end()) {
      return found->second;
    }
  }
  auto made = std::make_shared<Probe>(open_, s);
  const std::lock_guard lock(mutex_);
  return probes_.try_emplace(key, std::move(made)).first->second;
}

// With more microbatches there are no fewer.
std::int64_t ShapeBounds::in_flight(const Shape& s) {
  const std::int64_t microbatches = std::min(s.microbatches, 2 * s.pp);
  const std::string key = fmt::format("{} {} {} {}", s.schedule, s.pp, s.virtual_stages, microbatches);
  const std::lock_guard lock(mutex_);
  const auto [at, is_new] = in_flight_.try_emplace(key, 1);
  if (!is_new || s.pp == 1 || s.schedule == "dualpipe" || s.schedule.find_first_of("/.") != std::string::npos) {
    return at->second;
  }
  plan::Strategy strategy;
  strategy.pp = s.pp;
  strategy.virtual_stages = s.virtual_stages;
  for (const plan::ScheduleKind kind : {plan::ScheduleKind::gpipe, plan::ScheduleKind::one_f_one_b,
                                        plan::ScheduleKind::zb_h1, plan::ScheduleKind::zb_h2,
                                        plan::ScheduleKind::zb_v, plan::ScheduleKind::dualpipe_v}) {
    strategy.schedule = s.schedule == plan::name(kind) ? kind : strategy.schedule;
  }
  if (strategy.schedule == plan::ScheduleKind::one_f_one_b && s.virtual_stages > 1) {
    strategy.schedule = plan::ScheduleKind::interleaved;
  }
  for (const std::vector<plan::Action>& row : plan::make_schedule(strategy, static_cast<int>(microbatches))) {
    std::int64_t open = 0;
    for (const plan::Action& a : row) {
      open += a.kind == plan::ActionKind::forward ? 1 : a.kind == plan::ActionKind::backward_input ? 0 : -1;
      at->second = std::max(at->second, open);
    }
  }
  return at->second;
}

std::optional<Bound> ShapeBounds::bound(const Shape& s, std::string& why) {
  const std::shared_ptr<Probe> p = probe(s);
  if (!p->why().empty()) {
    why = p->why();
    return std::nullopt;
  }
  const std::lock_guard lock(p->mutex);
  Tail least;
  least.zero = 3;
  Bound b;
  b.memory = memory(s, least);
  if (s.schedule == "dualpipe" || s.schedule.find_first_of("/.") != std::string::npos) {
    return b;  // what a rank has to do is not known from here
  }
  const bool splits = s.schedule != "1f1b" && s.schedule != "gpipe";
  const bool folded = s.schedule == "zb_v" || s.schedule == "dualpipe_v";  // into a V: stages r and 2 pp - 1 - r
  const std::vector<std::int64_t> layers = open_.given.contains("layers_per_stage")
                                               ? open_.given["layers_per_stage"].get<std::vector<std::int64_t>>()
                                               : plan::even_layers(p->layers(), s.pp * s.virtual_stages);
  if (std::ssize(layers) != s.pp * s.virtual_stages ||
      std::accumulate(layers.begin(), layers.end(), std::int64_t{0}) != p->layers()) {
    why = "layers_per_stage does not fit pp x virtual_stages";
    return std::nullopt;
  }
  std::vector<Time> work(static_cast<std::size_t>(s.pp)), ramp(static_cast<std::size_t>(s.pp));
  std::int64_t first = 0;
  Time before;
  for (std::int64_t stage = 0; stage < std::ssize(layers); ++stage) {
    const std::int64_t end = first + layers[static_cast<std::size_t>(stage)];
    const Probe::Pass& pass = p->pass(first, end);
    const bool hides = splits || s.ep > 1;  // exchanges may run behind another microbatch (overlap_ep)
    const Time both = hides ? pass.both().busy : pass.both().extent;
    const auto rank = static_cast<std::size_t>(folded && stage >= s.pp ? 2 * s.pp - 1 - stage : stage % s.pp);
    work[rank] += both;
    if (stage < s.pp && !hides) {
      ramp[rank] = before;
      before += pass.both().extent;
    }
    first = end;
  }
  for (std::size_t r = 0; r < work.size(); ++r) {
    b.step_time = std::max(b.step_time, Time{work[r].value * s.microbatches} + ramp[r]);
  }
  return b;
}

Bytes ShapeBounds::memory(const Shape& s, const Tail& t) {
  const std::shared_ptr<Probe> p = probe(s);
  const std::int64_t stages = s.pp * s.virtual_stages;
  const std::int64_t shards = t.zero == 0 ? 1 : (t.shard == 0 ? s.dp : t.shard) * s.cp;
  const auto shared = [&](std::int64_t bytes, int from) { return t.zero >= from ? bytes / shards : bytes; };
  const std::int64_t static_bytes =
      shared(p->parameter_bytes, 3) + shared(p->gradient_bytes, 2) + shared(p->state_bytes, 1);
  const std::int64_t kept = p->kept_bytes / std::max<std::int64_t>(1, p->layers()) * (p->layers() / stages);
  return Bytes{static_bytes / s.pp + kept * in_flight(s)};
}

}  // namespace foretrain::search
