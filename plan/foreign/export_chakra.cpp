// One step of a plan graph as Chakra traces, with ASTRA-sim's files of the cluster.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "plan/cursor.h"
#include "plan/foreign/chakra.h"
#include "plan/op_text.h"
#include "plan/work.h"

namespace foretrain::plan {

namespace {

using Ids = std::vector<std::uint64_t>;
using Json = nlohmann::ordered_json;

// Process groups as sets of ranks, numbered from 1 in the order in which they are met.
class Groups {
 public:
  std::string number(const std::vector<Rank>& ranks) {
    return fmt::format("{}", numbers_.try_emplace(ranks, numbers_.size() + 1).first->second);
  }
  std::string json() const {
    std::map<std::size_t, const std::vector<Rank>*> sorted;
    for (const auto& [ranks, number] : numbers_) {
      sorted[number] = &ranks;
    }
    Json out = Json::object();
    for (const auto& [number, ranks] : sorted) {
      out[fmt::format("{}", number)] = *ranks;
    }
    return out.dump() + "\n";
  }

 private:
  std::map<std::vector<Rank>, std::size_t> numbers_;
};

ChakraCollective collective_of(CollectiveKind kind, const std::string& origin) {
  switch (kind) {
    case CollectiveKind::all_reduce: return ChakraCollective::all_reduce;
    case CollectiveKind::reduce_scatter: return ChakraCollective::reduce_scatter;
    case CollectiveKind::all_gather: return ChakraCollective::all_gather;
    case CollectiveKind::broadcast: return ChakraCollective::broadcast;
    case CollectiveKind::all_to_all: return ChakraCollective::all_to_all;
    case CollectiveKind::gather:
    case CollectiveKind::distribute: break;
  }
  throw InputError(fmt::format("{}: {}: ASTRA-sim has no such collective; expected a job without servers and gathers",
                               origin, name(kind)));
}

class RankTrace {
 public:
  RankTrace(const Job& job, const PlanGraph& graph, const std::function<Time(const OpId&)>& duration, Rank rank,
            Groups& groups)
      : job_(job),
        graph_(graph),
        duration_(duration),
        rank_(rank),
        role_index_(role_of(graph, rank)),
        role_(graph.roles[static_cast<std::size_t>(role_index_)]),
        groups_(groups),
        streams_(role_.streams.size()),
        events_(static_cast<std::size_t>(event_copies(role_))) {}

  std::string text() {
    out_ = chakra_header();
    for (ProgramCursor c(role_, role_index_, role_.program.body, first_body_instance(role_.program), 0); c; c.next()) {
      if (c.starts_block()) {
        block_.clear();
      }
      took_ = duration_(c.id());
      block_.push_back(emit(c.op(), c.binding()));
    }
    return std::move(out_);
  }
  std::int64_t nodes() const { return static_cast<std::int64_t>(next_); }

 private:
  // What the op waits for: those before it on its stream, earlier ones of its block, and records of its events.
  Ids dependencies(const Op& op, const Binding& b) const {
    Ids all = streams_[static_cast<std::size_t>(op.stream)];
    const auto add = [&](const Ids& ids) { all.insert(all.end(), ids.begin(), ids.end()); };
    for (const std::uint16_t position : op.after) {
      add(block_[position]);
    }
    for (const EventId e : op.waits) {
      add(events_[static_cast<std::size_t>(event_copy(role_, e, b))]);
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }

  // Ids of the op's nodes: what waits for it waits for all of them.
  Ids emit(const Op& op, const Binding& b) {
    const Ids before = dependencies(op, b);
    Ids made;
    if (const auto* collective = std::get_if<Collective>(&op.work)) {
      made.push_back(write(collective_node(*collective), op, before));
    } else if (const auto* exchange = std::get_if<Exchange>(&op.work)) {
      for (const Message& m : exchange->messages) {
        made.push_back(write(message_node(m, b), op, before));
      }
    } else if (std::holds_alternative<Host>(op.work)) {
      made = before;  // data is there in time
    } else if (std::holds_alternative<Channel>(op.work)) {
      throw InputError(
          fmt::format("{}: /strategy/staleness: Chakra has no word for who comes first; expected a "
                      "synchronous job",
                      job_.origin));
    } else {
      const OpWork w = work(op);
      ChakraNode node;
      node.type = ChakraType::compute;
      node.num_ops = std::llround(w.flops);
      node.tensor_size = static_cast<std::uint64_t>(w.read.value + w.written.value);
      made.push_back(write(std::move(node), op, before));
    }
    streams_[static_cast<std::size_t>(op.stream)] = made;
    for (const EventId e : op.records) {
      events_[static_cast<std::size_t>(event_copy(role_, e, b))] = made;
    }
    return made;
  }

  ChakraNode collective_node(const Collective& c) const {
    ChakraNode node;
    node.type = ChakraType::collective;
    node.comm_type = static_cast<std::int64_t>(collective_of(c.kind, job_.origin));
    const std::vector<Rank> all = members(graph_.mesh, graph_.groups[static_cast<std::size_t>(c.group)], rank_);
    // Of an all-gather ASTRA-sim counts what a rank brings, of the others what a rank holds at the start.
    const std::int64_t parts = c.kind == CollectiveKind::all_gather ? std::ssize(all) : 1;
    node.comm_size = size_bytes(c.dtype, c.elements) / std::max<std::int64_t>(1, parts);
    node.group = groups_.number(all);
    return node;
  }

  ChakraNode message_node(const Message& m, const Binding& b) const {
    const Rank peer = graph_.mesh.peer(rank_, m.axis, m.peer, m.relative);
    const MatchKey key = match_key(role_, m.tag, b);
    const auto layers = static_cast<std::int64_t>(job_.workload.model.layers) + 1;
    const auto tags = static_cast<std::int64_t>(graph_.tags.size());
    ChakraNode node;
    node.type = m.send ? ChakraType::send : ChakraType::recv;
    node.comm_src = static_cast<std::int32_t>(m.send ? rank_ : peer);
    node.comm_dst = static_cast<std::int32_t>(m.send ? peer : rank_);
    node.comm_size = size_bytes(m.dtype, m.elements);
    node.comm_tag =
        static_cast<std::int32_t>((((key.microbatch + 1) * layers + key.layer + 1) * tags + key.tag) % 2'000'000'011);
    return node;
  }

  std::uint64_t write(ChakraNode node, const Op& op, const Ids& before) {
    node.id = next_++;
    node.name = kind_name(op.work);
    constexpr std::int64_t kPerMicrosecond = 1'000'000;
    node.duration_us = static_cast<std::uint64_t>((took_.value + kPerMicrosecond / 2) / kPerMicrosecond);
    node.duration_ps = took_.value;
    node.data_deps = before;
    out_ += encode(node);
    return node.id;
  }

  const Job& job_;
  const PlanGraph& graph_;
  const std::function<Time(const OpId&)>& duration_;
  Rank rank_;
  int role_index_;
  const Role& role_;
  Groups& groups_;
  std::vector<Ids> streams_, events_, block_;
  std::string out_;
  Time took_;
  std::uint64_t next_ = 0;
};

std::int64_t nodes_of(const PlanGraph& graph) {
  std::int64_t all = 0;
  for (std::size_t i = 0; i < graph.roles.size(); ++i) {
    const Role& role = graph.roles[i];
    std::int64_t ops = 0;
    for (ProgramCursor c(role, static_cast<int>(i), role.program.body, first_body_instance(role.program), 0); c;
         c.next()) {
      const auto* exchange = std::get_if<Exchange>(&c.op().work);
      ops += exchange == nullptr ? 1 : std::ssize(exchange->messages);
    }
    all += ops * count(graph.mesh, role.ranks);
  }
  return all;
}

// Dimensions from the inside out: the devices of a node, then the nodes; of ranks that share one machine these.
std::string network_file(topologies::Cluster c, Rank ranks) {
  if (c.shares_devices() && !c.is_hosts()) {
    c.devices_per_node = static_cast<int>(ranks);
  }
  const bool nodes = c.nodes > 1, devices = c.devices_per_node > 1;
  const auto list = [&](auto inner, auto outer) {
    return devices && nodes ? fmt::format("[ {}, {} ]", inner, outer)
           : devices        ? fmt::format("[ {} ]", inner)
                            : fmt::format("[ {} ]", outer);
  };
  const auto rate = [](const topologies::Link& l) {
    return fmt::format("{:.3f}", static_cast<double>(l.bandwidth.value) / 1e9);
  };
  const auto latency = [](const topologies::Link& l) { return fmt::format("{:.1f}", seconds(l.latency) * 1e9); };
  return fmt::format("topology: {}\nnpus_count: {}\nbandwidth: {}  # GB/s\nlatency: {}  # ns\n",
                     list("Switch", "Switch"), list(static_cast<std::int64_t>(c.devices_per_node), c.nodes),
                     list(rate(c.intra), rate(c.inter)), list(latency(c.intra), latency(c.inter)));
}

std::string system_file(const Job& job) {
  const topologies::Cluster& c = job.cluster;
  const std::size_t dimensions = c.nodes > 1 && c.devices_per_node > 1 ? 2 : 1;
  const std::vector<std::string> rings(dimensions, "ring");
  const auto peak = c.device.peak.find(job.workload.precision.compute);
  return Json{{"scheduling-policy", "LIFO"},
              {"endpoint-delay", 10},
              {"active-chunks-per-dimension", 1},
              {"preferred-dataset-splits", 4},
              {"all-reduce-implementation", rings},
              {"all-gather-implementation", rings},
              {"reduce-scatter-implementation", rings},
              {"all-to-all-implementation", rings},
              {"collective-optimization", "localBWAware"},
              {"local-mem-bw", static_cast<double>(c.device.memory_bandwidth.value) / 1e9},
              {"peak-perf", peak == c.device.peak.end() ? 0.0 : static_cast<double>(peak->second.value) / 1e12},
              {"roofline-enabled", 0},
              {"boost-mode", 0}}
             .dump(2) +
         "\n";
}

// The analytical network that knows of congestion has one dimension only.
std::string run_file(const topologies::Cluster& c) {
  return fmt::format(
      "#!/bin/bash\n"
      "# ASTRA_SIM is the binary AstraSim_Analytical_Congestion_{}.\n"
      "set -euo pipefail\n"
      "HERE=\"$(cd \"$(dirname \"$0\")\" && pwd)\"\n"
      "\"${{ASTRA_SIM:?}}\" --workload-configuration=\"$HERE/job\" "
      "--comm-group-configuration=\"$HERE/comm_group.json\" \\\n"
      "  --system-configuration=\"$HERE/system.json\" --network-configuration=\"$HERE/network.yml\" \\\n"
      "  --remote-memory-configuration=\"$HERE/memory.json\"\n",
      c.nodes > 1 && c.devices_per_node > 1 ? "Unaware" : "Aware");
}

}  // namespace

std::vector<std::string> export_chakra(const Job& job, const PlanGraph& graph,
                                       const std::function<Time(const OpId&)>& duration,
                                       const std::function<void(const ExportedFile&)>& take) {
  if (const std::int64_t nodes = nodes_of(graph); nodes > kMostChakraNodes) {
    throw InputError(
        fmt::format("{}: {} nodes in the traces of {} ranks; expected at most {}: a smaller global_batch or "
                    "dp says as much",
                    job.origin, nodes, graph.mesh.ranks(), kMostChakraNodes));
  }
  Groups groups;
  for (Rank r = 0; r < graph.mesh.ranks(); ++r) {
    take({fmt::format("job.{}.et", r), RankTrace(job, graph, duration, r, groups).text()});
  }
  take({"comm_group.json", groups.json()});
  take({"network.yml", network_file(job.cluster, graph.mesh.ranks())});
  take({"system.json", system_file(job)});
  take({"memory.json", "{\"memory-type\": \"NO_MEMORY_EXPANSION\"}\n"});
  take({"run.sh", run_file(job.cluster)});
  std::vector<std::string> warnings;
  if (job.cluster.fabric != nullptr) {
    warnings.push_back(
        "cluster.system.fabric: ASTRA-sim's analytical network has no word for it; written are switches "
        "of the links' datasheet rates");
  }
  return warnings;
}

}  // namespace foretrain::plan
