// NCCL's constants. What is accepted can choose: some algorithm has a time for every group and size.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "sim/nccl.h"
#include "topologies/nccl_constants.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using foretrain::sim::collective::Kind;
  namespace nccl = foretrain::sim::nccl;
  foretrain::topologies::NcclConstants constants;
  try {
    constants = foretrain::topologies::nccl_constants_from_text({reinterpret_cast<const char*>(data), size}, "input");
  } catch (const foretrain::InputError&) {
    return 0;
  }
  for (const Kind kind : {Kind::all_reduce, Kind::all_gather, Kind::broadcast}) {
    for (const nccl::Group group : {nccl::Group{2, 1, 2}, {8, 1, 8}, {16, 2, 8}, {3, 3, 1}, {4096, 512, 8}}) {
      for (const auto generation :
           {foretrain::topologies::GpuGeneration::volta, foretrain::topologies::GpuGeneration::blackwell}) {
        nccl::System system;
        system.generation = generation;
        const auto all = nccl::candidates(kind, group, system, constants);
        for (const double bytes : {0.0, 1.0, 1e6, 1e12}) {
          const auto& best = all[nccl::choose(all, kind, bytes, group, system, constants)];
          const double seconds = nccl::table_seconds(best, kind, bytes, group, system, constants);
          CHECK(std::isfinite(seconds) && seconds >= 0, "{} takes {} s", best.word(), seconds);
        }
      }
    }
  }
  return 0;
}
