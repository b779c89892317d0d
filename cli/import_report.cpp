#include "cli/import_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "cli/verbs.h"
#include "plan/job.h"
#include "reports/report.h"

namespace foretrain::cli {

using Json = nlohmann::ordered_json;

int import_report(const std::string& page, const std::string& path, const std::vector<std::string>& overrides,
                  const std::string& output, bool json, Console& console) {
  const nlohmann::json document = reports::document_of_page(page, path);
  const plan::Job job = plan::job_from_text(document["estimate"]["resolved"].dump(), path, overrides);
  const auto program = document.find("program");
  const bool is_named = program != document.end() && program->is_string();
  const std::string by =
      fmt::format("the job of a report by {}", is_named ? program->get<std::string>() : "an unknown program");
  Json out(plan::resolved(job));
  if (json) {
    out = {{"schema", "foretrain.import/1"}, {"kind", "job"},
           {"format", "foretrain report"},   {"read", {by}},
           {"assumed", Json::array()},       {"ignored", Json::array()},
           {"warnings", Json::array()},      {"job", std::move(out)}};
  } else {
    console.note(fmt::format("{}: {}", path, by));
  }
  const std::string text = out.dump(2) + "\n";
  if (output.empty()) {
    console.result(text);
  } else {
    write_file(output, text);
  }
  return kOk;
}

}  // namespace foretrain::cli
