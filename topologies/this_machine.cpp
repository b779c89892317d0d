#include "topologies/this_machine.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>

namespace foretrain::topologies {

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The first number of a file; max where there is none ("max" in a control group means unlimited).
std::int64_t number_in(const char* path) {
  std::ifstream file(path);
  std::int64_t value = 0;
  return file >> value && value > 0 ? value : std::numeric_limits<std::int64_t>::max();
}

std::string profile_path(const char* variable, const char* file) {
  if (const std::string path = environment(variable); !path.empty()) {
    return path;
  }
  const std::string data = environment("XDG_DATA_HOME");
  return (data.empty() ? environment("HOME") + "/.local/share" : data) + "/foretrain/" + file;
}

}  // namespace

Bytes available_memory() {
  const auto ram =
      static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::int64_t>(sysconf(_SC_PAGESIZE));
  return {std::min(
      {ram, number_in("/sys/fs/cgroup/memory.max"), number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes")})};
}

CacheSizes cache_sizes() {
  CacheSizes sizes;
  for (int index = 0;; ++index) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    std::ifstream level_file(folder + "level"), size_file(folder + "size"), sharers_file(folder + "shared_cpu_list");
    int level = 0;
    std::int64_t kibibytes = 0;
    std::string sharers;
    if (!(level_file >> level)) {
      return sizes;
    }
    if (level >= 2 && size_file >> kibibytes && sharers_file >> sharers) {
      const bool is_own = level == 2 || sharers.find_first_of(",-") == std::string::npos;
      (is_own ? sizes.own : sizes.shared) += Bytes{kibibytes * 1024};
    }
  }
}

double stolen_seconds() {
  std::ifstream file("/proc/stat");
  std::string word;
  double user = 0, nice = 0, system = 0, idle = 0, io = 0, interrupts = 0, soft_interrupts = 0, stolen = 0;
  file >> word >> user >> nice >> system >> idle >> io >> interrupts >> soft_interrupts >> stolen;
  return stolen / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "CPU";
}

std::string this_machine_profile_path() {
  return profile_path("FORETRAIN_PROFILE", "this-machine.json");
}

std::string this_gpu_profile_path() {
  return profile_path("FORETRAIN_GPU_PROFILE", "this-gpu.json");
}

}  // namespace foretrain::topologies
