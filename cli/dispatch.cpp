#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "cli/verbs.h"
#include "cli/version.h"

namespace foretrain::cli {

namespace {

constexpr std::array<Verb, 13> kVerbs{{
    {"estimate", "forecasts a training step: its time, its memory, where the time goes", estimate_command},
    {"run", "trains the job for real on this machine", run_command},
    {"compare", "sets the forecast against a real run, op kind by op kind", compare_command},
    {"calibrate", "measures this machine; forecasts for it are made from the result", calibrate_command},
    {"list", "models, systems, jobs, strategies, topologies", list_command},
    {"doctor", "what this machine and this build have, what is missing, what to install", doctor_command},
    {"import", "reads other tools' files: Megatron-LM, torchtitan, DeepSpeed, Hugging Face; a node's topology",
     import_command},
    {"search", "finds the fastest strategy for a cluster, and proves it; how many nodes to take", search_command},
    {"validate", "sets forecasts against published measurements", validate_command},
    {"report", "a page of everything about one job, to open in a browser; or text", report_command},
    {"explain", "why a step takes as long, what would make it shorter, tables of changes, what figures mean",
     explain_command},
    {"export", "writes a job for other tools: Megatron-LM, torchtitan, DeepSpeed, launch scripts", export_command},
    {"completion", "what bash or zsh need to complete verbs, options and names", completion_command},
}};

std::string overview() {
  std::string text =
      "foretrain forecasts a training run before anyone pays for it, then runs it and proves the forecast.\n\n"
      "Usage: foretrain VERB [ARGUMENTS]\n\n";
  for (const Verb& verb : kVerbs) {
    text += fmt::format("  {:<11} {}\n", verb.name, verb.card);
  }
  text +=
      "\n'foretrain VERB --help' shows a verb's options with examples. A job is a JSON file; KEY=VALUE behind it\n"
      "overrides any field of it. Results go to stdout (--json: one document), all else to stderr.\n"
      "Exit status: 0 ok; 1 internal error; 2 bad usage or input; 3 valid but infeasible; 4 a threshold was breached;\n"
      "5 the environment failed; 130 interrupted.\n"
      "\nExamples:\n"
      "  foretrain list jobs\n"
      "  foretrain estimate job.json\n"
      "  foretrain estimate job.json strategy.tp=4 --json\n"
      "  foretrain run job.json --steps 50\n"
      "  foretrain compare job.json --steps 20\n";
  return text;
}

const Verb& find(const std::string& name) {
  const auto found = std::find_if(kVerbs.begin(), kVerbs.end(), [&](const Verb& v) { return v.name == name; });
  if (found != kVerbs.end()) {
    return *found;
  }
  std::vector<std::string> names;
  for (const Verb& verb : kVerbs) {
    names.emplace_back(verb.name);
  }
  const std::string near = nearest_word(name, names);
  throw InputError(fmt::format("unknown verb \"{}\"; expected one of: {}{}", name, fmt::join(names, ", "),
                               near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near)));
}

}  // namespace

std::span<const Verb> verbs() {
  return kVerbs;
}

int dispatch(const std::vector<std::string>& arguments, Console& console) {
  if (arguments.empty()) {
    console.note(overview());
    throw InputError("a verb is missing");
  }
  const std::string& first = arguments.front();
  std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  if (first == "--version") {
    console.result(fmt::format("foretrain {}\n", kVersion));
    return kOk;
  }
  if (first == "--help" || first == "-h" || (first == "help" && rest.empty())) {
    console.result(overview());
    return kOk;
  }
  if (first == "help") {
    return dispatch({rest.front(), "--help"}, console);
  }
  return find(first).command(rest, console);
}

}  // namespace foretrain::cli
