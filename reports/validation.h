// Forecasts beside published measurements: the figures of `foretrain validate`, and how they are shown.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace foretrain::reports {

// step_time: seconds of a training step. verdict: of a plan that ran out of memory; 1 says so, 0 that it fits.
// whole_run: failures or goodput of a run of weeks; predicted is the median of the sampled runs, low and high their 5th
// and 95th percentiles.
enum class RowKind : std::uint8_t { collective, step_time, verdict, whole_run };

struct ValidationRow {
  RowKind kind = RowKind::collective;
  std::string id, group;  // group: the table it stood in
  std::string what;       // what was measured: a collective's name, a model's
  std::string system;     // that it was forecast on; of training runs the kind of GPU; "" where none is known
  bool fitted = false;    // constants were fitted to its group; of a collective to its system, else NCCL's alone hold
  double bytes = 0;
  std::optional<double> predicted, measured;
  std::string unit;
  std::optional<std::string> skipped;  // why there is no forecast
  // Of training runs.
  bool exact = false;    // the source states the whole plan and has no caveat
  bool experts = false;  // a mixture of experts
  std::int64_t ranks = 0;
  double tokens = 0;     // of a step
  std::string workload;  // what is trained on how many devices: plans for the same compete
  std::optional<bool> fits;
  std::optional<double> low, high;  // seconds: the error band, from the residuals of other groups
  std::optional<double> predicted_memory, measured_memory;  // bytes of the fullest device; also of skipped rows
  std::vector<std::pair<std::string, double>>
      breakdown;                   // seconds, mean over ranks (reports/figures.h); sums to predicted
  std::vector<std::string> notes;  // what stands in for what the row did
  bool at_least = false;           // what was measured is a lower bound
  // (predicted - measured) / measured; of a verdict 0 (right) or 1; beyond a lower bound 0. Requires: both.
  double error() const {
    return kind == RowKind::verdict              ? *measured - *predicted
           : at_least && *predicted >= *measured ? 0
                                                 : *predicted / *measured - 1;
  }
};

struct ValidationSummary {
  int rows = 0, used = 0, skipped = 0;
  // Over the used rows; nothing when there is none. Verdicts, whose errors are 0 or 1, only where all rows are
  // verdicts.
  std::optional<double> median_abs_error, p90_abs_error, bias;
};

struct Validation {
  std::vector<ValidationRow> rows;  // in the order of the files
};

// Errors with their 90th percentile by nearest rank.
ValidationSummary summarise(const std::vector<const ValidationRow*>& rows);
// The middle value, between the middle two of an even number. Requires: not empty.
double median(std::vector<double> values);

// Sizes that are judged apart: below 64 KB, to 64 MB, from there on, and the median error that is good there.
struct SizeBand {
  const char* name;
  double from, below, good;
};
const std::vector<SizeBand>& size_bands();

// A part of the rows under a title, in the order that titles first come.
struct ValidationPart {
  std::string title;
  std::vector<const ValidationRow*> rows;
};
std::vector<ValidationPart> by_group(const Validation& validation);
// Why rows were skipped, and how many for each reason.
std::map<std::string, int> skip_reasons(const std::vector<const ValidationRow*>& rows);
// "OOM" or "FITS" of a verdict's figure.
const char* verdict_word(double figure);

nlohmann::ordered_json to_json(const Validation& validation);
// Tables of medians by size band; those beyond a band are marked.
std::string to_text(const Validation& validation, bool colour);
std::string to_csv(const Validation& validation);  // one line per row

}  // namespace foretrain::reports
