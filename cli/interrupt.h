// Ctrl-C. A verb that can stop in good order watches a flag; any other ends at once. Either way unfinished output files
// are removed and the exit status is 130. A second Ctrl-C never waits.
#pragma once

#include <atomic>
#include <exception>

namespace foretrain::cli {

inline constexpr int kInterruptedStatus = 130;

// Thrown by a verb that was interrupted and has stopped.
struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

// SIGINT and SIGTERM, once per process.
void install_interrupt_handler();

// Whether a signal came while somebody watched: what then failed, failed because of it.
bool was_interrupted();

// While one exists, the first signal only sets the flag.
class InterruptWatch {
 public:
  InterruptWatch();
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;

  const std::atomic<bool>* flag() const;
  void throw_if_interrupted() const;
};

}  // namespace foretrain::cli
