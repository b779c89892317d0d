#include "cli/outputs.h"

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

}  // namespace foretrain::cli
