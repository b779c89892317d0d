#include "exec/place.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace foretrain::exec {

namespace {

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

Place own_place() {
  Place place;
  std::array<char, HOST_NAME_MAX + 1> name{};
  ::gethostname(name.data(), HOST_NAME_MAX);
  place.host = name.data();
  std::error_code error;
  place.clock_key = first_line("/proc/sys/kernel/random/boot_id");
  // A host of its own is whatever has a network or process ids of its own: machines, containers, network namespaces.
  place.host_key = place.host + " " + place.clock_key;
  for (const char* const space : {"/proc/self/ns/net", "/proc/self/ns/pid"}) {
    place.host_key += " " + std::filesystem::read_symlink(space, error).string();
  }
  place.pid = ::getpid();
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) {
        place.cores.push_back(core);
      }
    }
  }
  return place;
}

std::string to_text(const Place& p) {
  return nlohmann::json{
      {"host", p.host}, {"host_key", p.host_key}, {"clock_key", p.clock_key}, {"pid", p.pid}, {"cores", p.cores}}
      .dump();
}

Place to_place(const std::string& text) {
  const nlohmann::json j = nlohmann::json::parse(text);
  return {j.at("host").get<std::string>(), j.at("host_key").get<std::string>(), j.at("clock_key").get<std::string>(),
          j.at("pid").get<std::int64_t>(), j.at("cores").get<std::vector<int>>()};
}

char state_of(std::int64_t pid) {
  const std::string line = first_line(fmt::format("/proc/{}/stat", pid).c_str());
  const std::size_t end = line.rfind(')');
  return end == std::string::npos || end + 2 >= line.size() ? '\0' : line[end + 2];
}

}  // namespace foretrain::exec
