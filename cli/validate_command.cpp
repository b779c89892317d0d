#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "reports/validation.h"
#include "search/validate.h"

namespace foretrain::cli {

int validate_command(const std::vector<std::string>& arguments, Console& console) {
  std::string path, constants;
  bool json = false, csv = false;
  Options options("validate", "sets forecasts against published measurements, table by table");
  options.positional("FILE", &path, "measurements, one JSON object per line");
  options.flag("json", &json, "one document, foretrain.validate/1");
  options.flag("csv", &csv, "one line per row");
  options.text("constants", "FILE", &constants, "network environments in place of the catalogue's");
  options.examples({"foretrain validate reports/validation/nccl_tests.jsonl",
                    "foretrain validate reports/validation/nccl_tests.jsonl --json"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (path.empty()) {
    throw InputError("a FILE of measurements is missing; the project's are in reports/validation");
  }
  if (json && csv) {
    throw InputError("--json and --csv exclude each other: stdout takes one document");
  }
  const reports::Validation validation = search::validate(path, constants);
  console.result(json  ? reports::to_json(validation).dump(1) + "\n"
                 : csv ? reports::to_csv(validation)
                       : reports::to_text(validation, console.colour()));
  return kOk;
}

}  // namespace foretrain::cli
