// A published measurement as a job that can be forecast: every field with where its value comes from.
#pragma once

#include <optional>
#include <string>
#include <vector>

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

struct Reading {
  std::vector<ReadField> fields;
  std::vector<std::string> notes;      // what the forecast does in place of what the row did
  std::optional<std::string> skipped;  // why there is no job
  std::optional<plan::Job> job;        // profile loaded
  // Gradients are kept in elements of so many bytes until they are reduced, whatever the job's precision says; 0: as it
  // says.
  int gradient_bytes = 0;
  // Bytes of a logit at the peak, all its copies, and whether each tp rank holds those of the whole vocabulary; 0: the
  // plan's one copy of its own part.
  double logits_bytes = 0;
  double activation_memory = 1;  // times the plan's, where nothing is recomputed
  bool logits_gathered = false;
};

// Safe to call from several threads. The rules must hold the profiles they need.
Reading read_job(const TrainingRow& row, const TrainingRules& rules);

}  // namespace foretrain::search
