// For what must outlive a run that was cut off: a library that still writes to it, or whose farewell would wait for
// those that are gone. The process is about to end.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

namespace foretrain::exec {

// Never destroyed, and reachable for ever, so that it counts as no leak. From any thread.
template <class T>
void leave_behind(std::unique_ptr<T> object) {
  static std::mutex mutex;
  static auto* const all = new std::vector<T*>;
  const std::lock_guard lock(mutex);
  all->push_back(object.release());
}

}  // namespace foretrain::exec
