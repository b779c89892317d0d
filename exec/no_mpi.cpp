#include "exec/transport.h"

namespace foretrain::exec {

bool can_open_mpi(std::string* why) {
  *why = "this program was built without Open MPI; install libopenmpi-dev and openmpi-bin and build it again";
  return false;
}

std::unique_ptr<Transport> open_mpi(std::string* why) {
  (void)can_open_mpi(why);
  return nullptr;
}

}  // namespace foretrain::exec
