// key=value of the command line: which field of a job file a short key means.
#pragma once

#include <string>
#include <vector>

namespace foretrain::plan {

// Every field of a job file as a dotted path, in file order ("workload.optimizer.learning_rate", …).
const std::vector<std::string>& job_fields();

// "tp=4" -> "strategy.tp=4". A key that begins with a part of the job stands for itself; another must be the end of
// exactly one field. Throws InputError that names the candidates, or the nearest field.
std::string full_override(const std::string& key_equals_value);

}  // namespace foretrain::plan
