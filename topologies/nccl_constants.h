// The constants of one version of NCCL's own cost model (src/graph/tuning.cc): topologies/nccl/<version>.json. They
// changed between versions, and with them where NCCL goes from one algorithm to the next (sim/nccl.h has the formulas).
// Microseconds and GB/s, as NCCL has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace foretrain::topologies {

inline constexpr const char* kNcclFolder = "topologies/nccl";  // of the catalogue
inline constexpr const char* kNewestNccl = "2.30.7";

// Protocols in the order of every array below.
inline constexpr std::size_t kLl = 0, kLl128 = 1, kSimple = 2, kProtocols = 3;
inline constexpr std::array<const char*, kProtocols> kProtocolNames{"ll", "ll128", "simple"};

enum class GpuGeneration : std::uint8_t { volta, ampere, hopper, blackwell };
inline constexpr std::array<const char*, 4> kGenerationNames{"volta", "ampere", "hopper", "blackwell"};

struct NcclConstants {
  using PerProtocol = std::array<double, kProtocols>;
  using PerNodes = std::array<double, 3>;  // one node, two, more
  struct Hops {
    PerProtocol base, nvlink, pci, net;
  };
  std::string version, source;
  std::map<std::string, Hops> hops;  // "tree", "ring", "nvls", "nvls_tree", "pat", "collnet_direct", "collnet_chain"
  // By GpuGeneration. Total for LL, per channel for the others.
  std::array<PerNodes, 4> ll_limit, ring_ll128_limit, tree_ll128_limit, tree_limit, nvls_tree_limit;
  std::array<double, 4> nvls_efficiency{};
  std::array<std::vector<double>, kProtocols> tree_correction;  // by floor(log2(bytes / 64))
  double ring_ll = 0, ring_ll128 = 0, tree = 0, tree_ll = 0, tree_ll128_node = 0, tree_ll128_fabric = 0, plain_tree = 0;
  double pat = 0, ring_plateau = 0, ring_plateau_volta = 0, post_overhead_intel = 0, post_overhead_amd = 0;
  bool has_pat = false;
};

// By version, or the path of a file. Throws InputError with every mistake, and for an unknown version the known ones.
NcclConstants load_nccl_constants(const std::string& version_or_path);
// The catalogue's newest; read once, for they do not change while the program runs.
const NcclConstants& newest_nccl();
// `origin` stands in messages.
NcclConstants nccl_constants_from_text(std::string_view text, const std::string& origin);
// The newest known version that is not newer than `version` ("2.22.3", "22203" or ""); the oldest known for one older
// than all; the newest for "".
std::string nccl_constants_for(const std::string& version);

}  // namespace foretrain::topologies
