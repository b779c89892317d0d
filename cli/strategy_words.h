// The words of a strategy that are built, and what the tests say of each.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace foretrain::cli {

// simulated: a simulated timeline of it passed the validator; executed: it trained to the losses and gradients of one
// rank. From reports/strategies.json, which scripts/strategies takes from a run of the tests; none: no test said.
struct StrategyWord {
  std::string name, description;
  std::optional<bool> simulated, executed;
};

// Throws InputError for a broken results file.
std::vector<StrategyWord> strategy_words();

}  // namespace foretrain::cli
