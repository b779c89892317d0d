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

// --tokens "15T", "300B", "1.5e12". Throws InputError.
double parse_tokens(const std::string& text);
// --price of a device for an hour. Throws InputError.
void check_price(const std::optional<double>& price);

class WholeRunArguments {
 public:
  void add_to(Options& options);
  // The same words from a JSON object, _ for -: {"tokens": "15T", "checkpoint_every": "20 min"}. Throws InputError.
  void read(const ObjectReader& words);
  // Whether --tokens or --steps was given. Throws InputError for words that need them and stand without, for both, and
  // for what cannot be.
  bool wanted() const;
  // Requires: wanted(). `estimate` has its step forecast.
  reports::WholeRun forecast(const plan::Job& job, const reports::Estimate& estimate) const;

 private:
  topologies::Operations operations() const;
  search::RunWishes wishes() const;

  std::string tokens_, checkpoint_every_, checkpoint_write_, restart_, mtbf_, failures_, site_, operations_;
  std::int64_t steps_ = 0, runs_ = 0, seed_ = -1;  // as if not given
  std::optional<double> price_, pue_;
};

}  // namespace foretrain::cli
