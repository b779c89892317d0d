// The best plan at each of several sizes of a cluster, and which size to take.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "search/plan_search.h"

namespace foretrain::search {

// The job on so many nodes.
plan::OpenJob on_nodes(const plan::OpenJob& open, std::int64_t nodes);

// Where a curve that rises ever more slowly bends most: the point farthest above the line from its first point to its
// last, both axes scaled to 1 (Satopaa et al. 2011, "Finding a Kneedle in a Haystack", without its smoothing). Nothing
// where none is above it by more than kLeastBend: then more is worth as much as before. REQUIRES: x ascending.
std::optional<std::size_t> knee(const std::vector<double>& x, const std::vector<double>& y);
inline constexpr double kLeastBend = 0.05;

// Where nothing fits: a plan on the least of the larger sizes that were tried (doubling up to `most` nodes, then
// eighths below the first that does). Nothing: none of them does.
std::optional<std::pair<std::int64_t, Found>> smallest_cluster(const plan::OpenJob& open, const SearchOptions& options,
                                                               std::int64_t most);

}  // namespace foretrain::search
