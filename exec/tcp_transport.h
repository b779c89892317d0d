// Messages between processes over sockets of our own, for launchers that bring no message library: torchrun and its kin
// give each process a number, and the address where process 0 is to be found.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "exec/transport.h"

namespace foretrain::exec {

struct Meeting {
  int process = 0, processes = 1;
  std::string address;                                            // of process 0's host: a name or an address
  std::uint16_t port = 0;                                         // where process 0 listens until all are there
  std::chrono::milliseconds patience = std::chrono::seconds(60);  // within it all must be there
};

// Returns when every process is connected with every other. Whoever else comes is sent away, with a line on stderr.
// Throws EnvironmentError naming who is missing, or the address that cannot be reached.
std::unique_ptr<Transport> meet_over_tcp(const Meeting& meeting);

}  // namespace foretrain::exec
