#include "exec/last_state.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <thread>

namespace foretrain::exec {

namespace {

constexpr std::chrono::seconds kLimit{5};
constexpr std::chrono::milliseconds kTick{5};
constexpr const char* kNothing = "-";  // words of one that holds none

}  // namespace

LastState agree_on_last_state(Processes& processes, const std::vector<int>& holders, bool are_alike,
                              const std::function<std::optional<int>()>& made) {
  const bool holds = std::find(holders.begin(), holders.end(), processes.number()) != holders.end();
  std::string said;
  const auto deadline = std::chrono::steady_clock::now() + kLimit;
  for (;;) {
    const std::vector<std::string>& words = processes.last_words();
    const auto word = [&](int p) { return words[static_cast<std::size_t>(p)]; };
    const std::optional<int> steps = holds && (are_alike || said.empty()) ? made() : std::nullopt;
    const std::string own = !holds ? kNothing : steps ? std::to_string(*steps) : "";
    if (!own.empty() && own != said) {
      processes.say_last(own);
      said = own;
    }
    bool all_said = true;
    int first = -1;
    for (int p = processes.count() - 1; p >= 0; --p) {
      all_said = all_said && (!word(p).empty() || !processes.is_left(p));
      first = word(p).empty() ? first : p;
    }
    const bool agree = std::all_of(holders.begin(), holders.end(), [&](int p) {
      return !word(p).empty() && (!are_alike || word(p) == word(holders.front()));
    });
    if (all_said && agree) {
      int fewest = std::numeric_limits<int>::max();
      for (const int p : holders) {
        fewest = std::min(fewest, std::stoi(word(p)));
      }
      return {fewest, first == processes.number()};
    }
    const bool is_lost =
        std::any_of(holders.begin(), holders.end(), [&](int p) { return word(p).empty() && !processes.is_left(p); });
    if (is_lost || std::chrono::steady_clock::now() > deadline) {
      return {};
    }
    std::this_thread::sleep_for(kTick);
  }
}

}  // namespace foretrain::exec
