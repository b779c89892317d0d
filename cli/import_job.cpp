#include "cli/import_job.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/output_file.h"
#include "cli/verbs.h"

namespace foretrain::cli {

namespace {

std::map<std::string, std::string> variables(const std::string& text) {
  std::map<std::string, std::string> out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size()), equals = text.find('=', begin);
    if (equals == std::string::npos || equals >= end || equals == begin) {
      throw InputError(fmt::format("--set: \"{}\" is not allowed; expected NAME=VALUE, several with commas between",
                                   text.substr(begin, end - begin)));
    }
    out[text.substr(begin, equals - begin)] = text.substr(equals + 1, end - equals - 1);
    begin = end + 1;
  }
  return out;
}

void section(std::string& out, const char* title, const std::vector<std::string>& lines) {
  for (std::size_t i = 0; i < lines.size(); ++i) {
    out += fmt::format("{:<8} {}\n", i == 0 ? title : "", lines[i]);
  }
}

}  // namespace

int import_job(plan::ForeignFormat format, const std::string& text, const ImportJobArguments& a, Console& console) {
  const plan::ImportedJob job = plan::import_foreign(format, text, a.path, {a.overrides, variables(a.variables)});
  for (const std::string& warning : job.warnings) {
    console.warning(warning);
  }
  const std::string& document = job.document;
  if (!a.output.empty()) {
    write_file(a.output, document);
  }
  if (a.json) {
    console.result(nlohmann::ordered_json{{"schema", "foretrain.import/1"},
                                          {"kind", "job"},
                                          {"format", job.format},
                                          {"read", job.read},
                                          {"assumed", job.assumed},
                                          {"ignored", job.ignored},
                                          {"warnings", job.warnings},
                                          {"job", nlohmann::ordered_json::parse(job.document)}}
                       .dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +  // of paths
                   "\n");
    return kOk;
  }
  std::string report = fmt::format("{}: {}\n", a.path, job.format);
  section(report, "read", job.read);
  section(report, "assumed", job.assumed);
  if (!job.ignored.empty()) {
    section(report, "ignored", {fmt::format("{}", fmt::join(job.ignored, " "))});
  }
  if (a.output.empty()) {
    report.pop_back();
    console.note(report);
    console.result(document);
  } else {
    console.result(report + fmt::format("written  {}\n", a.output));
  }
  return kOk;
}

}  // namespace foretrain::cli
