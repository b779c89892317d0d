// Chakra execution traces: what each rank computes and sends, and what it waits for. The format is protobuf's wire
// format of MLCommons' schema (github:mlcommons/chakra@21585d8 schema/protobuf/et_def.proto): a GlobalMetadata, then
// Nodes, each behind its length as a varint. Written and read here without protobuf.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "plan/foreign/foreign.h"
#include "plan/graph.h"

namespace foretrain::plan {

enum class ChakraType : std::uint8_t { invalid, metadata, mem_load, mem_store, compute, send, recv, collective };
std::string_view name(ChakraType t);

// CollectiveCommType of the schema.
enum class ChakraCollective : std::uint8_t {
  all_reduce,
  reduce,
  all_gather,
  gather,
  scatter,
  broadcast,
  all_to_all,
  reduce_scatter,
  reduce_scatter_block,
  barrier
};
std::string_view name(ChakraCollective c);

// The attributes are those that ASTRA-sim reads (src/feeder/et_feeder_node.cpp).
struct ChakraNode {
  std::uint64_t id = 0;
  std::string name;
  ChakraType type = ChakraType::invalid;
  std::vector<std::uint64_t> control_deps, data_deps;
  std::uint64_t duration_us = 0;
  std::int64_t duration_ps = 0;  // our own attribute, exact; 0: not said
  // compute: FLOPs and bytes of memory
  std::int64_t num_ops = 0;
  std::uint64_t tensor_size = 0;
  bool is_cpu_op = false;
  // communication: bytes, and between whom
  std::int64_t comm_type = 0, comm_size = 0;
  std::int32_t comm_src = 0, comm_dst = 0, comm_tag = 0;
  std::string group;  // pg_name: a number of comm_group.json
};

std::string chakra_header();
std::string encode(const ChakraNode& node);  // with its length before it

// Calls `take` for every node. Throws InputError "origin: byte N: …" for what is truncated, longer than what is left or
// no such message; fields and attributes that are not known are passed over, as protobuf has it.
void read_chakra(std::string_view bytes, const std::string& origin, const std::function<void(const ChakraNode&)>& take);

// One step of the graph as job.RANK.et, and ASTRA-sim's comm_group.json, network.yml, system.json, memory.json and
// run.sh for the job's cluster (github:astra-sim/astra-sim@518bd51). Files go to `take` one by one: together they may
// be large. `duration` of the op of a role, once it began; what takes none has none. Throws InputError for what Chakra
// has no words for, and for more than kMostChakraNodes nodes.
inline constexpr std::int64_t kMostChakraNodes = 50'000'000;
std::vector<std::string> export_chakra(const Job& job, const PlanGraph& graph,
                                       const std::function<Time(const OpId&)>& duration,
                                       const std::function<void(const ExportedFile&)>& take);

}  // namespace foretrain::plan
