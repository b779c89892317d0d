#include "search/watch.h"

#include <mutex>

#include "base/parallel.h"

namespace foretrain::search {

void in_parallel(std::size_t count, const Watch& watch, const std::function<void(std::size_t)>& work) {
  std::mutex telling;
  std::size_t done = 0;
  foretrain::in_parallel(count, [&](std::size_t i) {
    if (watch.is_over()) {
      return;
    }
    work(i);
    const std::lock_guard lock(telling);
    ++done;
    if (watch.on_progress) {
      watch.on_progress(done, count);
    }
  });
}

}  // namespace foretrain::search
