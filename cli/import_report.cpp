#include "cli/import_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "cli/verbs.h"
#include "plan/job.h"
#include "reports/report.h"

namespace foretrain::cli {

int import_report(const std::string& page, const std::string& path, const std::vector<std::string>& overrides,
                  const std::string& output, Console& console) {
  const nlohmann::ordered_json document = reports::document_of_page(page, path);
  const plan::Job job = plan::job_from_text(document["estimate"]["resolved"].dump(), path, overrides);
  const std::string text = plan::resolved(job).dump(2) + "\n";
  console.note(fmt::format("{}: the job of a report by {}", path, document.value("program", "an unknown program")));
  if (output.empty()) {
    console.result(text);
  } else {
    write_file(output, text);
  }
  return kOk;
}

}  // namespace foretrain::cli
