// What a published measurement leaves unsaid: on which system its kind of GPU is forecast, and what its framework does
// by default. The rules stand in search/training_rules.json, each with its source. They know the row's model, plan and
// framework, never what was measured.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "search/training_row.h"
#include "topologies/cluster.h"

namespace foretrain::search {

// The system that a family of GPUs is forecast on, with one node; `cluster` has its profile loaded.
struct DeviceRule {
  std::string family, source;
  std::string framework;  // part of the row's; empty: any
  topologies::Cluster cluster;
  std::int64_t adapters = 1;  // of a node, where rows state a rate without saying whose
};

// A value for a field that the row does not state. Conditions that are absent always hold.
struct FieldRule {
  std::string field;  // one of rule_fields()
  std::string value;  // as the job file has it, in JSON
  std::string source;
  std::optional<std::int64_t> hidden;                // of the model
  std::optional<std::int64_t> micro_batch_from;      // this or more
  std::optional<std::int64_t> heads_no_multiple_of;  // heads of a microbatch's sequences on a tp rank are none of it
  std::optional<bool> gated_mlp, compile, pipeline, sequence_parallel;
  // Parts of the model's name, of the row's kernel, precision, recompute and overlap, of its kind of GPU.
  std::string model, kernel, precision, recompute, overlap, gpu;
  bool applies_to(const TrainingRow& row) const;
};

struct FrameworkRules {
  std::string name;
  std::vector<std::string> match;  // parts of the row's framework, one of which must occur
  std::vector<FieldRule> rules;
};

// Rows that a constant was fitted to, which so have a part in their own forecast.
struct FittedGroup {
  std::string group, source;
};

struct TrainingRules {
  std::vector<DeviceRule> devices;
  std::vector<FrameworkRules> frameworks;  // the first that matches counts
  FrameworkRules any;                      // ... then these
  std::vector<FittedGroup> fitted;

  bool is_fitted(const std::string& group) const;
  const DeviceRule* device(const std::string& family, const std::string& framework) const;
  // nullptr where no framework matches; `any` holds nevertheless.
  const FrameworkRules* framework(const std::string& words) const;
};

// What a rule can give: fields of a job; what the memory of a framework differs in (Reading); and "cost.<kind>" for the
// cost_kinds of search/framework_costs.h, and "held.<buffer>" for held_buffers().
const std::vector<std::string>& rule_fields();
constexpr const char* kCost = "cost.";
constexpr const char* kHeld = "held.";
// Buffers of the plan graph that frameworks hold more of (plan/held_memory.h).
const std::vector<std::string>& held_buffers();

// "" reads the catalogue's file. Throws InputError with every mistake.
TrainingRules load_training_rules(const std::string& path);

}  // namespace foretrain::search
