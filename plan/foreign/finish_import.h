// What importers share. Used by plan/foreign/ only.
#pragma once

#include <string>
#include <vector>

#include "plan/foreign/launch_words.h"
#include "plan/foreign/settings.h"

namespace foretrain::plan {

// KEY=VALUE with the fields in full: "strategy.tp=4".
std::vector<std::string> overridden_fields(const std::vector<std::string>& overrides);

// "cluster" of what a launcher says of nodes and devices; what it does not say is assumed, the system always. What
// KEY=VALUE says goes before both.
void set_cluster(SettingReader& r, const LaunchWords& launch, const std::vector<std::string>& overrides);
// What is said of it, else of the devices that set_cluster() knows and the axes that were read; 1 at least.
std::int64_t data_parallel_size(const SettingReader& r);

// Applies the overrides and reads the job as plan::load_job would. Throws InputError with its mistakes.
ImportedJob finished(ImportedJob job, const std::string& origin, const std::vector<std::string>& overrides);

}  // namespace foretrain::plan
