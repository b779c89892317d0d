// Timelines and traces as files.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/output_file.h"
#include "plan/graph.h"
#include "plan/timeline.h"
#include "reports/trace.h"

namespace foretrain::cli {

// The files that a verb was asked to write. They are opened at once, so that a path that cannot be written is known
// before a long run and not after it; each appears whole or not at all. An empty path stands for no file. Throws
// EnvironmentError that names the path.
class OutputFiles {
 public:
  OutputFiles(const std::string& timeline_path, const std::string& trace_path);

  bool wanted() const { return timeline_ || trace_; }
  bool wants_trace() const { return trace_.has_value(); }
  void write_timeline(const plan::Timeline& timeline);
  void write_trace(const plan::PlanGraph& graph, const std::vector<reports::TracedTimeline>& timelines);

 private:
  std::optional<OutputFile> timeline_, trace_;
};

// Throws InputError for a file that is missing or unreadable.
std::string read_text(const std::string& path);
// The same, and for what is no timeline.
plan::Timeline read_timeline(const std::string& path);

}  // namespace foretrain::cli
