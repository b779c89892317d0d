// One job: workload x cluster x strategy, read strictly, every default filled in.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "plan/strategy.h"
#include "topologies/cluster.h"
#include "workloads/workload.h"

namespace foretrain::plan {

struct Job {
  std::string origin;             // file name, for messages
  std::string name, description;  // optional in the file; "" = none
  workloads::Workload workload;
  topologies::Cluster cluster;
  Strategy strategy;
  // Of a rank; the most of any, where split_by_speed has them differ.
  std::int64_t microbatches() const;
};

// Reads a job file, its parts ("workload": "path.json" points to a file, relative to the job file) and the overrides
// ("strategy.tp=4", or "tp=4" where the last key is unique in the format). Throws InputError with every mistake found.
// The cluster's profile is named (profile_path), not loaded.
Job load_job(const std::string& path, const std::vector<std::string>& overrides);
Job job_from_text(const std::string& text, const std::string& origin, const std::vector<std::string>& overrides);

// The full job with all defaults, as one document; load_job reads it back to a job with the same resolved document.
nlohmann::json resolved(const Job& job);

// Layers of each virtual stage: floor or ceil of layers/stages, the shorter ones being the last, then the first, then
// from the end backwards; layers_per_stage overrides.
std::vector<std::int64_t> layers_per_stage(const Job& job);
std::vector<std::int64_t> even_layers(std::int64_t layers, std::int64_t stages);
// A multiple of 128 x tp, unless the strategy says otherwise.
std::int64_t padded_vocab(const Job& job);
// Target size of a gradient bucket: what the strategy says, else 40 million elements (Megatron's default).
Bytes bucket_bytes(const Job& job);

}  // namespace foretrain::plan
