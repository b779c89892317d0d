// How `foretrain explain collective` shows the ways to do one collective, and a sweep over sizes.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace foretrain::reports {

struct CollectiveWay {
  std::string algorithm, protocol;  // protocol "": none
  double latency = 0, algbw = 0, table_seconds = 0, seconds = 0;
  std::string disabled;
  bool chosen = false;
};

// In lock step at the links' own speeds: in closed form with full bisection, and as flows on the network as it is.
struct CollectiveFlows {
  std::string algorithm;
  int pieces = 1;
  std::int64_t rounds = 0, transfers = 0, flows = 0;  // transfers: of rounds that differ; flows that stand for them
  double full_bisection = 0, routed = 0;              // seconds
  std::string refusal;
};

struct CollectiveAt {
  std::int64_t bytes = 0;
  std::vector<CollectiveWay> ways;     // one is chosen
  std::vector<CollectiveFlows> flows;  // where asked for
  const CollectiveWay& chosen() const;
};

struct CollectiveReport {
  std::string kind, system, network_model;
  std::string unit = "node";  // or "domain": nodes that share their switches; what `nodes` and `per_node` speak of
  int ranks = 0, nodes = 0, per_node = 0;
  std::string fabric;               // shape of the routed network, where flows are asked for
  std::vector<CollectiveAt> sizes;  // one, or those of a sweep
};

// Of nccl-tests: which part of algbw the wires see. Source: github:NVIDIA/nccl-tests doc/PERFORMANCE.md.
double bus_factor(const std::string& kind, int ranks);

nlohmann::ordered_json to_json(const CollectiveReport& report);
std::string to_text(const CollectiveReport& report, bool colour);        // the ways of the first size
std::string to_sweep_text(const CollectiveReport& report, bool colour);  // size, time, algbw, busbw as nccl-tests

}  // namespace foretrain::reports
