// The last catch: every failure becomes a message on stderr and an exit status.
#include <malloc.h>

#include <string>
#include <vector>

#include "cli/console.h"
#include "cli/failure.h"
#include "cli/interrupt.h"
#include "cli/verbs.h"

namespace foretrain::cli {
namespace {

int run(const std::vector<std::string>& arguments) {
  Console console;
  try {
    const int status = dispatch(arguments, console);
    console.flush();
    return status;
  } catch (...) {
    return report_failure(console);
  }
}

// A search builds and drops thousands of graphs. Memory that goes back to the system in between comes back page by
// page, a tenth of its time.
void keep_freed_memory() {
  constexpr int kPiece = 32 << 20;  // glibc's largest threshold of a mapping of its own
  mallopt(M_MMAP_THRESHOLD, kPiece);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, kPiece / 8);
}

}  // namespace
}  // namespace foretrain::cli

int main(int argc, char** argv) {
  foretrain::cli::keep_freed_memory();
  foretrain::cli::install_interrupt_handler();
  return foretrain::cli::run(std::vector<std::string>(argv + 1, argv + argc));
}
