// The "workload" part of a job file.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/json.h"
#include "workloads/workload.h"

namespace foretrain::workloads {

// Reads all but finish(), so that a part file may have keys of its own. Records mistakes.
Workload read_workload(ObjectReader& reader, bool on_this_machine);

// The part with every default filled in; read_workload gives back an equal workload.
nlohmann::json to_json(const Workload& workload);

}  // namespace foretrain::workloads
