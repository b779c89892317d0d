#include "cli/files.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/output_file.h"

namespace foretrain::cli {

void write_timeline(const std::string& path, const plan::Timeline& timeline) {
  if (!path.empty()) {
    write_file(path, plan::to_json(timeline));
  }
}

void write_trace_file(const std::string& path, const plan::PlanGraph& graph,
                      const std::vector<reports::TracedTimeline>& timelines) {
  if (path.empty()) {
    return;
  }
  OutputFile file(path);
  reports::write_trace(graph, timelines, [&](std::string_view text) { file.write(text); });
  file.commit();
}

plan::Timeline read_timeline(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) {
    throw InputError(fmt::format("{}: cannot be read: {}", path, errno == 0 ? "it is empty" : std::strerror(errno)));
  }
  return plan::timeline_from_json(text.str(), path);
}

}  // namespace foretrain::cli
