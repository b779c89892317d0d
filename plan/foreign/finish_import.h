// What importers share. Used by plan/foreign/ only.
#pragma once

#include <string>
#include <vector>

#include "plan/foreign/launch_words.h"
#include "plan/foreign/settings.h"

namespace foretrain::plan {

// The fields that KEY=VALUE name, in full.
std::vector<std::string> overridden_fields(const std::vector<std::string>& overrides);

// "cluster" of what a launcher says of nodes and devices; what it does not say is assumed, the system always. What
// KEY=VALUE says goes before both.
void set_cluster(SettingReader& r, const LaunchWords& launch, const std::vector<std::string>& overrides);
// Of the devices that set_cluster() knows and the axes that were read; 1 at least.
std::int64_t data_parallel_size(const SettingReader& r);

// Applies the overrides and reads the job as plan::load_job would. Throws InputError with its mistakes.
ImportedJob finished(ImportedJob job, const std::string& origin, const std::vector<std::string>& overrides);

}  // namespace foretrain::plan
