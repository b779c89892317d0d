// One plan of a search, judged.
#pragma once

#include <string>

#include "search/plan_search.h"

namespace foretrain::search {

inline constexpr const char* kSlower = "slower than the best plan, by what it takes at least";
inline constexpr const char* kSlowerAlone = "slower than the best plan, without shared links";
inline constexpr const char* kSimulatedSlower = "slower than the best plan";
inline constexpr const char* kTooLarge = "does not fit into a device's memory";
inline constexpr const char* kTooLargeByBound = "does not fit into a device's memory, by what it holds at least";

struct Verdict {
  std::string rejected;  // why; "": it fits
  bool built = false;
  Found found;
};

// By closed forms of communication, which take no less where links are shared, at a clock that is no lower:
// Found::alone. A plan that takes `limit` or longer is no better. From any thread.
Verdict judge(const plan::OpenJob& open, ShapeBounds& bounds, const Shape& shape, const Tail& tail, Time limit);

// Part by which closed forms are taken to exceed a simulation with shared links at most: in 220 random plans of GPT-3
// 175B on 1,024 A100 and Llama 3 70B on 64 H100 it was 0.3 % at most, and nothing in 213.
inline constexpr double kClosed = 5e-3;

// Of a plan that fits, by the whole simulation.
void simulate(const plan::OpenJob& open, Found& found);

// Its memory alone.
Verdict judge_memory(const plan::OpenJob& open, const Shape& shape, const Tail& tail);

}  // namespace foretrain::search
