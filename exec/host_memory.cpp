#include "exec/host_memory.h"

#include <fstream>
#include <string>

namespace foretrain::exec {

std::int64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  for (std::string word; file >> word;) {
    if (word == "MemAvailable:") {
      std::int64_t kibibytes = 0;
      file >> kibibytes;
      return kibibytes * 1024;
    }
  }
  return -1;
}

}  // namespace foretrain::exec
