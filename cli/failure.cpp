#include "cli/failure.h"

#include <fmt/format.h>

#include <new>

#include "base/error.h"
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

}  // namespace

int report_failure(Console& console) {
  try {
    throw;
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

}  // namespace foretrain::cli
