#include "cli/files.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/error.h"

namespace foretrain::cli {

OutputFiles::OutputFiles(const std::string& timeline_path, const std::string& trace_path) {
  if (!timeline_path.empty()) {
    timeline_.emplace(timeline_path);
  }
  if (!trace_path.empty()) {
    trace_.emplace(trace_path);
  }
}

void OutputFiles::write_timeline(const plan::Timeline& timeline) {
  if (timeline_) {
    timeline_->write(plan::to_json(timeline));
    timeline_->commit();
  }
}

void OutputFiles::write_trace(const plan::PlanGraph& graph, const std::vector<reports::TracedTimeline>& timelines) {
  if (trace_) {
    reports::write_trace(graph, timelines, [&](std::string_view text) { trace_->write(text); });
    trace_->commit();
  }
}

std::string read_text(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) {
    throw InputError(fmt::format("{}: cannot be read: {}", path, errno == 0 ? "it is empty" : std::strerror(errno)));
  }
  return text.str();
}

plan::Timeline read_timeline(const std::string& path) {
  return plan::timeline_from_json(read_text(path), path);
}

}  // namespace foretrain::cli
