#include <algorithm>
#include <nlohmann/json.hpp>

#include "plan/host_traffic.h"
#include "plan/memory.h"
#include "reports/estimate.h"
#include "reports/figures.h"
#include "reports/staleness.h"
#include "reports/text.h"

namespace foretrain::reports {

namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kLargestShown = 10;

Json by_kind(const plan::MemoryPlan& memory) {
  Json out = Json::object();
  for (int k = 0; k < plan::kBufferKinds; ++k) {
    out[std::string(plan::name(static_cast<plan::BufferKind>(k)))] = memory.by_kind[k].value;
  }
  return out;
}

Json held_json(const plan::DeviceMemory& memory) {
  Json out = Json::object();
  for (int k = 0; k < plan::kHeldKinds; ++k) {
    out[std::string(plan::name(static_cast<plan::HeldKind>(k)))] =
        memory.held.by_kind[static_cast<std::size_t>(k)].value;
  }
  return out;
}

void add_totals(Json& out, const plan::DeviceMemory& memory) {
  out["allocated_bytes"] = memory.held.allocated.value;
  out["reserved_bytes"] = memory.held.reserved.value;
  out["device_visible_bytes"] = memory.device_visible().value;
  out["allocated_by_kind_bytes"] = held_json(memory);
}

Json fixes_json(const Estimate& e) {
  Json fixes = Json::array();
  for (const Fix& fix : e.fixes) {
    fixes.push_back(
        {{"change", fix.change}, {"demand_bytes", fix.demand.value}, {"step_time_s", number(seconds(fix.step_time))}});
  }
  return fixes;
}

Json memory_json(const Estimate& e) {
  const plan::PlanGraph& graph = *e.graph;
  const plan::MemoryFit& fit = e.fit;
  const plan::Role& hungriest = graph.roles[hungriest_role(graph)];
  Json memory{{"peak_bytes", hungriest.memory.arena.value},
              {"verdict", plan::name(fit.verdict)},
              {"capacity_bytes", fit.capacity.value},
              {"demand_bytes", fit.demand.value},
              {"missing_bytes", fit.missing().value},
              {"shared_by_all_ranks", fit.shared},
              {"fullest_role", graph.roles[fit.fullest].name},
              {"context_bytes", fit.device().runtime.context.value},
              {"communicator_bytes", fit.device().runtime.communicators.value},
              {"host_bytes", most_on_host(graph).value},
              {"peak_rank", plan::first_rank(graph.mesh, hungriest.ranks)},
              {"by_kind_bytes", by_kind(hungriest.memory)}};
  add_totals(memory, fit.device());
  Json stages = Json::array();
  for (std::size_t i = 0; i < graph.roles.size(); ++i) {
    const plan::Role& role = graph.roles[i];
    stages.push_back({{"role", role.name},
                      {"first_rank", plan::first_rank(graph.mesh, role.ranks)},
                      {"ranks", plan::count(graph.mesh, role.ranks)},
                      {"layers", role.global_layer.size()},
                      {"peak_bytes", role.memory.arena.value},
                      {"host_bytes", role.memory.host.value},
                      {"by_kind_bytes", by_kind(role.memory)}});
    add_totals(stages.back(), fit.roles[i]);
  }
  memory["per_stage"] = std::move(stages);
  Json largest = Json::array();
  for (const plan::LargeBuffer& buffer : plan::largest_buffers(hungriest, kLargestShown)) {
    largest.push_back({{"name", buffer.name}, {"kind", plan::name(buffer.kind)}, {"bytes", buffer.bytes.value}});
  }
  memory["largest"] = std::move(largest);
  memory["fixes"] = fixes_json(e);
  return memory;
}

// What each host sends each other in a step, the mean where these are not alike.
Json links_json(const plan::Job& job, const plan::PlanGraph& graph) {
  const std::int64_t ranks = graph.mesh.ranks(), steps = plan::period(graph);
  std::vector<int> host_of;
  for (plan::Rank r = 0; r < ranks; ++r) {
    host_of.push_back(static_cast<int>(r * job.cluster.nodes / ranks));
  }
  const plan::HostTraffic sent = plan::host_traffic(graph, host_of, 0, steps);
  Json links = Json::array();
  sent.for_each_link([&](int from, int to) {
    links.push_back({{"from", from}, {"to", to}, {"bytes_per_step", sent.at(from, to) / steps}});
  });
  return links;
}

Json reading_json(const Estimate& e) {
  const Reading& r = *e.reading;
  Json out{{"bytes_per_step", r.per_step.value}};
  if (e.graph->data.kept > 0) {
    out["cache_bytes_per_node"] = r.epoch.cache.value;
    out["first_epoch"] = {
        {"storage_bytes", r.epoch.all.value}, {"cache_bytes", 0}, {"step_time_s", number(seconds(r.first_step_time))}};
    out["later_epochs"] = {{"storage_bytes", (r.epoch.all - r.epoch.kept).value},
                           {"cache_bytes", r.epoch.kept.value},
                           {"step_time_s", number(seconds(e.step_time))}};
  }
  return out;
}

}  // namespace

nlohmann::ordered_json to_json(const Estimate& e) {
  const workloads::Workload& w = e.job->workload;
  const double step = seconds(e.step_time);
  const Efficiency eff = efficiency(*e.job, *e.graph, step);
  const double tokens_per_second = static_cast<double>(w.global_batch * w.tokens_per_sequence()) / step;
  const double devices = static_cast<double>(eff.devices);

  Json out{{"schema", "foretrain.estimate/1"},
           {"fits", e.fit.fits()},
           {"step_time_s", number(step)},
           {"tokens_per_s", number(tokens_per_second)},
           {"tokens_per_s_per_device", number(tokens_per_second / devices)},
           {"model_flops_per_step", number(eff.model_flops)},
           {"model_tflops_per_device", number(eff.model_flops / step / devices / 1e12)},
           {"mfu", number(eff.mfu)},
           {"hfu", number(eff.hfu)},
           {"mfu_causal_halved", number(eff.mfu_causal)},
           {"mfu_bf16", number(eff.mfu_bf16)},
           {"mfu_basis",
            {{"formula", "model_flops_per_step / (step_time_s * devices * peak_flops_per_device)"},
             {"peak_flops_per_device", number(eff.peak_flops)},
             {"peak", "dense, of the compute dtype"},
             {"dtype", name(w.precision.compute)},
             {"devices", eff.devices},
             {"hardware_flops_per_step", number(eff.hardware_flops)}}}};
  out["breakdown_s"] = breakdown_json(mean_over_ranks(*e.graph, e.by_role));
  Json roles = Json::array();
  for (std::size_t i = 0; i < e.by_role.size(); ++i) {
    roles.push_back({{"role", e.graph->roles[i].name}, {"breakdown_s", breakdown_json(e.by_role[i])}});
  }
  out["breakdown_by_role"] = std::move(roles);
  if (!e.staleness.empty()) {
    out["staleness"] = staleness_json(e.staleness);
  }
  if (e.reading) {
    out["reading"] = reading_json(e);
  }
  if (e.job->cluster.is_hosts() && !e.graph->asynchronous) {
    out["links"] = links_json(*e.job, *e.graph);
  }
  out["memory"] = memory_json(e);
  out["fixes"] = fixes_json(e);
  out["error_band"] = {{"low_s", number(e.error_band.low_seconds)},
                       {"high_s", number(e.error_band.high_seconds)},
                       {"basis", e.error_band.basis}};
  if (e.whole_run) {
    out["whole_run"] = to_json(*e.whole_run);
  }
  out["models"] = {{"compute", e.compute_model}, {"network", e.network_model}};
  Json classes = Json::array();
  for (const RankClass& c : e.classes) {
    classes.push_back(
        {{"role", e.graph->roles[static_cast<std::size_t>(c.role)].name}, {"first_rank", c.first}, {"ranks", c.ranks}});
  }
  out["rank_classes"] = std::move(classes);
  out["notes"] = e.notes;
  out["resolved"] = Json(plan::resolved(*e.job));
  return out;
}

}  // namespace foretrain::reports
