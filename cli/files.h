// Timelines and traces as files.
#pragma once

#include <string>
#include <vector>

#include "plan/graph.h"
#include "plan/timeline.h"
#include "reports/trace.h"

namespace foretrain::cli {

// Each appears whole or not at all; throws EnvironmentError that names the path. An empty path writes nothing.
void write_timeline(const std::string& path, const plan::Timeline& timeline);
void write_trace_file(const std::string& path, const plan::PlanGraph& graph,
                      const std::vector<reports::TracedTimeline>& timelines);

// Throws InputError for a file that is missing, unreadable or no timeline.
plan::Timeline read_timeline(const std::string& path);

}  // namespace foretrain::cli
