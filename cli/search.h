// A search and what is told of it: of the command line and of Python alike.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/job.h"
#include "plan/open_job.h"
#include "reports/search.h"
#include "search/plan_search.h"

namespace foretrain::cli {

inline constexpr std::int64_t kMostNodes = 1 << 17;

struct SearchWishes {
  JobArguments job;
  std::vector<std::string> free;    // words of the job's strategy that are searched; "all"
  std::vector<std::int64_t> nodes;  // a search for each size of the cluster, ascending; empty: the job's
  double tokens = 0;                // of a run, for days of each size; 0: none
  std::optional<double> price;      // of a device for an hour
  search::SearchOptions options;
};

// The job with its strategy open, its cluster's profile loaded. Throws InputError.
plan::OpenJob open_job(const SearchWishes& wishes);

// The best plans and the proof, with the estimate of the best where that `estimates`; where nothing fits, what comes
// nearest.
reports::Search find_plans(const SearchWishes& wishes, const plan::OpenJob& open, bool estimates = true);

}  // namespace foretrain::cli
