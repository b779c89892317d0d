// The verbs: one row each, one file each.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cli/console.h"

namespace foretrain::cli {

inline constexpr int kOk = 0, kInternal = 1, kBadInput = 2, kInfeasible = 3, kThresholdBreached = 4, kEnvironment = 5;

// Each takes the words after the verb and returns the exit status; what goes wrong is thrown (base/error.h).
int estimate_command(const std::vector<std::string>& arguments, Console& console);
int run_command(const std::vector<std::string>& arguments, Console& console);
int compare_command(const std::vector<std::string>& arguments, Console& console);
int calibrate_command(const std::vector<std::string>& arguments, Console& console);
int list_command(const std::vector<std::string>& arguments, Console& console);
int import_command(const std::vector<std::string>& arguments, Console& console);
int export_command(const std::vector<std::string>& arguments, Console& console);
int doctor_command(const std::vector<std::string>& arguments, Console& console);
int explain_command(const std::vector<std::string>& arguments, Console& console);
int search_command(const std::vector<std::string>& arguments, Console& console);
int report_command(const std::vector<std::string>& arguments, Console& console);
int validate_command(const std::vector<std::string>& arguments, Console& console);

// What the first word of `import` may be, where it is no file but a kind of one.
inline constexpr const char* kImportKinds[] = {"topology", "megatron", "torchtitan", "deepspeed",
                                               "hf",       "chakra",   "nccl-tests"};

// `explain collective`, by the words after that.
int explain_collective(const std::vector<std::string>& arguments, Console& console);

int completion_command(const std::vector<std::string>& arguments, Console& console);

struct Verb {
  const char* name;
  const char* card;
  int (*command)(const std::vector<std::string>&, Console&);  // nullptr: not built yet
};
std::span<const Verb> verbs();

// The whole program behind main's catch: help, version, dispatch.
int dispatch(const std::vector<std::string>& arguments, Console& console);

}  // namespace foretrain::cli
