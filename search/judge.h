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
  std::string rejected;  // why; "": it is not
  bool judged = false, built = false;
  Found found;
};

// By its bounds, then by closed forms of communication: Found::alone, with the least of its memory. A plan that takes
// `limit` or longer is no better; one that demands more than `capacity` does not fit. From any thread.
Verdict judge(const plan::OpenJob& open, ShapeBounds& bounds, const Shape& shape, const Tail& tail, Time limit,
              Bytes capacity);

// The same text of plans that take the same time by bounds and closed forms, and the same memory: with ranks in another
// order that lie alike.
std::string same_alone(const plan::OpenJob& open, const ShapeBounds& bounds, const Shape& shape, Tail tail);
// And of plans that do the same ops in another order: with parameters gathered at another time or, under ZeRO-2 and 3
// and where layers are alike, with other virtual stages.
std::string same_ops(const plan::OpenJob& open, ShapeBounds& bounds, Shape shape, Tail tail);

// Part by which closed forms are taken to exceed a simulation with shared links at most. Communication is taken to be
// as fast beside compute as alone: what the device's share slows may be held back by a link anyhow. Of 2,001 random
// plans of eight jobs on A100, H100 and H200 it was 0.09 % at most, and nothing in 1,996.
inline constexpr double kClosed = 3e-3;

// Its memory, replayed.
void replay_memory(const plan::OpenJob& open, Found& found);

// Of a plan that fits, by the whole simulation.
void simulate(const plan::OpenJob& open, Found& found);

// Its memory alone.
Verdict judge_memory(const plan::OpenJob& open, const Shape& shape, const Tail& tail);

// What was found, as a text for another process, and back.
std::string packed(const Found& found);
void unpack(const std::string& text, Found& found);

}  // namespace foretrain::search
