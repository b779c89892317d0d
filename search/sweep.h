// A job forecast with each of several values of some of its fields.
#pragma once

#include <string>
#include <vector>

#include "reports/explain.h"
#include "search/plan_changes.h"

namespace foretrain::search {

using reports::Sweep;
using reports::SweepAxis;
using reports::SweepRow;

// "tp=1,2,4"; commas inside brackets, braces or quotes belong to a value. Throws InputError for a field that no job has
// (with the nearest) and for a list without values.
SweepAxis sweep_axis(const std::string& text);

// Rows are at most kMostRows, or InputError. Those that an interruption left out are refused with kLeftOut.
inline constexpr std::size_t kMostRows = 10'000;
inline constexpr const char* kLeftOut = "not simulated: interrupted";
Sweep sweep(const plan::Job& job, const LoadJob& load, const sim::Options& options, std::vector<SweepAxis> axes,
            const Watch& watch = {});

}  // namespace foretrain::search
