// Work on all cores before somebody's eyes: how far it is, and whether it shall end.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>

namespace foretrain::search {

struct Watch {
  // After each piece; one call at a time, from any thread.
  std::function<void(std::size_t done, std::size_t count)> on_progress;
  const std::atomic<bool>* interrupted = nullptr;

  bool is_over() const { return interrupted != nullptr && *interrupted; }
};

// As foretrain::in_parallel; pieces that an interruption finds not begun are left out.
void in_parallel(std::size_t count, const Watch& watch, const std::function<void(std::size_t)>& work);

}  // namespace foretrain::search
