// The job that a page of `report` carries, as a file again.
#pragma once

#include <string>
#include <vector>

#include "cli/console.h"

namespace foretrain::cli {

// To the file `output`, or to stdout where that is "". `page`: read from `path`. Throws InputError for a page that
// carries no job, or one that this version cannot read; with `overrides` the job is another one.
int import_report(const std::string& page, const std::string& path, const std::vector<std::string>& overrides,
                  const std::string& output, Console& console);

}  // namespace foretrain::cli
