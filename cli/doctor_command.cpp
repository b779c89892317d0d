#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/catalogue.h"
#include "base/error.h"
#include "base/parallel.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "cli/version.h"
#include "exec/cuda.h"
#include "exec/transport.h"
#include "kernels/bf16_library.h"
#include "kernels/kernels.h"
#include "reports/table.h"
#include "topologies/profile.h"
#include "topologies/this_machine.h"

namespace foretrain::cli {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Features that the kernels dispatch on, and those that libraries use.
const std::vector<std::string> kFeatures{"avx2",        "fma",      "avx512f",  "avx512bw",
                                         "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"};

std::set<std::string> processor_flags() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("flags", 0) == 0) {
      std::istringstream words(line.substr(line.find(':') + 1));
      return {std::istream_iterator<std::string>(words), std::istream_iterator<std::string>()};
    }
  }
  return {};
}

// Where the dynamic linker and the shell would look, without loading anything.
std::vector<std::string> folders(const char* variable, std::vector<std::string> standard) {
  std::vector<std::string> out;
  if (const char* value = std::getenv(variable); value != nullptr) {
    std::istringstream parts(value);
    for (std::string part; std::getline(parts, part, ':');) {
      out.push_back(part);
    }
  }
  out.insert(out.end(), standard.begin(), standard.end());
  return out;
}

std::string find_library(const std::string& name) {
  for (const std::string& folder :
       folders("LD_LIBRARY_PATH", {"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib", "/usr/lib64",
                                   "/usr/lib", "/usr/local/cuda/lib64"})) {
    std::error_code error;
    if (fs::exists(fs::path(folder) / name, error)) {
      return (fs::path(folder) / name).string();
    }
  }
  return "";
}

std::string find_program(const std::string& name) {
  for (const std::string& folder : folders("PATH", {})) {
    std::error_code error;
    if (fs::exists(fs::path(folder) / name, error)) {
      return (fs::path(folder) / name).string();
    }
  }
  return "";
}

// An optional part: whether this version has it, whether the machine does, and what would bring it.
struct Part {
  std::string name;
  bool built = false, present = false;
  std::string detail;
  std::string remedy;  // "" where nothing is to be done
};

// Between GPUs; one alone needs none.
Part nccl() {
  const std::string library = find_library("libnccl.so.2");
  return {"NCCL", FORETRAIN_BUILT_WITH_NCCL, !library.empty(), library.empty() ? "libnccl.so.2 was not found" : library,
          !FORETRAIN_BUILT_WITH_NCCL ? "install nccl.h beside CUDA's headers (libnccl-dev), and build again"
          : library.empty()          ? "ranks on several GPUs need it: install libnccl2, 2.18 or later"
                                     : ""};
}

// Ranks as processes that mpirun starts; sockets need nothing.
Part mpi() {
  const std::string launcher = find_program("mpirun");
  std::string why;
  const bool opens = exec::can_open_mpi(&why);
  const std::string remedy =
      !FORETRAIN_BUILT_WITH_MPI
          ? "on Debian: apt-get install libopenmpi-dev openmpi-bin, then build again; torchrun and "
            "its kin start processes without MPI"
      : opens && !launcher.empty() ? ""
                                   : "on Debian: apt-get install openmpi-bin";
  return {"MPI", FORETRAIN_BUILT_WITH_MPI, opens && !launcher.empty(),
          !opens             ? why
          : launcher.empty() ? "mpirun is not on the PATH"
                             : launcher,
          remedy};
}

std::vector<Part> parts() {
  std::vector<Part> all;
  const bool uses_units = kernels::bf16_library().matmul != nullptr;
  all.push_back({"bf16 matrix units", FORETRAIN_BUILT_WITH_ONEDNN, uses_units, kernels::bf16_library().description,
                 FORETRAIN_BUILT_WITH_ONEDNN ? ""
                                             : "bf16 runs are slow without, not wrong; on Debian: apt-get install "
                                               "libdnnl-dev, then build again"});
  all.push_back(mpi());
  const exec::CudaState cuda = exec::cuda_state();
  all.push_back({"CUDA", cuda.is_built, cuda.is_usable, cuda.detail, cuda.remedy});
  if (cuda.devices.empty()) {
    all.push_back(nccl());
    return all;
  }
  for (const exec::CudaFinding& f : exec::cuda_findings(cuda)) {
    all.push_back({f.name, f.name != "NCCL" || FORETRAIN_BUILT_WITH_NCCL, f.is_good, f.detail, f.remedy});
  }
  return all;
}

struct ProfileState {
  std::string path;
  bool present = false;
  double age_days = 0;
  std::string machine, date;
  bool other_machine = false;
};

ProfileState profile_state() {
  ProfileState state;
  state.path = topologies::this_machine_profile_path();
  struct stat status {};
  if (::stat(state.path.c_str(), &status) != 0) {
    return state;
  }
  constexpr double kSecondsPerDay = 86400;
  state.present = true;
  state.age_days = std::max(0.0, std::difftime(std::time(nullptr), status.st_mtime) / kSecondsPerDay);
  const topologies::Profile profile = topologies::load_profile(state.path);
  state.machine = profile.measured.machine;
  state.date = profile.measured.date;
  state.other_machine = state.machine.find(topologies::processor_name()) == std::string::npos;
  return state;
}

std::string profile_advice(const ProfileState& p) {
  return !p.present        ? "none: run 'foretrain calibrate' (about a minute) before forecasts for this machine"
         : p.other_machine ? "made on another processor: run 'foretrain calibrate'"
                           : "";
}

Json document(const std::set<std::string>& flags, const std::vector<Part>& optional, const ProfileState& profile) {
  Json features = Json::object();
  for (const std::string& feature : kFeatures) {
    features[feature] = flags.count(feature) > 0;
  }
  Json list = Json::array();
  for (const Part& part : optional) {
    list.push_back({{"name", part.name},
                    {"built", part.built},
                    {"present", part.present},
                    {"detail", part.detail},
                    {"remedy", part.remedy.empty() ? Json(nullptr) : Json(part.remedy)}});
  }
  const bool p = profile.present;
  return {{"schema", "foretrain.doctor/1"},
          {"version", kVersion},
          {"catalogue", catalogue_home()},
          {"processor",
           {{"name", topologies::processor_name()},
            {"cores", available_cores()},
            {"memory_bytes", topologies::available_memory().value},
            {"features", std::move(features)},
            {"kernels", kernels::name(kernels::instruction_set())}}},
          {"parts", std::move(list)},
          {"profile",
           {{"path", profile.path},
            {"present", p},
            {"age_days", p ? Json(profile.age_days) : Json(nullptr)},
            {"machine", p ? Json(profile.machine) : Json(nullptr)},
            {"date", p ? Json(profile.date) : Json(nullptr)},
            {"advice", profile_advice(profile).empty() ? Json(nullptr) : Json(profile_advice(profile))}}}};
}

std::string text(const std::set<std::string>& flags, const std::vector<Part>& optional, const ProfileState& profile,
                 bool colour) {
  using reports::Cell;
  using reports::Tone;
  std::vector<std::string> have, lack;
  for (const std::string& feature : kFeatures) {
    (flags.count(feature) > 0 ? have : lack).push_back(feature);
  }
  reports::Table machine;
  machine.title = "Machine";
  machine.columns = {{""}, {""}};
  machine.rows = {
      {"processor", topologies::processor_name()},
      {"cores", fmt::format("{}", available_cores())},
      {"memory", to_string(topologies::available_memory())},
      {"features", fmt::format("{}{}", fmt::join(have, " "),
                               lack.empty() ? "" : fmt::format("; without {}", fmt::join(lack, " ")))},
      {"kernels", std::string(kernels::name(kernels::instruction_set()))},
      {"profile",
       {profile.present ? fmt::format("{}, {:.1f} days old", profile.path, profile.age_days) : profile.path}}};
  if (const std::string advice = profile_advice(profile); !advice.empty()) {
    machine.rows.push_back({"", {advice, Tone::bad}});
  }
  machine.rows.push_back({"catalogue", catalogue_home()});

  reports::Table list;
  list.title = "Optional parts";
  list.columns = {{""}, {"built"}, {"present"}, {"what"}};
  for (const Part& part : optional) {
    list.rows.push_back({part.name, part.built ? Cell("yes", Tone::good) : Cell("no"),
                         part.present ? Cell("yes", Tone::good) : Cell("no"), part.detail});
    if (!part.remedy.empty()) {
      list.rows.push_back({"", "", "", {part.remedy, Tone::dim}});
    }
  }
  return fmt::format("foretrain {}\n\n", kVersion) + reports::to_text(machine, colour) + "\n" +
         reports::to_text(list, colour);
}

}  // namespace

int doctor_command(const std::vector<std::string>& arguments, Console& console) {
  bool json = false;
  Options options("doctor", "says what this machine and this build have, what is missing and what to install");
  options.flag("json", &json, "one document, foretrain.doctor/1");
  options.examples({"foretrain doctor"});
  if (const auto help = options.parse(arguments)) {
    console.result(*help);
    return kOk;
  }
  const std::set<std::string> flags = processor_flags();
  const std::vector<Part> optional = parts();
  const ProfileState profile = profile_state();
  console.result(json ? document(flags, optional, profile).dump(2) + "\n"
                      : text(flags, optional, profile, console.colour()));
  return kOk;
}

}  // namespace foretrain::cli
