#include "exec/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/error.h"

namespace foretrain::exec {

namespace {

namespace fs = std::filesystem;

// The number after a word of a file; with no word, its first. None in "max", or where there is no such file.
std::optional<std::int64_t> number_in(const std::string& path, const std::string& word = "") {
  std::ifstream file(path);
  for (std::string found; !word.empty() && file >> found && found != word;) {
  }
  std::int64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

// How a version of control groups says what its memory is.
struct GroupFiles {
  const char *limit, *usage, *unused_pages;  // the last a word of memory.stat
};
constexpr GroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr GroupFiles kVersion2{"memory.max", "memory.current", "inactive_file"};

std::optional<Bytes> left_in(const fs::path& group, const GroupFiles& files) {
  const auto limit = number_in(group / files.limit), usage = number_in(group / files.usage);
  if (!limit || !usage) {
    return std::nullopt;
  }
  const std::int64_t used = *usage - number_in(group / "memory.stat", files.unused_pages).value_or(0);
  return Bytes{std::max<std::int64_t>(0, *limit - used)};
}

std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  ::gethostname(name.data(), HOST_NAME_MAX);
  return name.data();
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

std::vector<MemoryLimit> memory_limits(const std::string& root) {
  const std::string host = host_name(), boot = host + " " + first_line(root + "/proc/sys/kernel/random/boot_id");
  std::vector<MemoryLimit> limits;
  if (const auto kibibytes = number_in(root + "/proc/meminfo", "MemAvailable:")) {
    limits.push_back({boot, host, Bytes{*kibibytes * 1024}});
  }
  // Paths are as its namespace shows them: what lies above, and in a container the path itself, may not be there.
  std::error_code error;
  const std::string space = fs::read_symlink(root + "/proc/self/ns/cgroup", error).string();
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    // number:controllers:path
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool is_version2 = controllers == ",,";
    if (!is_version2 && controllers.find(",memory,") == std::string::npos) {
      continue;
    }
    const std::string mount = root + (is_version2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    for (fs::path path = line.substr(second + 1);; path = path.parent_path()) {
      if (const auto left = left_in(mount + path.string(), is_version2 ? kVersion2 : kVersion1)) {
        limits.push_back({fmt::format("{} {} {}", boot, space, path.string()),
                          fmt::format("{} (control group {})", host, path.string()), *left});
      }
      if (path == path.parent_path()) {
        break;
      }
    }
  }
  return limits;
}

void require_memory(const std::function<std::vector<std::string>(const std::string&)>& all_gather,
                    const std::vector<MemoryLimit>& limits, Bytes needed, const std::string& what,
                    const std::string& advice) {
  nlohmann::json mine = {{"needed", needed.value}, {"limits", nlohmann::json::array()}};
  for (const MemoryLimit& limit : limits) {
    mine["limits"].push_back({limit.key, limit.name, limit.left.value});
  }
  struct Demand {
    MemoryLimit limit;
    Bytes needed;
  };
  std::vector<Demand> demands;
  for (const std::string& text : all_gather(mine.dump())) {
    const nlohmann::json process = nlohmann::json::parse(text);
    for (const nlohmann::json& limit : process.at("limits")) {
      const MemoryLimit seen{limit.at(0).get<std::string>(), limit.at(1).get<std::string>(),
                             Bytes{limit.at(2).get<std::int64_t>()}};
      auto demand =
          std::find_if(demands.begin(), demands.end(), [&](const Demand& d) { return d.limit.key == seen.key; });
      demand = demand == demands.end() ? demands.insert(demands.end(), {seen, {}}) : demand;
      demand->limit.left = std::min(demand->limit.left, seen.left);
      demand->needed += Bytes{process.at("needed").get<std::int64_t>()};
    }
  }
  for (const Demand& demand : demands) {
    if (demand.needed > demand.limit.left) {
      throw InfeasibleError(fmt::format("{} need {} on {}, which has {} left: {} are missing{}", what,
                                        to_string(demand.needed), demand.limit.name, to_string(demand.limit.left),
                                        to_string(demand.needed - demand.limit.left), advice));
    }
  }
}

}  // namespace foretrain::exec
