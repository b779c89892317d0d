#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/output_file.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "reports/scatter.h"
#include "reports/validation.h"
#include "search/error_band.h"
#include "search/validate.h"

namespace foretrain::cli {

int validate_command(const std::vector<std::string>& arguments, Console& console) {
  std::vector<std::string> paths;
  search::ValidateOptions wanted;
  std::string svg, residuals, id;
  bool json = false, csv = false;
  Options options("validate", "sets forecasts against published measurements, group by group");
  options.rest("FILE", &paths, "measurements, one JSON object per line");
  options.flag("json", &json, "one document, foretrain.validate/1");
  options.flag("csv", &csv, "one line per row");
  options.text("svg", "FILE", &svg, "writes a scatter plot, forecast over measurement");
  options.text("residuals", "FILE", &residuals, "writes what runs took over their forecast, for error bands");
  options.text("group", "NAME", &wanted.group, "only this group's rows");
  options.text("explain", "ID", &id, "how that training run was read, and where its time goes");
  options.text("constants", "FILE", &wanted.constants, "network environments in place of the catalogue's");
  options.text("rules", "FILE", &wanted.rules,
               "rules for what rows leave unsaid, in place of search/training_rules.json");
  options.examples({"foretrain validate reports/validation/training.jsonl",
                    "foretrain validate reports/validation/training.jsonl --group colm_layouts --csv",
                    "foretrain validate reports/validation/nccl_tests.jsonl --json"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (paths.empty()) {
    throw InputError("a FILE of measurements is missing; the project's are in reports/validation");
  }
  if (json && csv) {
    throw InputError("--json and --csv exclude each other: stdout takes one document");
  }
  if (!id.empty()) {
    if (json || csv || !svg.empty() || !residuals.empty()) {
      throw InputError("--explain prints text of one row; leave --json, --csv, --svg and --residuals away");
    }
    console.result(search::explain_row(paths, id, wanted, console.colour()));
    return kOk;
  }
  const reports::Validation validation = search::validate(paths, wanted);
  if (!svg.empty()) {
    write_file(svg, reports::scatter_svg(validation));
  }
  if (!residuals.empty()) {
    write_file(residuals, search::to_json(search::residuals_of(validation)));
  }
  console.result(json  ? reports::to_json(validation).dump(1) + "\n"
                 : csv ? reports::to_csv(validation)
                       : reports::to_text(validation, console.colour()));
  return kOk;
}

}  // namespace foretrain::cli
