#include "search/training_rules.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/catalogue.h"
#include "base/error.h"
#include "base/json.h"
#include "search/framework_costs.h"
#include "topologies/cluster_file.h"
#include "topologies/fabric_file.h"
#include "topologies/profile.h"

namespace foretrain::search {

namespace {

constexpr const char* kFile = "search/training_rules.json";
constexpr std::int64_t kMost = 1 << 24, kMostAdapters = 64;

// A catalogue system, changed where the family differs from it. What changes a link takes the fabric's figures away.
DeviceRule read_device(ObjectReader reader) {
  DeviceRule rule;
  rule.family = reader.text("family", std::nullopt);
  rule.source = reader.text("source", std::nullopt);
  rule.framework = reader.text("framework", "");
  const std::string system = reader.text("system", std::nullopt);
  topologies::Cluster& c = rule.cluster;
  try {
    c = topologies::load_system(system);
    topologies::load_profile_of(c);
  } catch (const InputError& e) {
    reader.mistake("system", e.what());
  }
  c.name = reader.text("name", c.name);
  c.device.name = reader.text("device", c.device.name);
  c.device.memory = reader.bytes("memory", c.device.memory);
  c.device.memory_bandwidth = reader.bandwidth("memory_bandwidth", c.device.memory_bandwidth);
  if (reader.has("intra_bandwidth")) {
    c.intra.bandwidth = topologies::link_bandwidth(reader, "intra_bandwidth", std::nullopt);
    c.fabric = nullptr;
  }
  rule.adapters = reader.integer("adapters", 1, 1, kMostAdapters);
  reader.finish();
  return rule;
}

FieldRule read_field(ObjectReader reader) {
  FieldRule rule;
  rule.field = reader.word("field", std::nullopt, rule_fields());
  const nlohmann::json* value = reader.raw("value");
  const bool is_object = rule.field == "mla";
  if (value == nullptr || value->is_null() || value->is_array() || value->is_object() != is_object) {
    reader.mistake("value", is_object ? "expected an object, as a job file has it"
                                      : "expected a text, a number, true or false, as a job file has it");
  } else {
    rule.value = value->dump();
    if (rule.field == "logits_bytes" &&
        !(value->is_number() && value->get<double>() > 0 && value->get<double>() < 64)) {
      reader.mistake("value", "expected the bytes of one logit, above 0 and below 64");
    }
    const bool is_flag = rule.field == "logits_gathered" || rule.field == "gate_reduced_apart" ||
                         rule.field == "gradients_all_reduced" || rule.field == "expandable_segments" ||
                         rule.field == "gradients_per_step" || rule.field == "weight_gradient_per_shape" ||
                         rule.field == "head_recomputed" || rule.field == "gathered_norms_kept" ||
                         rule.field == "update.flat" || rule.field == "waits_each_pass" ||
                         rule.field == "checks_gradients";
    if (is_flag && !value->is_boolean()) {
      reader.mistake("value", "expected true or false");
    }
    if (rule.field == "reduce_dtype" && *value != "bf16") {
      reader.mistake("value", "expected \"bf16\"");
    }
    if (rule.field == "pipeline_microbatches" && *value != "stages") {
      reader.mistake("value", "expected \"stages\"");
    }
    constexpr int kMostKept = 1024;
    if (rule.field == "logits_kept" &&
        !(value->is_number_integer() && value->get<std::int64_t>() >= 0 && value->get<std::int64_t>() <= kMostKept)) {
      reader.mistake("value", "expected a number of microbatches, from 0 to 1024");
    }
    constexpr double kMostCost = 100;
    const auto one_of = [&](const char* field, std::initializer_list<const char*> words) {
      if (rule.field == field && std::find(words.begin(), words.end(), *value) == words.end()) {
        reader.mistake("value", fmt::format("expected \"{}\"", fmt::join(words, "\" or \"")));
      }
    };
    one_of("measured_memory", {"allocated", "reserved", "device_visible"});
    one_of("memory_unit", {"GB", "GiB"});
    one_of("sharding", {"fsdp1", "fsdp2"});
    one_of("loss", {"eager", "eager_in_parts"});
    one_of("pipeline_partition", {"uniform", "last_stages", "last_has_rest"});
    if (rule.field == "gradient_dtype" && *value != "fp32" && *value != "fp16" && *value != "bf16") {
      reader.mistake("value", "expected \"fp32\", \"fp16\" or \"bf16\"");
    }
    if (rule.field.starts_with(kHeld) &&
        !(value->is_number() && value->get<double>() >= 0 && value->get<double>() <= kMostCost)) {
      reader.mistake("value", "expected how many times the plan's bytes, from 0 to 100");
    }
    if (rule.field.starts_with("update.") && !is_flag &&
        !(value->is_number() && value->get<double>() >= 0 && value->get<double>() <= kMostCost)) {
      reader.mistake("value", "expected bytes of a parameter, from 0 to 100");
    }
    if (rule.field == "communicators" &&
        !(value->is_number_integer() && value->get<std::int64_t>() >= 0 && value->get<std::int64_t>() <= 100)) {
      reader.mistake("value", "expected a number of communicators, from 0 to 100");
    }
    if (rule.field == "master_bytes" &&
        !(value->is_number() && value->get<double>() >= 0 && value->get<double>() <= 8)) {
      reader.mistake("value", "expected bytes of a parameter, from 0 to 8");
    }
    if (rule.field == "submit_us" &&
        !(value->is_number() && value->get<double>() >= 0 && value->get<double>() <= 1000)) {
      reader.mistake("value", "expected the microseconds in which the host submits an op of a plan, from 0 to 1000");
    }
    const bool is_cost = rule.field.starts_with(kCost);
    if (is_cost && !(value->is_number() && value->get<double>() > 0 && value->get<double>() <= kMostCost)) {
      reader.mistake("value", "expected how many times the plan graph's, above 0 and at most 100");
    }
  }
  rule.source = reader.text("source", std::nullopt);
  ObjectReader when = reader.object("when", false);
  if (when.has("hidden")) {
    rule.hidden = when.integer("hidden", std::nullopt, 1, kMost);
  }
  if (when.has("micro_batch_from")) {
    rule.micro_batch_from = when.integer("micro_batch_from", std::nullopt, 1, kMost);
  }
  if (when.has("heads_no_multiple_of")) {
    rule.heads_no_multiple_of = when.integer("heads_no_multiple_of", std::nullopt, 1, kMost);
  }
  if (when.has("sequence_parallel")) {
    rule.sequence_parallel = when.boolean("sequence_parallel", std::nullopt);
  }
  if (when.has("gated_mlp")) {
    rule.gated_mlp = when.boolean("gated_mlp", std::nullopt);
  }
  if (when.has("compile")) {
    rule.compile = when.boolean("compile", std::nullopt);
  }
  if (when.has("pipeline")) {
    rule.pipeline = when.boolean("pipeline", std::nullopt);
  }
  rule.precision = when.text("precision", "");
  rule.model = when.text("model", "");
  rule.kernel = when.text("kernel", "");
  rule.recompute = when.text("recompute", "");
  rule.overlap = when.text("overlap", "");
  rule.gpu = when.text("gpu", "");
  when.finish();
  reader.finish();
  return rule;
}

FrameworkRules read_framework(ObjectReader reader, bool any) {
  FrameworkRules f;
  f.name = reader.text("name", any ? std::optional<std::string>("any framework") : std::nullopt);
  if (!any) {
    f.match = reader.texts("match");
    if (f.match.empty()) {
      reader.mistake("match", "expected parts of the framework's name in the rows");
    }
  }
  for (ObjectReader& rule : reader.objects("rules")) {
    f.rules.push_back(read_field(std::move(rule)));
  }
  reader.finish();
  return f;
}

}  // namespace

bool FieldRule::applies_to(const TrainingRow& row) const {
  const std::int64_t heads = row.model.heads.value_or(0) * row.plan.micro_batch.value_or(1) / row.plan.tp.value_or(1);
  return (!heads_no_multiple_of || heads % *heads_no_multiple_of != 0) && (!hidden || row.model.hidden == hidden) &&
         (!micro_batch_from || row.plan.micro_batch >= micro_batch_from) &&
         (!sequence_parallel || row.plan.sequence_parallel.value_or(false) == sequence_parallel) &&
         (!gated_mlp || row.model.gated_mlp == gated_mlp) && (!compile || row.plan.compile == compile) &&
         (!pipeline || (row.plan.pp.value_or(1) > 1) == pipeline) &&
         row.plan.precision.find(precision) != std::string::npos && row.model.name.find(model) != std::string::npos &&
         row.plan.kernel.find(kernel) != std::string::npos && row.plan.recompute.find(recompute) != std::string::npos &&
         row.plan.overlap.find(overlap) != std::string::npos && row.cluster.family.find(gpu) != std::string::npos;
}

const std::vector<std::string>& rule_fields() {
  static const std::vector<std::string> fields{"activation",
                                               "norm",
                                               "positions",
                                               "biases",
                                               "mla",
                                               "qk_norm",
                                               "tied_embeddings",
                                               "vocab",
                                               "attention",
                                               "optimizer",
                                               "precision",
                                               "micro_batch",
                                               "virtual_stages",
                                               "zero",
                                               "sequence_parallel",
                                               "recompute",
                                               "recompute_early_stop",
                                               "overlap_grad_reduce",
                                               "overlap_param_gather",
                                               "overlap_tp",
                                               "scatter_gather",
                                               "fused_grad_accumulation",
                                               "bucket_bytes",
                                               "gradient_dtype",
                                               "logits_bytes",
                                               "logits_gathered",
                                               "gate_reduced_apart",
                                               "gradients_all_reduced",
                                               "expandable_segments",
                                               "submit_us",
                                               "waits_each_pass",
                                               "checks_gradients",
                                               "measured_memory",
                                               "memory_unit",
                                               "gradients_per_step",
                                               "weight_gradient_per_shape",
                                               "fsdp_stage",
                                               "pipeline_microbatches",
                                               "zero_kind",
                                               "cp_kind",
                                               "reduce_dtype",
                                               "sharding",
                                               "pipeline_partition",
                                               "loss",
                                               "logits_kept",
                                               "head_recomputed",
                                               "gathered_norms_kept",
                                               "update.norm",
                                               "update.copy",
                                               "update.gradient",
                                               "update.temporary",
                                               "update.flat",
                                               "master_bytes",
                                               "communicators"};
  static const std::vector<std::string> all = [] {
    std::vector<std::string> result = fields;
    for (const std::string& kind : cost_kinds()) {
      result.push_back(kCost + kind);
    }
    for (const std::string& buffer : held_buffers()) {
      result.push_back(kHeld + buffer);
    }
    return result;
  }();
  return all;
}

const std::vector<std::string>& held_buffers() {
  static const std::vector<std::string> buffers{
      "x",       "x_mid",           "norm1", "norm2", "qkv", "probabilities", "log_sum_exp",
      "context", "attention.d_qkv", "up",    "act",   "dy",  "logits",        "head.norm"};
  return buffers;
}

const DeviceRule* TrainingRules::device(const std::string& family, const std::string& framework) const {
  const auto found = std::find_if(devices.begin(), devices.end(), [&](const DeviceRule& d) {
    return d.family == family && framework.find(d.framework) != std::string::npos;
  });
  return found == devices.end() ? nullptr : &*found;
}

const FrameworkRules* TrainingRules::framework(const std::string& words) const {
  const auto matches = [&](const FrameworkRules& f) {
    return std::any_of(f.match.begin(), f.match.end(),
                       [&](const std::string& part) { return words.find(part) != std::string::npos; });
  };
  const auto found = std::find_if(frameworks.begin(), frameworks.end(), matches);
  return found == frameworks.end() ? nullptr : &*found;
}

bool TrainingRules::is_fitted(const std::string& group) const {
  return std::any_of(fitted.begin(), fitted.end(), [&](const FittedGroup& f) { return f.group == group; });
}

TrainingRules load_training_rules(const std::string& path) {
  const JsonDocument document = JsonDocument::from_file(path.empty() ? catalogue_home() + "/" + kFile : path);
  Mistakes mistakes;
  ObjectReader reader(document, mistakes);
  TrainingRules rules;
  reader.word("schema", std::nullopt, {"foretrain.training_rules/1"});
  for (ObjectReader& device : reader.objects("devices")) {
    rules.devices.push_back(read_device(std::move(device)));
  }
  for (ObjectReader& framework : reader.objects("frameworks")) {
    rules.frameworks.push_back(read_framework(std::move(framework), false));
  }
  rules.any = read_framework(reader.object("any"), true);
  for (ObjectReader& group : reader.objects("fitted", /*required=*/false)) {
    rules.fitted.push_back({group.text("group", std::nullopt), group.text("source", std::nullopt)});
    group.finish();
  }
  reader.finish();
  mistakes.throw_if_any();
  return rules;
}

}  // namespace foretrain::search
