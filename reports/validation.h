// Forecasts beside published measurements: the figures of `foretrain validate`, and how they are shown.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace foretrain::reports {

struct ValidationRow {
  std::string id, group;  // group: the table it stood in
  std::string what;       // what was measured: a collective's name
  std::string system;     // that it was forecast on; "" where none is known
  bool fitted = false;    // the system's constants for this were fitted, else they are NCCL's alone
  double bytes = 0;
  std::optional<double> predicted, measured;
  std::string unit;
  std::optional<std::string> skipped;  // why there is no forecast
  // (predicted - measured) / measured. Requires: both.
  double error() const { return *predicted / *measured - 1; }
};

struct ValidationSummary {
  int rows = 0, used = 0, skipped = 0;
  // Over the used rows; nothing when there is none.
  std::optional<double> median_abs_error, p90_abs_error, bias;
};

struct Validation {
  std::vector<ValidationRow> rows;  // in the order of the files
};

ValidationSummary summarise(const std::vector<const ValidationRow*>& rows);
// The middle value, between the middle two of an even number. Requires: not empty.
double median(std::vector<double> values);

// Sizes that are judged apart: below 64 KB, to 64 MB, from there on, and the median error that is good there.
struct SizeBand {
  const char* name;
  double from, below, good;
};
const std::vector<SizeBand>& size_bands();

nlohmann::ordered_json to_json(const Validation& validation);
// Tables of medians by size band; those beyond a band are marked.
std::string to_text(const Validation& validation, bool colour);
std::string to_csv(const Validation& validation);  // one line per row

}  // namespace foretrain::reports
