// The words of a strategy that are built, and what the tests say of each.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace foretrain::cli {

// What tests/cli/strategies_test.cpp found, from reports/strategies.json (scripts/strategies puts it there); none: no
// test said.
struct StrategyWord {
  std::string name, description;
  std::optional<bool> simulated;  // the simulated timeline passes the validator
  std::optional<bool> executed;   // it trains to the losses and gradients of one rank
  std::optional<bool> compared;   // the measured timeline passes it too, and can be laid beside the simulated one
};

// Throws InputError for a broken results file.
std::vector<StrategyWord> strategy_words();

}  // namespace foretrain::cli
