// The module that alone knows MPI: opened when a launcher of MPI started this process, so that the program itself needs
// no MPI.
#pragma once

#include "exec/transport.h"

namespace foretrain::exec {

inline constexpr const char* kMpiModule = "libforetrain_mpi.so";
inline constexpr const char* kOpenTransport = "foretrain_open_mpi_transport";
// Starts MPI. The caller owns the result.
using OpenTransport = Transport* (*)();

}  // namespace foretrain::exec
