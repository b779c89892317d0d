// The words of `estimate` about a whole run, and its forecast.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"
#include "cli/options.h"
#include "plan/job.h"
#include "reports/estimate.h"
#include "search/whole_run.h"

namespace foretrain::cli {

// "15T", "300B", "1.5e12". Throws InputError; `place` stands in messages.
double parse_tokens(const std::string& place, const std::string& text);
// Of a device for an hour. Throws InputError.
void check_price(const std::string& place, const std::optional<double>& price);

class WholeRunArguments {
 public:
  void add_to(Options& options);
  // The same words from a JSON object, _ for -: {"tokens": "15T", "checkpoint_every": "20 min"}. Throws InputError for
  // words that do not go together; mistakes of one are the reader's.
  void read(const ObjectReader& words);
  // Whether --tokens or --steps was given. Throws InputError for words that need them and stand without, for both, and
  // for what cannot be.
  bool wanted() const;
  // Requires: wanted(). `estimate` has its step forecast.
  reports::WholeRun forecast(const plan::Job& job, const reports::Estimate& estimate) const;

 private:
  // As the user wrote it: --checkpoint-every, or a key; and as a place of mistakes.
  std::string name(std::string option) const;
  std::string place(const std::string& option) const;
  topologies::Operations operations() const;
  search::RunWishes wishes() const;

  std::string tokens_, checkpoint_every_, checkpoint_write_, restart_, mtbf_, failures_, site_, operations_;
  std::int64_t steps_ = 0, runs_ = 0, seed_ = -1;  // as if not given
  std::optional<double> price_, pue_;
  std::string keys_of_;  // place of the object that the words are keys of; "": they are options
};

}  // namespace foretrain::cli
