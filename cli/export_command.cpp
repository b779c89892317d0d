#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/output_file.h"
#include "cli/job.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "plan/foreign/foreign.h"

namespace foretrain::cli {

namespace {

struct Target {
  const char* word;
  plan::ExportedJob (*write)(const plan::Job&);
};

constexpr std::array kTargets{
    Target{"megatron", plan::export_megatron},   Target{"torchtitan", plan::export_torchtitan},
    Target{"deepspeed", plan::export_deepspeed}, Target{"slurm", plan::export_slurm},
    Target{"mpirun", plan::export_mpirun},       Target{"torchrun", plan::export_torchrun},
};

std::vector<std::string> words() {
  std::vector<std::string> out;
  for (const Target& t : kTargets) {
    out.emplace_back(t.word);
  }
  return out;
}

// One file: to the path, or stdout. Several: into a folder.
void write(const plan::ExportedJob& exported, const std::string& output, Console& console) {
  if (exported.files.size() == 1) {
    const std::string& text = exported.files.front().text;
    output.empty() ? console.result(text) : write_file(output, text);
    return;
  }
  if (output.empty()) {
    throw InputError(fmt::format("these are {} files; expected -o FOLDER", exported.files.size()));
  }
  std::error_code error;
  std::filesystem::create_directories(output, error);
  for (const plan::ExportedFile& file : exported.files) {
    write_file(output + "/" + file.name, file.text);
  }
}

}  // namespace

int export_command(const std::vector<std::string>& arguments, Console& console) {
  JobArguments job;
  std::string target, output;
  bool json = false;
  Options options("export", "writes a job as other tools read it, and says what they have no word for");
  job.add_to(options);
  options.word("to", &target, words(), "what for");
  options.text("output", "PATH", &output, "the file, or the folder of several; without it one goes to stdout", 'o');
  options.flag("json", &json, "one document, foretrain.export/1");
  options.examples({"foretrain export llama3-70b-64-h100 --to megatron",
                    "foretrain export job.json tp=4 --to slurm -o job.sbatch",
                    "foretrain export job.json --to torchtitan -o job.toml"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (target.empty()) {
    throw InputError(fmt::format("--to is missing; expected one of: {}", fmt::join(words(), ", ")));
  }
  const auto found = std::find_if(kTargets.begin(), kTargets.end(), [&](const Target& t) { return t.word == target; });
  const plan::ExportedJob exported = found->write(job.load());
  for (const std::string& warning : exported.warnings) {
    console.warning(warning);
  }
  if (!json) {
    write(exported, output, console);
    return kOk;
  }
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const plan::ExportedFile& file : exported.files) {
    files.push_back({{"name", file.name}, {"text", file.text}});
  }
  if (!output.empty()) {
    write(exported, output, console);
  }
  console.result(nlohmann::ordered_json{{"schema", "foretrain.export/1"},
                                        {"target", target},
                                        {"files", std::move(files)},
                                        {"warnings", exported.warnings}}
                     .dump(2) +
                 "\n");
  return kOk;
}

}  // namespace foretrain::cli
