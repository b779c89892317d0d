// A report as tables, for markdown and for a terminal.
#pragma once

#include <vector>

#include "reports/report.h"
#include "reports/table.h"

namespace foretrain::reports {

Table figures_table(const Report& r);
Table breakdown_table(const Report& r);
Table pipeline_table(const Report& r);
Table memory_table(const Report& r);
Table largest_table(const Report& r);
// Each of a part that the report has.
Table network_table(const NetworkUse& n);
Table comparison_table(const Comparison& c);

// Of a search: the best step times by tp and pp.
Table grid_table(const std::vector<GridCell>& grid);
// Those that have a row.
std::vector<Table> search_tables(const SearchFigures& s);

// Of a compute lane: what it is called ("stage 3", of several classes of ranks "stage 3, rank 64").
std::string lane_name(const Report& r, const Lane& lane);
// Those of the compute stream.
std::vector<const Lane*> compute_lanes(const Pipeline& p);
Time busy(const Lane& lane);

}  // namespace foretrain::reports
