#include "cli/import_nccl_tests.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/units.h"
#include "cli/import_words.h"
#include "cli/verbs.h"
#include "reports/table.h"
#include "search/nccl_profile.h"
#include "topologies/cluster_file.h"
#include "topologies/nccl_tests.h"
#include "topologies/profile.h"

namespace foretrain::cli {

namespace {

using topologies::NcclSweep;

constexpr std::size_t kMostBytes = 64 << 20;
ImportWords given_by(const std::vector<std::string>& words) {
  ImportWords given = import_words(words, {"system", "collective", "ranks", "nodes"}, "output of nccl-tests",
                                   "FILE... system=NAME, and where the files do not say it collective=KIND, ranks=N, "
                                   "nodes=N");
  if (!given.has("system")) {
    throw InputError(
        fmt::format("{}: nccl-tests does not say what the system is; add system=NAME, of 'foretrain list "
                    "systems' or a file",
                    given.files.empty() ? "import" : given.files.front()));
  }
  return given;
}

// "NVIDIA A100 SXM4 40GB" is an "NVIDIA A100-SXM4-40GB", and no "NVIDIA H100".
bool is_device(const std::string& gpu, const std::string& device) {
  const std::size_t maker = device.find(' ');
  const std::size_t begin = maker == std::string::npos ? 0 : maker + 1;
  return gpu.empty() || gpu.find(device.substr(begin, device.find(' ', begin) - begin)) != std::string::npos;
}

void complete(NcclSweep& s, const ImportWords& given, const topologies::Cluster& cluster,
              std::vector<std::string>& notes) {
  s.collective = given.value("collective", s.collective);
  if (given.has("ranks") || given.has("nodes")) {
    s.ranks = static_cast<int>(given.count("ranks", s.ranks));
    s.nodes = static_cast<int>(given.count("nodes", std::max(1, s.nodes)));
    s.fewest = s.ranks - (s.nodes - 1) * ((s.ranks + s.nodes - 1) / s.nodes);
  }
  if (s.collective.empty()) {
    throw InputError(
        fmt::format("{}: neither the file's name nor what it holds tells all_gather from all_to_all; add "
                    "collective=all_gather, or another",
                    s.origin));
  }
  if (s.ranks == 0) {
    throw InputError(fmt::format("{}: no line '# Rank R ... on HOST device D'; add ranks=N nodes=N", s.origin));
  }
  if (!is_device(s.gpu, cluster.device.name)) {
    notes.push_back(fmt::format("{}: measured on {}, and {} has {}; is it this system?", s.origin, s.gpu, cluster.name,
                                cluster.device.name));
  }
}

std::string text(const search::NcclProfile& profile, bool colour) {
  reports::Table table;
  table.columns = {{"measured"},
                   {"ranks", reports::Align::right},
                   {"nodes", reports::Align::right},
                   {"sizes"},
                   {"figure"},
                   {"value", reports::Align::right},
                   {"median error", reports::Align::right},
                   {"worst", reports::Align::right},
                   {"at", reports::Align::right}};
  for (const search::NcclFit& f : profile.fits) {
    table.rows.push_back({f.collective, fmt::format("{}", f.ranks), fmt::format("{}", f.nodes),
                          fmt::format("{} to {}", to_string(Bytes{f.smallest}), to_string(Bytes{f.largest})), f.figure,
                          fmt::format("{:.4g}", f.value), fmt::format("{:.1f} %", 100 * f.median_error),
                          fmt::format("{:+.1f} %", 100 * f.worst_error), to_string(Bytes{f.worst_bytes})});
  }
  return reports::to_text(table, colour);
}

nlohmann::ordered_json document(const search::NcclProfile& p, const std::vector<std::string>& warnings) {
  nlohmann::ordered_json fits = nlohmann::ordered_json::array();
  for (const search::NcclFit& f : p.fits) {
    fits.push_back({{"file", f.origin},
                    {"collective", f.collective},
                    {"ranks", f.ranks},
                    {"nodes", f.nodes},
                    {"smallest_bytes", f.smallest},
                    {"largest_bytes", f.largest},
                    {"figure", f.figure},
                    {"value", f.value},
                    {"median_error", f.median_error},
                    {"worst_error", f.worst_error},
                    {"worst_bytes", f.worst_bytes}});
  }
  return {{"schema", "foretrain.import/1"},
          {"kind", "profile"},
          {"format", "nccl-tests"},
          {"read", std::move(fits)},
          {"assumed", p.assumed},
          {"warnings", warnings},
          {"profile", nlohmann::ordered_json::parse(to_json(p.profile))}};
}

}  // namespace

int import_nccl_tests(const std::vector<std::string>& words, const std::string& output, bool json, Console& console) {
  const ImportWords given = given_by(words);
  topologies::Cluster cluster = topologies::load_system(given.values.at("system"));
  topologies::load_profile_of(cluster);
  std::vector<NcclSweep> sweeps;
  std::vector<std::string> warnings;
  for (const std::string& path : given.files) {
    const MappedFile file(path, "import", "what nccl-tests printed");
    if (file.bytes().size() > kMostBytes) {
      throw InputError(
          fmt::format("{}: {} bytes; expected at most {} of nccl-tests", path, file.bytes().size(), kMostBytes));
    }
    topologies::NcclTests tests =
        topologies::read_nccl_tests({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path);
    warnings.insert(warnings.end(), tests.warnings.begin(), tests.warnings.end());
    for (NcclSweep& s : tests.sweeps) {
      complete(s, given, cluster, warnings);
      sweeps.push_back(std::move(s));
    }
  }
  search::NcclProfile profile = search::profile_of(cluster, sweeps);
  profile.profile.name = cluster.name + "-nccl-tests";
  profile.profile.description = fmt::format("{}, its network as nccl-tests measured it", cluster.name);
  warnings.insert(warnings.end(), profile.warnings.begin(), profile.warnings.end());
  for (const std::string& warning : warnings) {
    console.warning(warning);
  }
  if (!output.empty()) {
    topologies::save_profile(profile.profile, output);
  }
  if (json) {
    console.result(document(profile, warnings).dump(2) + "\n");
    return kOk;
  }
  std::string report = text(profile, output.empty() ? console.error_colour() : console.colour());
  for (const std::string& a : profile.assumed) {
    report += fmt::format("\nassumed  {}", a);
  }
  report += profile.assumed.empty() ? "" : "\n";
  if (output.empty()) {
    report.pop_back();
    console.note(report);
    console.result(to_json(profile.profile));
  } else {
    console.result(report + fmt::format("\nwritten  {}: a job takes it with cluster.profile={}\n", output, output));
  }
  return kOk;
}

}  // namespace foretrain::cli
