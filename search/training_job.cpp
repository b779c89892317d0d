#include "search/training_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "search/framework_costs.h"
#include "search/job_filler.h"
#include "search/training_model.h"
#include "search/training_strategy.h"
#include "topologies/cluster_file.h"

namespace foretrain::search {

namespace {

using nlohmann::json;

// A feature that a row's plan has and the plan graph cannot say. `skips`: such a row is not forecast; else it is, as
// `what` says. The one place to change when the plan graph learns it.
struct Feature {
  bool skips;
  const char* what;
  bool (*has)(const TrainingRow& row);
};

constexpr Feature kFeatures[] = {
    {false, "DualPipe, which has two copies of the parameters, is forecast as DualPipeV, its half with one",
     runs_dualpipe},
    {false, "kernels of their own that exchange tokens are forecast as NCCL's all-to-all",
     [](const TrainingRow& r) { return r.plan.dispatcher.starts_with("DeepEP"); }},
    {false, "the masked tokens' logits are forecast as logits of all tokens",
     [](const TrainingRow& r) { return r.model.encoder; }},
    {true, "the pipeline's schedule", [](const TrainingRow& r) { return !knows_schedule(r); }},
    {false, "the zero-bubble schedule that a search found is forecast as ZB-H1 or ZB-H2 of the same memory",
     [](const TrainingRow& r) { return r.plan.schedule.starts_with("ZB-"); }},
    {false, "tensor-parallel communication that overlaps compute is forecast as exposed",
     [](const TrainingRow& r) { return r.plan.overlap.find("async TP") != std::string::npos; }},
    {false, "recompute of single ops is forecast as recompute of attention",
     [](const TrainingRow& r) { return r.plan.recompute.find("per-op") != std::string::npos; }},
};

// The family's system, with the row's nodes and links. Nothing, and why, where they do not fit.
std::optional<topologies::Cluster> cluster_of(const TrainingRow& row, const TrainingRules& rules, Reading& reading) {
  const auto& c = row.cluster;
  const DeviceRule* device = rules.device(c.family, row.plan.framework);
  if (device == nullptr || !c.gpus) {
    reading.skipped = device == nullptr ? fmt::format("no system is known for \"{}\"", c.family)
                                        : "the number of devices is not stated";
    return std::nullopt;
  }
  topologies::Cluster cluster = device->cluster;
  reading.fields.push_back({"cluster.system", cluster.name, Origin::rule, device->source});
  const std::int64_t per_node = c.gpus_per_node.value_or(cluster.devices_per_node);
  if (per_node != cluster.devices_per_node) {
    cluster.devices_per_node = static_cast<int>(per_node);
    cluster.fabric = nullptr;
    reading.fields.push_back({"cluster.system.devices_per_node", std::to_string(per_node), Origin::stated, ""});
  }
  if (*c.gpus > per_node && *c.gpus % per_node != 0) {
    reading.skipped = "the devices are no whole number of nodes";
    return std::nullopt;
  }
  cluster.nodes = std::max<std::int64_t>(1, *c.gpus / per_node);
  reading.fields.push_back({"cluster.nodes", std::to_string(cluster.nodes), Origin::stated, ""});
  if (c.inter_node_gbps && *c.inter_node_gbps > 0) {
    const bool by_rule = device->adapters > 1 && !c.inter_has_scope;
    const double of_node = *c.inter_node_gbps * 1e9 / 8 * static_cast<double>(by_rule ? device->adapters : 1);
    const double rate = of_node / (c.inter_per_gpu ? 1 : static_cast<double>(per_node));
    // Half a per cent: 1600 Gb/s of a node is eight times 200.
    if (std::abs(rate / cluster.inter.bandwidth.value - 1) > 0.005) {
      cluster.inter.bandwidth.value = rate;
      cluster.fabric = nullptr;
      reading.fields.push_back({"cluster.system.inter.bandwidth", to_string(cluster.inter.bandwidth),
                                by_rule ? Origin::rule : Origin::stated, by_rule ? device->source : ""});
    }
  }
  return cluster;
}

void fill_loss(Filler& f, Reading& reading) {
  const plan::Strategy& s = reading.job->strategy;
  plan::HeldLoss& loss = reading.held.loss;
  const auto kernel = f.word("loss");
  loss.eager = kernel.has_value();
  loss.in_parts = kernel == "eager_in_parts" && s.tp > 1;
  loss.gathered_over = reading.logits_gathered ? static_cast<int>(s.tp) : 1;
  if (const auto kept = f.word("logits_kept")) {
    loss.kept = json::parse(*kept).get<int>();
  }
  loss.recomputed = s.recompute == plan::Recompute::full && f.word("head_recomputed") == "true";
  if (s.sequence_parallel && f.word("gathered_norms_kept") == "true") {
    // The gathered output of each norm in place of this rank's part.
    for (const char* norm : {"norm1", "norm2"}) {
      reading.held.times.emplace(norm, 1).first->second += static_cast<double>(s.tp - 1);
    }
  }
}

void fill_update(Filler& f, plan::HeldUpdate& update) {
  const auto number = [&](const char* field) {
    const auto word = f.word(field);
    return word ? json::parse(*word).get<double>() : 0;
  };
  update = {number("update.norm"), number("update.copy"), number("update.gradient"), number("update.temporary"),
            f.word("update.flat") == "true"};
}

void fill_memory(Filler& f, Reading& reading) {
  const plan::Job& job = *reading.job;
  std::map<std::string, double, std::less<>>& times = reading.held.times;
  times = f.held();
  if (const auto gradient = f.word("gradient_dtype")) {
    const double bytes = *gradient == "fp32" ? 4 : 2;
    for (const char* buffer : {"embedding.gradients", "layer.gradients", "head.gradients", "head.weight.gradient"}) {
      times[buffer] = bytes / static_cast<double>(size_bytes(job.workload.precision.gradient, 1));
    }
  }
  if (const auto bytes = f.word("master_bytes")) {
    for (const char* buffer : {"embedding.master", "layer.master", "head.master"}) {
      times[buffer] =
          json::parse(*bytes).get<double>() / static_cast<double>(size_bytes(job.workload.precision.state, 1));
    }
  }
  if (const auto bytes = f.word("logits_bytes")) {
    const double each = json::parse(*bytes).get<double>();
    times["logits"] = each * static_cast<double>(reading.logits_gathered ? job.strategy.tp : 1) /
                      std::max(2.0, static_cast<double>(size_bytes(job.workload.precision.compute, 1)));
  }
  fill_loss(f, reading);
  if (const auto more = f.word("communicators")) {
    reading.held.more_communicators = json::parse(*more).get<int>();
  }
  fill_update(f, reading.held.update);
  reading.held.weight_gradient_per_shape = f.word("weight_gradient_per_shape") == "true";
  reading.held.gradients_per_step = f.word("gradients_per_step") == "true";
  reading.held.expandable_segments = f.word("expandable_segments") == "true";
  if (const auto total = f.word("measured_memory")) {
    reading.memory = *total == "allocated"  ? MeasuredMemory::allocated
                     : *total == "reserved" ? MeasuredMemory::reserved
                                            : MeasuredMemory::device_visible;
  }
  reading.memory_unit = f.word("memory_unit") == "GB" ? 1e9 : kGiB;
}

// "id:1: /strategy: what; ..." without its place: the same reason for all rows that have it.
std::string reason_of(const std::string& message, const std::string& origin) {
  const std::string first = message.substr(0, message.find('\n'));
  const std::string place = origin + ":1: ";
  return "no such job: " + (first.starts_with(place) ? first.substr(place.size()) : first);
}

// What neither row nor rule gave, as the job has it.
void add_defaults(const json& resolved, std::vector<ReadField>& fields) {
  for (const char* path :
       {"workload.model.kv_heads", "workload.model.head_dim", "workload.precision", "strategy.micro_batch",
        "strategy.virtual_stages", "strategy.zero", "strategy.sequence_parallel", "strategy.recompute",
        "strategy.overlap_grad_reduce", "strategy.overlap_param_gather", "strategy.overlap_tp",
        "strategy.scatter_gather", "strategy.fused_grad_accumulation", "strategy.bucket_bytes"}) {
    if (std::none_of(fields.begin(), fields.end(), [&](const ReadField& f) { return f.path == path; })) {
      fields.push_back({path, shown_value(at_path(resolved, path)), Origin::default_value, ""});
    }
  }
}

}  // namespace

std::string_view name(Origin o) {
  return o == Origin::stated ? "stated" : o == Origin::rule ? "rule" : "default";
}

Reading read_job(const TrainingRow& row, const TrainingRules& rules) {
  Reading reading;
  for (const Feature& feature : kFeatures) {
    if (feature.has(row) && feature.skips) {
      reading.skipped = fmt::format("not in the plan graph: {}", feature.what);
      return reading;
    }
    if (feature.has(row)) {
      reading.notes.emplace_back(feature.what);
    }
  }
  const std::optional<topologies::Cluster> cluster = cluster_of(row, rules, reading);
  if (!cluster) {
    return reading;
  }
  Filler filler(row, rules, reading);
  fill_model(row, filler);
  fill_strategy(row, filler);
  if (!filler.missing().empty()) {
    reading.skipped = fmt::format("not stated: {}", fmt::join(filler.missing(), ", "));
    return reading;
  }
  topologies::Cluster used = *cluster;
  if (*row.cluster.gpus < used.devices_per_node) {
    used.devices_per_node = static_cast<int>(*row.cluster.gpus);
    reading.fields.push_back({"cluster.devices_per_node", std::to_string(used.devices_per_node), Origin::stated, ""});
  }
  filler.document()["cluster"] = topologies::to_json(used);
  try {
    reading.job = plan::job_from_text(filler.document().dump(), row.id, {});
  } catch (const InputError& e) {
    reading.skipped = reason_of(e.what(), row.id);
    return reading;
  }
  add_defaults(plan::resolved(*reading.job), reading.fields);
  reading.job->name = row.id;
  reading.logits_gathered = filler.word("logits_gathered") == "true";
  std::map<std::string, double> costs = filler.costs();
  if (reading.logits_gathered) {  // every tp rank goes over the whole vocabulary
    costs.emplace("cross_entropy", 1).first->second *= static_cast<double>(reading.job->strategy.tp);
  }
  reading.job->cluster.profile = with_costs(used.profile, costs);
  HostCosts host{{}, filler.word("waits_each_pass") == "true"};
  if (const auto submit = filler.word("submit_us")) {
    host.submit = json::parse(*submit).get<double>() * 1e-6;
  }
  reading.job->cluster.profile = with_host(reading.job->cluster.profile, host);
  fill_memory(filler, reading);
  if (row.plan.fsdp_mixed_precision == "PURE" || filler.word("reduce_dtype")) {
    reading.job->workload.precision.gradient = Dtype::bf16;  // reduced as it was computed
  }
  reading.all_reduces_gradients = filler.word("gradients_all_reduced") == "true";
  reading.reduces_gate_apart = filler.word("gate_reduced_apart") == "true";
  reading.checks_gradients = filler.word("checks_gradients") == "true";
  const auto sharding = row.is_fsdp() ? filler.word("sharding") : std::nullopt;
  reading.sharding = sharding == "fsdp1" ? Sharding::fsdp1 : sharding == "fsdp2" ? Sharding::fsdp2 : Sharding::other;
  return reading;
}

}  // namespace foretrain::search
