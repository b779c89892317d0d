// The last catch: every failure becomes a message on stderr and an exit status.
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

}  // namespace
}  // namespace foretrain::cli

int main(int argc, char** argv) {
  foretrain::cli::install_interrupt_handler();
  return foretrain::cli::run(std::vector<std::string>(argv + 1, argv + argc));
}
