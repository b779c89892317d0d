// A job whose strategy is still to be chosen.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "plan/job.h"

namespace foretrain::plan {

// Workload and cluster (nodes 1 where none are given), and what of the strategy the file and the overrides say.
struct OpenJob {
  Job job;                                      // without a strategy
  std::shared_ptr<const nlohmann::json> given;  // of the part "strategy", an object
  // The job file as it was read, parts in files and overrides taken in, without a strategy; paths are absolute.
  std::shared_ptr<const nlohmann::ordered_json> document;
};
// Throws InputError as load_job does.
OpenJob load_open_job(const std::string& path, const std::vector<std::string>& overrides);
OpenJob open_job_from_text(const std::string& text, const std::string& origin,
                           const std::vector<std::string>& overrides = {});

// The job file with this strategy.
nlohmann::ordered_json document_of(const OpenJob& open, const nlohmann::json& strategy);

// The job with this strategy, an object as in a job file. Throws InputError as load_job does.
Job with_strategy(const Job& open, const nlohmann::json& strategy);

}  // namespace foretrain::plan
