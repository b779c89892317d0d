// `import` of other tools' job files.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/console.h"
#include "plan/foreign/foreign.h"

namespace foretrain::cli {

struct ImportJobArguments {
  std::string path;
  std::vector<std::string> overrides;
  std::string variables;  // NAME=VALUE,…
  std::string output;     // the job's file; "": stdout
  bool json = false;
};

// Throws InputError.
int import_job(plan::ForeignFormat format, const std::string& text, const ImportJobArguments& arguments,
               Console& console);

}  // namespace foretrain::cli
