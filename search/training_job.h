// A published measurement as a job that can be forecast: every field with where its value comes from.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/held_memory.h"
#include "plan/job.h"
#include "search/training_row.h"
#include "search/training_rules.h"

namespace foretrain::search {

enum class Origin : std::uint8_t { stated, rule, default_value };  // by the row; by a rule; of the job file
std::string_view name(Origin o);

struct ReadField {
  std::string path, value;  // "strategy.tp", as the job file has it
  Origin origin = Origin::stated;
  std::string source;  // of a rule
};

// Which of a device's totals (plan/device_memory.h) a row's memory is.
enum class MeasuredMemory : std::uint8_t { allocated, reserved, device_visible };
// What shards parameters (ZeRO-3); they differ in what they copy around a gather and a reduction.
enum class Sharding : std::uint8_t { other, fsdp1, fsdp2 };
inline constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

struct Reading {
  std::vector<ReadField> fields;
  std::vector<std::string> notes;      // what the forecast does in place of what the row did
  std::optional<std::string> skipped;  // why there is no job
  std::optional<plan::Job> job;        // profile loaded
  plan::HeldRules held;                // what the framework holds in place of the plan's tensors
  MeasuredMemory memory = MeasuredMemory::device_visible;
  double memory_unit = kGiB;     // bytes of one "memory_gib"
  bool logits_gathered = false;  // each tp rank holds those of the whole vocabulary
  // Gradients are all-reduced, and not reduced to the ranks that own them (ZeRO-1).
  bool all_reduces_gradients = false;
  // The input gradients of gate and up, matmuls of their own, are summed over tp one by one.
  bool reduces_gate_apart = false;
  // Megatron-core's passes over all of a rank's gradients before they are reduced.
  bool checks_gradients = false;
  Sharding sharding = Sharding::other;
};

// Safe to call from several threads. The rules must hold the profiles they need.
Reading read_job(const TrainingRow& row, const TrainingRules& rules);

}  // namespace foretrain::search
