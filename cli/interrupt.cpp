#include "cli/interrupt.h"

#include <unistd.h>

#include <csignal>

#include "base/output_file.h"

namespace foretrain::cli {

namespace {

std::atomic<bool> interrupted{false};
std::atomic<int> watches{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a signal handler may use them");

extern "C" void on_signal(int) {
  if (watches.load() > 0 && !interrupted.exchange(true)) {
    return;
  }
  remove_unfinished_outputs();
  ::_exit(kInterruptedStatus);
}

}  // namespace

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  // A file that may not grow further is an error of its writer, as a full disk is.
  ::signal(SIGXFSZ, SIG_IGN);
}

bool was_interrupted() {
  return interrupted;
}

InterruptWatch::InterruptWatch() {
  ++watches;
}

InterruptWatch::~InterruptWatch() {
  --watches;
}

const std::atomic<bool>* InterruptWatch::flag() const {
  return &interrupted;
}

void InterruptWatch::throw_if_interrupted() const {
  if (interrupted) {
    throw Interrupted();
  }
}

}  // namespace foretrain::cli
