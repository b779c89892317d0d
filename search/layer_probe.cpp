#include "search/layer_probe.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/build.h"
#include "sim/network.h"
#include "sim/remembered_network.h"
#include "topologies/network.h"

namespace foretrain::search {

namespace {

using nlohmann::json;

// Words that say how stages, replicas and time are arranged: not of a probe.
constexpr const char* kArrangement[] = {"dp",
                                        "pp",
                                        "virtual_stages",
                                        "schedule",
                                        "zero",
                                        "shard",
                                        "zero_kind",
                                        "reshard",
                                        "prefetch",
                                        "optimizer_sync",
                                        "overlap_ep",
                                        "overlap_grad_reduce",
                                        "rank_order",
                                        "overlap_param_gather",
                                        "layers_per_stage",
                                        "recompute_layers",
                                        "offload_layers",
                                        "scatter_gather"};

}  // namespace

LayerProbe::LayerProbe(const plan::OpenJob& open, const Shape& shape) {
  try {
    plan::Job job = open.job;
    json strategy = *open.given;
    for (const char* const key : kArrangement) {
      strategy.erase(key);
    }
    const std::int64_t dp = job.cluster.device_count() / (shape.tp * shape.cp);
    strategy["dp"] = dp;
    strategy["tp"] = shape.tp;
    strategy["cp"] = shape.cp;
    strategy["cp_kind"] = shape.cp_kind;
    strategy["ep"] = shape.ep;
    strategy["expert_tp"] = shape.whole_experts ? 1 : shape.tp;
    strategy["micro_batch"] = shape.micro_batch;
    strategy["sequence_parallel"] = shape.sequence_parallel;
    if (shape.recompute != kListed) {
      strategy["recompute"] = shape.recompute;
    }
    constexpr std::int64_t kMicrobatches = 2;  // the last one's backward may do more
    job.workload.global_batch = dp * shape.micro_batch * kMicrobatches;
    job_ = plan::with_strategy(job, strategy);
    graph_ = plan::build_unplaced(job_);
    network_ = sim::remembered_network(sim::make_network_model("auto", job_.cluster, {}, graph_.mesh.ranks()));
    look();
    // With scatter_gather each rank of a tp group sends its part.
    message_bytes /= open.given->value("scatter_gather", false) ? shape.tp : 1;
  } catch (const InputError& e) {
    why_ = e.what();
  }
}

void LayerProbe::look() {
  const plan::Role& role = graph_.roles.front();
  layers_ = std::ssize(role.global_layer);
  for (const plan::Instance& instance : role.program.body) {
    const plan::Segment& segment = role.segments[static_cast<std::size_t>(instance.segment)];
    if (segment.chunk >= 0 && instance.microbatch == 0) {
      (forward_ == nullptr ? forward_ : backward_) = &instance;
    }
  }
  CHECK(forward_ != nullptr && backward_ != nullptr, "{}: no forward and backward", graph_.name);
  uniform_ = is_uniform(*forward_) && is_uniform(*backward_);
  for (const plan::Buffer& b : role.buffers) {
    const std::int64_t bytes = size_bytes(b.dtype, b.elements) * b.layers;
    if (b.name == "x" || b.name == "decoder.x") {  // what goes from layer to layer
      const std::int64_t whole = size_bytes(b.dtype, b.elements);
      message_bytes = message_bytes == 0 ? whole : std::min(message_bytes, whole);
    }
    const bool stays = b.lifetime == plan::Lifetime::persistent;
    parameter_bytes += stays && b.kind == plan::BufferKind::parameter ? bytes : 0;
    gradient_bytes += stays && b.kind == plan::BufferKind::gradient ? bytes : 0;
    state_bytes += stays && b.kind == plan::BufferKind::optimizer_state ? bytes : 0;
    kept_bytes += b.lifetime == plan::Lifetime::slot && b.kind == plan::BufferKind::activation && !b.wraps ? bytes : 0;
  }
}

bool LayerProbe::is_uniform(const plan::Instance& instance) const {
  plan::BlockId block = -1;
  for (const plan::BlockCall& call : graph_.roles.front().segments[static_cast<std::size_t>(instance.segment)].calls) {
    if (call.first >= 0 && block >= 0 && block != call.block) {
      return false;
    }
    block = call.first >= 0 ? call.block : block;
  }
  return true;
}

LayerProbe::Priced& LayerProbe::priced(int level) {
  const auto [at, is_new] = priced_.try_emplace(level);
  if (is_new) {
    const std::unique_ptr<sim::ComputeModel> compute =
        sim::make_compute_model("auto", job_.cluster, static_cast<double>(level) / kLevels);
    at->second.models = sim::model_roles(graph_, job_.cluster, *compute, *network_);
    at->second.least = std::make_unique<sim::LeastTime>(at->second.models.front());
    at->second.busy = busy(at->second.models.front(), *forward_) + busy(at->second.models.front(), *backward_);
    // Some stages lie on one node with the next where a stage's ranks do not fill nodes.
    const plan::Strategy& s = job_.strategy;
    const bool same_node = s.tp * s.cp % topologies::devices_per_unit(job_.cluster) != 0;
    at->second.message = time_from_seconds(network_->message(Bytes{message_bytes}, same_node)).value;
  }
  return at->second;
}

std::int64_t LayerProbe::busy(const sim::RoleModel& model, const plan::Instance& instance) {
  std::int64_t sum = 0;
  for (const plan::BlockCall& call : model.role->segments[static_cast<std::size_t>(instance.segment)].calls) {
    for (const sim::OpModel& op : model.blocks[static_cast<std::size_t>(call.block)]) {
      sum += op.stream == plan::kCompute ? call.count * op.duration.value : 0;
    }
  }
  return sum;
}

std::int64_t LayerProbe::busy(int level) {
  const std::lock_guard lock(mutex_);
  return priced(level).busy;
}

plan::Durations LayerProbe::pass(int level, std::int64_t first, std::int64_t end, bool hidden) {
  const std::lock_guard lock(mutex_);
  Priced& at = priced(level);
  const std::int64_t from = uniform_ && first > 0 && end < layers_ ? 1 : first;
  const auto [found, is_new] = at.passes.try_emplace({from, from + (end - first)});
  if (is_new) {
    found->second = price(at, from, from + (end - first));
  }
  return hidden ? found->second.second : found->second.first;
}

std::pair<plan::Durations, plan::Durations> LayerProbe::price(Priced& at, std::int64_t first, std::int64_t end) {
  sim::LeastTime& least = *at.least;
  plan::Durations shown, hidden;
  least.begin();
  walk(least, *forward_, first, end);
  shown.forward = least.extent().value;
  hidden.forward = least.busy().value;
  least.begin();
  walk(least, *backward_, first, end);
  shown.backward = least.extent().value;
  hidden.backward = least.busy().value;
  shown.backward_weight = hidden.backward_weight = least.busy_weights().value;
  shown.message = hidden.message = at.message;
  least.begin(false);
  walk(least, *backward_, first, end);
  shown.backward_input = least.extent().value;
  hidden.backward_input = least.busy().value;
  return {shown, hidden};
}

// Of what stands before the layers, and behind them, a forward's first part is of the first stage, a backward's of the
// last.
void LayerProbe::walk(sim::LeastTime& least, const plan::Instance& instance, std::int64_t first, std::int64_t end) {
  const plan::Segment& segment = graph_.roles.front().segments[static_cast<std::size_t>(instance.segment)];
  const bool is_backward = &instance == backward_;
  bool behind = false;
  for (const plan::BlockCall& call : segment.calls) {
    behind = behind || call.first >= 0;
    if (call.first < 0 && !(behind == is_backward ? first == 0 : end == layers_)) {
      continue;
    }
    for (std::int32_t i = 0; i < call.count; ++i) {
      const std::int64_t layer = call.first + i * call.step;
      if (call.first < 0 || (first <= layer && layer < end)) {
        least.add(call.block, plan::bind(segment, instance, call, i));
      }
    }
  }
}

}  // namespace foretrain::search
