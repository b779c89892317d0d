// How replicas of the model stay alike: a part of the strategy.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/json.h"

namespace foretrain::plan {

struct Strategy;

// all_reduce: every rank has the sum, and updates. gather: the first rank of each replica group gathers the others'
// gradients, sums them, updates and hands the parameters out; state is with it alone. all_gather: every rank gathers
// all gradients, sums and updates. parameter_server: as gather, by ranks of their own (`servers`), among which the
// parameters are dealt. local_sgd: gradients are summed within groups of neighbours along dp only; between these
// parameters are averaged every few steps (McMahan et al. 2017, Stich 2019), where an outer optimizer may take a step
// along the difference (DiLoCo, Douillard et al. 2023).
enum class DataParallel : std::uint8_t { all_reduce, gather, all_gather, parameter_server, local_sgd };
std::string_view name(DataParallel d);

// Which server has which parameters (a layer, the embedding, the head): the largest first to the server that has least,
// or by a hash of the name.
enum class ServerSharding : std::uint8_t { size, hash };
std::string_view name(ServerSharding s);

// Strategy::staleness of an asynchronous server that waits for nobody.
inline constexpr std::int64_t kUnbounded = -1;

// Reads what concerns it; all else of the strategy is known. Records mistakes.
void read_data_parallel(ObjectReader& reader, Strategy& strategy);
void write_data_parallel(const Strategy& strategy, nlohmann::json& out);

}  // namespace foretrain::plan
