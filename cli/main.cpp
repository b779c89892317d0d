// The only catch: every failure becomes a message on stderr and an exit status.
#include <fmt/format.h>

#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/verbs.h"

namespace foretrain::cli {
namespace {

int report_interrupt(Console& console) {
  console.note("interrupted");
  return kInterruptedStatus;
}

int report(Console& console, const char* message, int status) {
  if (was_interrupted()) {
    return report_interrupt(console);
  }
  console.error(message);
  return status;
}

int run(const std::vector<std::string>& arguments) {
  Console console;
  try {
    const int status = dispatch(arguments, console);
    console.flush();
    return status;
  } catch (const Interrupted&) {
    return report_interrupt(console);
  } catch (const InputError& error) {
    return report(console, error.what(), kBadInput);
  } catch (const InfeasibleError& error) {
    return report(console, error.what(), kInfeasible);
  } catch (const EnvironmentError& error) {
    return report(console, error.what(), kEnvironment);
  } catch (const std::bad_alloc&) {
    return report(console, "out of memory", kEnvironment);
  } catch (const std::exception& error) {
    const int status = report(console, fmt::format("internal: {}", error.what()).c_str(), kInternal);
    if (status == kInternal) {
      console.note("This is a mistake of foretrain; please report it with the command and the job file.");
    }
    return status;
  }
}

}  // namespace
}  // namespace foretrain::cli

int main(int argc, char** argv) {
  foretrain::cli::install_interrupt_handler();
  return foretrain::cli::run(std::vector<std::string>(argv + 1, argv + argc));
}
