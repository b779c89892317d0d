#include "bench/mpi_all_reduce.h"

#include <mpi.h>

namespace foretrain::bench {

bool has_mpi() {
  int started = 0;
  MPI_Initialized(&started);
  return started != 0;
}

void mpi_all_reduce(const std::byte* in, std::byte* out, std::int64_t bytes) {
  MPI_Allreduce(in, out, static_cast<int>(bytes / 4), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

}  // namespace foretrain::bench
