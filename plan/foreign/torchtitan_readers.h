// torchtitan's words of parallelism into those of a job.
#pragma once

#include <cstdint>

#include "plan/foreign/settings.h"

namespace foretrain::plan {

// Schedule, stages and their layers; gives back how many stages a rank has. `layers`: of the model, 0 where unknown.
std::int64_t read_torchtitan_pipeline(SettingReader& r, std::int64_t layers);
// Replicas, FSDP and what of it overlaps.
void read_torchtitan_data_parallel(SettingReader& r);

}  // namespace foretrain::plan
