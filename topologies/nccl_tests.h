// What programs of nccl-tests (all_reduce_perf, ...) printed: sweeps over message sizes, out of place.
// Source: github:NVIDIA/nccl-tests src/common.cu, which prints the header and the rows. GB/s are 1e9 bytes per second.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace foretrain::topologies {

struct NcclSweep {
  struct Row {
    std::int64_t bytes = 0;  // at least 1
    double seconds = 0;      // more than 0
    double busbw = 0;        // bytes per second
  };
  std::string origin;      // the file
  std::string collective;  // "all_reduce", ..., "reduce", "sendrecv"; "": neither file nor columns say it
  std::string gpu;
  int ranks = 0, nodes = 0;  // 0: no line of a rank stood in the header
  int fewest = 0;            // ranks on the node with fewest
  std::vector<Row> rows;     // ascending sizes, at least one
};

struct NcclTests {
  std::vector<NcclSweep> sweeps;  // at least one
  std::vector<std::string> warnings;
};

bool is_nccl_tests(std::string_view text);
// Throws InputError that names file, line and value.
NcclTests read_nccl_tests(std::string_view text, const std::string& origin);

}  // namespace foretrain::topologies
