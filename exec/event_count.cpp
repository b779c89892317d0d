#include "exec/event_count.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>

namespace foretrain::exec {

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t), "a futex is a plain 32-bit word");

void EventCount::notify() {
  count_.fetch_add(1, std::memory_order_seq_cst);
  // Sequentially consistent with wait(): either the sleeper sees the new count or we see the sleeper.
  if (sleeping_.load(std::memory_order_seq_cst)) {
    ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&count_), FUTEX_WAKE, 1, nullptr, nullptr, 0);
  }
}

void EventCount::wait(std::uint32_t seen, std::chrono::nanoseconds limit) {
  sleeping_.store(true, std::memory_order_seq_cst);
  if (count_.load(std::memory_order_seq_cst) == seen) {
    const auto whole = std::chrono::duration_cast<std::chrono::seconds>(limit);
    const std::timespec span{static_cast<std::time_t>(whole.count()), static_cast<long>((limit - whole).count())};
    ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&count_), FUTEX_WAIT, seen, &span, nullptr, 0);
  }
  sleeping_.store(false, std::memory_order_seq_cst);
}

}  // namespace foretrain::exec
