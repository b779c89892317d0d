#include "plan/data_parallel.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/strategy.h"
#include "plan/strategy_exchange.h"

namespace foretrain::plan {

namespace {

constexpr std::array<std::string_view, 5> kWords{"all_reduce", "gather", "all_gather", "parameter_server", "local_sgd"};
constexpr std::int64_t kMostServers = 1'000'000;

// What goes with an all-reduce only, so far.
void check_company(ObjectReader& reader, const Strategy& s) {
  const auto refuse = [&](const char* key, bool is_there, const std::string& value, const char* expected) {
    if (is_there) {
      reader.mistake(key, fmt::format("{} with data_parallel {} is not built yet; expected {}", value,
                                      name(s.data_parallel), expected));
    }
  };
  refuse("zero", s.zero != 0, std::to_string(s.zero), "0");
  refuse("ep", s.ep != 1, std::to_string(s.ep), "1");
  refuse("offload", s.offload_optimizer, "\"optimizer\"", "no optimizer there");
  refuse("compression", s.gathers_gradients() && s.compression.kind != CompressionKind::none, name(s.compression),
         "none");
  if (s.data_parallel == DataParallel::all_gather) {
    return;
  }
  refuse("schedule", s.ways() > 1, std::string(name(s.schedule)), "one copy of the model");
  if (s.data_parallel == DataParallel::local_sgd) {
    return;
  }
  refuse("cp", s.cp != 1, std::to_string(s.cp), "1");
  refuse("optimizer_sync", s.post_validation, "post_validation", "global");
  if (s.data_parallel == DataParallel::parameter_server) {
    refuse("tp", s.tp != 1, std::to_string(s.tp), "1");
    refuse("pp", s.pp != 1, std::to_string(s.pp), "1");
  }
}

// A number of steps, or "unbounded".
void read_staleness(ObjectReader& reader, Strategy& s) {
  const nlohmann::json* value = reader.raw("staleness");
  const std::string order = reader.word("server_order", "arrival", {"arrival", "random"});
  s.servers_choose = order == "random";
  s.elastic = reader.boolean("elastic", false);
  if (value == nullptr) {
    for (const char* const key : {"server_order", "elastic"}) {
      if (reader.has(key)) {
        reader.mistake(key, "needs staleness: without it servers wait for all workers");
      }
    }
    return;
  }
  if (value->is_string()) {
    s.staleness = kUnbounded;
    if (value->get<std::string>() != "unbounded") {
      reader.mistake("staleness",
                     fmt::format("{} is not allowed; expected a number of steps >= 0 or \"unbounded\"", shown(*value)));
    }
    return;
  }
  s.staleness = reader.integer("staleness", 0, 0, kMostServers);
  if (s.overlap_grad_reduce) {
    reader.mistake("overlap_grad_reduce", "goes with synchronous servers only; expected false, or no staleness");
  }
}

}  // namespace

std::string_view name(DataParallel d) {
  return kWords[static_cast<std::size_t>(d)];
}

std::string_view name(ServerSharding s) {
  return s == ServerSharding::size ? "size" : "hash";
}

void read_data_parallel(ObjectReader& reader, Strategy& s) {
  const std::string word = reader.word("data_parallel", "all_reduce", {kWords.begin(), kWords.end()});
  for (std::size_t i = 0; i < kWords.size(); ++i) {
    s.data_parallel = word == kWords[i] ? static_cast<DataParallel>(i) : s.data_parallel;
  }
  const bool serves = s.data_parallel == DataParallel::parameter_server;
  s.servers = reader.integer("servers", serves ? 1 : 0, serves ? 1 : 0, kMostServers);
  s.server_sharding =
      reader.word("server_sharding", "size", {"size", "hash"}) == "hash" ? ServerSharding::hash : ServerSharding::size;
  s.server_replicas = reader.integer("server_replicas", 0, 0, 1);
  read_staleness(reader, s);
  for (const char* const key :
       {"servers", "server_sharding", "server_replicas", "staleness", "server_order", "elastic"}) {
    if (!serves && reader.has(key)) {
      reader.mistake(key, fmt::format("needs data_parallel parameter_server, not {}", name(s.data_parallel)));
    }
  }
  read_local_sgd(reader, s);
  s.loader_ranks = reader.integer("loader_ranks", 0, 0, kMostServers);
  if (s.data_parallel != DataParallel::all_reduce) {
    check_company(reader, s);
  }
}

void write_data_parallel(const Strategy& s, nlohmann::json& out) {
  out["data_parallel"] = name(s.data_parallel);
  if (s.loader_ranks > 0) {
    out["loader_ranks"] = s.loader_ranks;
  }
  if (s.data_parallel == DataParallel::parameter_server) {
    out["servers"] = s.servers;
    out["server_sharding"] = name(s.server_sharding);
    out["server_replicas"] = s.server_replicas;
    if (s.staleness) {
      out["staleness"] = *s.staleness == kUnbounded ? nlohmann::json("unbounded") : nlohmann::json(*s.staleness);
      out["server_order"] = s.servers_choose ? "random" : "arrival";
      out["elastic"] = s.elastic;
    }
  } else if (s.data_parallel == DataParallel::local_sgd) {
    write_local_sgd(s, out);
  }
}

}  // namespace foretrain::plan
