// MPI's own all-reduce, to compare with; under mpirun only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace foretrain::bench {

// Whether this program was built with MPI and runs under it.
bool has_mpi();
// Sum of fp32 over all processes.
void mpi_all_reduce(const std::byte* in, std::byte* out, std::int64_t bytes);

}  // namespace foretrain::bench
