// Many jobs through one process: a document in each line, its forecast in the same line of the output.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "cli/console.h"
#include "cli/job.h"
#include "cli/whole_run.h"

namespace foretrain::cli {

// A line of `in` is a job document, or {"job": DOCUMENT or "name" or "file", "set": ["strategy.tp=4", ...],
// "whole_run": {"tokens": "15T", ...}}; blank ones are passed over. `overrides` and `whole_run` hold for all, those of
// a line come after them. Printed in the order of the lines, each as soon as it and those before it are ready:
// foretrain.estimate/1 (without fixes, which cost twenty forecasts), or
// {"error": "...", "line": n}. Works on all cores and keeps no more than a few lines of each.
// Returns the exit status: kInternal or kBadInput where a line failed, else kInfeasible where a job does not fit.
// `origin` stands in messages: "jobs.ndjson:3:1: /strategy/tp: ...". Throws EnvironmentError where `in` cannot be read
// to its end.
int estimate_batch(std::FILE* in, const std::string& origin, const std::vector<std::string>& overrides,
                   const ModelArguments& models, const WholeRunArguments& whole_run, Console& console);

}  // namespace foretrain::cli
