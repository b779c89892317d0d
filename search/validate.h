// Sets forecasts against published measurements. The kind of a row is told by its keys: `collective` and `bytes` make
// one of nccl-tests (time_us out of place; bytes is the total buffer), `measured` one of a training run: its step time,
// its memory, or that it ran out of memory; `run` one of a whole run of weeks (search/run_rows.h).
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "reports/validation.h"

namespace foretrain::search {

struct ValidateOptions {
  std::string constants;  // a file of network environments; "": the catalogue's
  std::string rules;      // a file of rules for training runs (search/training_rules.h); "": the catalogue's
  std::string group;      // only this group's rows; "": all
};

// Reads files of one JSON object per line; empty lines are passed over. Throws InputError with "file:line: what" of
// every line that cannot be read, and for a group that no row has.
reports::Validation validate(const std::vector<std::string>& paths, const ValidateOptions& options = {});
// `origin` stands in messages.
reports::Validation validate(std::istream& in, const std::string& origin, const ValidateOptions& options = {});

// How the training run with that id was read and where its time goes, for people. Throws InputError likewise.
std::string explain_row(const std::vector<std::string>& paths, const std::string& id, const ValidateOptions& options,
                        bool colour);

}  // namespace foretrain::search
