#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/output_file.h"
#include "base/units.h"
#include "cli/job.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "plan/build.h"
#include "plan/foreign/chakra.h"
#include "plan/foreign/foreign.h"
#include "sim/simulator.h"

namespace foretrain::cli {

namespace {

// What each op takes in the first step of the forecast; ranks of a role that differ take what its first ranks take.
class Durations : public plan::SpanSink {
 public:
  void span(const plan::Span& s) override {
    if (s.step == 0) {
      took_.try_emplace(s.op, s.end - s.start);
    }
  }
  Time operator()(const plan::OpId& op) const {
    const auto found = took_.find(op);
    return found == took_.end() ? Time{} : found->second;
  }

 private:
  std::map<plan::OpId, Time> took_;
};

// Traces of all ranks, written one by one.
plan::ExportedJob write_chakra(const plan::Job& job, const std::string& folder, Console& console) {
  if (folder.empty()) {
    throw InputError("--to chakra writes a file for each rank; expected -o FOLDER");
  }
  const plan::PlanGraph graph = plan::build(job);
  Durations durations;
  sim::simulate(graph, job.cluster, {}, &durations);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  plan::ExportedJob exported;
  std::size_t bytes = 0, files = 0;
  exported.warnings = plan::export_chakra(job, graph, std::cref(durations), [&](const plan::ExportedFile& file) {
    write_file(folder + "/" + file.name, file.text);
    bytes += file.text.size();
    ++files;
  });
  console.note(
      fmt::format("{}: {} files, {}: traces of {} ranks, and ASTRA-sim's network, system and groups; run.sh starts it",
                  folder, files, to_string(Bytes{static_cast<std::int64_t>(bytes)}), graph.mesh.ranks()));
  return exported;
}

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
  out.emplace_back("chakra");
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
                    "foretrain export job.json --to torchtitan -o job.toml",
                    "foretrain export tensor-parallel --to chakra -o traces"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  if (target.empty()) {
    throw InputError(fmt::format("--to is missing; expected one of: {}", fmt::join(words(), ", ")));
  }
  const auto found = std::find_if(kTargets.begin(), kTargets.end(), [&](const Target& t) { return t.word == target; });
  const bool chakra = target == "chakra";
  const plan::ExportedJob exported = chakra ? write_chakra(job.load(), output, console) : found->write(job.load());
  for (const std::string& warning : exported.warnings) {
    console.warning(warning);
  }
  if (!json) {
    if (!chakra) {
      write(exported, output, console);
    }
    return kOk;
  }
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const plan::ExportedFile& file : exported.files) {
    files.push_back({{"name", file.name}, {"text", file.text}});
  }
  if (!output.empty() && !chakra) {
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
