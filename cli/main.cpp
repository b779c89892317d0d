// The only catch: every failure becomes a message on stderr and an exit status.
#include <fmt/format.h>

#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/verbs.h"

int main(int argc, char** argv) {
  using namespace foretrain;  // NOLINT(google-build-using-namespace): main stands outside every namespace
  cli::Console console;
  cli::install_interrupt_handler();
  try {
    const int status = cli::dispatch(std::vector<std::string>(argv + 1, argv + argc), console);
    console.flush();
    return status;
  } catch (const cli::Interrupted&) {
    console.note("interrupted");
    return cli::kInterruptedStatus;
  } catch (const InputError& error) {
    console.error(error.what());
    return cli::kBadInput;
  } catch (const InfeasibleError& error) {
    console.error(error.what());
    return cli::kInfeasible;
  } catch (const EnvironmentError& error) {
    console.error(error.what());
    return cli::kEnvironment;
  } catch (const std::bad_alloc&) {
    console.error("out of memory");
    return cli::kEnvironment;
  } catch (const std::exception& error) {
    console.error(fmt::format("internal: {}", error.what()));
    console.note("This is a mistake of foretrain; please report it with the command and the job file.");
    return cli::kInternal;
  }
}
