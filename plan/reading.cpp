#include "plan/reading.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace foretrain::plan {

namespace {

bool is_one_machine(const topologies::Cluster& cluster) {
  return cluster.this_machine && !cluster.is_hosts();
}

const Host* read_by(const Op& op) {
  const auto* const host = std::get_if<Host>(&op.work);
  return host != nullptr && host->bytes > 0 ? host : nullptr;
}

// What a rank of the role reads in a step.
std::int64_t bytes_per_step(const Role& role) {
  std::int64_t bytes = 0;
  for (const Instance& instance : role.program.body) {
    for (const BlockCall& call : role.segments[static_cast<std::size_t>(instance.segment)].calls) {
      for (const Op& op : role.blocks[static_cast<std::size_t>(call.block)].ops) {
        const Host* const host = read_by(op);
        bytes += host != nullptr ? call.count * host->bytes : 0;
      }
    }
  }
  return bytes;
}

struct Node {
  std::int64_t bytes_per_step = 0;
  std::set<std::int32_t> data_ranks;

  // Of all sequences those that its ranks come across, in however many epochs.
  double sequences(const PlanGraph& graph) const {
    std::int64_t own = 0;
    for (const std::int32_t r : data_ranks) {
      own += graph.microbatches_of.empty() ? graph.microbatches : graph.microbatches_of[static_cast<std::size_t>(r)];
    }
    const double share = static_cast<double>(own) / static_cast<double>(graph.all_microbatches());
    return static_cast<double>(graph.data.sequences) * (graph.data.stays ? share : 1);
  }
  double kept(const PlanGraph& graph) const {
    return graph.data.kept == 0 ? 0 : std::min(1.0, static_cast<double>(graph.data.kept) / sequences(graph));
  }
};

// Those with ranks that read.
std::map<std::int64_t, Node> reading_nodes(const PlanGraph& graph, const topologies::Cluster& cluster) {
  std::vector<std::int64_t> bytes;
  for (const Role& role : graph.roles) {
    bytes.push_back(bytes_per_step(role));
  }
  std::map<std::int64_t, Node> nodes;
  for (Rank r = 0; r < graph.mesh.ranks(); ++r) {
    const auto role = static_cast<std::size_t>(role_of(graph, r));
    if (bytes[role] > 0) {
      Node& node = nodes[is_one_machine(cluster) ? 0 : r / cluster.devices_per_node];
      node.bytes_per_step += bytes[role];
      node.data_ranks.merge(data_ranks_read(graph, r));
    }
  }
  return nodes;
}

}  // namespace

const Host* reading_op(const Role& role) {
  for (const Block& block : role.blocks) {
    for (const Op& op : block.ops) {
      if (const Host* const host = read_by(op)) {
        return host;
      }
    }
  }
  return nullptr;
}

ReadRate read_rate(const PlanGraph& graph, const topologies::Cluster& cluster) {
  ReadRate rate{cluster.storage.bandwidth, cluster.storage.latency};
  if (graph.data.kept > 0) {
    rate.kept = 1;
    for (const auto& [number, node] : reading_nodes(graph, cluster)) {
      rate.kept = std::min(rate.kept, node.kept(graph));
    }
  }
  if (!rate.is_limited()) {
    return rate;
  }
  std::vector<bool> reads;
  for (const Role& role : graph.roles) {
    reads.push_back(reading_op(role) != nullptr);
  }
  std::map<std::int64_t, std::int64_t> readers;  // by storage
  std::int64_t most = 1;
  const bool is_one = cluster.storage.is_shared || is_one_machine(cluster);
  for (Rank r = 0; r < graph.mesh.ranks(); ++r) {
    if (reads[static_cast<std::size_t>(role_of(graph, r))]) {
      most = std::max(most, ++readers[is_one ? 0 : r / cluster.devices_per_node]);
    }
  }
  rate.bandwidth.value /= static_cast<double>(most);
  return rate;
}

std::set<std::int32_t> data_ranks_read(const PlanGraph& graph, Rank r) {
  std::set<std::int32_t> of;
  for (const Block& block : graph.roles[static_cast<std::size_t>(role_of(graph, r))].blocks) {
    for (const Op& op : block.ops) {
      if (const Host* const host = read_by(op)) {
        of.insert(graph.mesh.coordinates(host->for_rank >= 0 ? host->for_rank : r)[static_cast<std::size_t>(Axis::dp)]);
      }
    }
  }
  return of;
}

Bytes step_reads(const PlanGraph& graph) {
  Bytes all;
  for (const Role& role : graph.roles) {
    all += Bytes{bytes_per_step(role) * count(graph.mesh, role.ranks)};
  }
  return all;
}

EpochReads epoch_reads(const PlanGraph& graph, const topologies::Cluster& cluster) {
  const double steps = static_cast<double>(graph.data.per_epoch) / static_cast<double>(graph.sequences_per_step);
  double all = 0, kept = 0, cache = 0;
  for (const auto& [number, node] : reading_nodes(graph, cluster)) {
    const double bytes = steps * static_cast<double>(node.bytes_per_step);
    all += bytes;
    kept += node.kept(graph) * bytes;
    cache = std::max(cache, std::min(static_cast<double>(graph.data.kept), std::round(node.sequences(graph))));
  }
  return {Bytes{std::llround(all)}, Bytes{std::llround(kept)},
          Bytes{std::llround(cache) * graph.data.bytes_per_sequence}};
}

Time Arrivals::ask(Time now, Time transfer, Time latency) {
  Time& thread = *std::min_element(free_.begin(), free_.end());
  thread = std::max(now, thread);
  if (transfer + latency > Time{}) {
    storage_free_ = std::max(thread, storage_free_) + transfer;
    thread = storage_free_ + latency;
  }
  return thread;
}

Reads::Reads(const Host& op, const ReadRate& rate)
    : transfer_(rate.transfer(Bytes{std::llround(static_cast<double>(op.bytes) * (1 - rate.kept))})),
      latency_(std::llround(static_cast<double>(rate.latency.value) *
                            (1 - std::pow(rate.kept, static_cast<double>(std::max<std::int64_t>(1, op.sequences)))))),
      arrivals_(op.loaders),
      arrival_(static_cast<std::size_t>(op.prefetch) + 1),
      prefetch_(static_cast<std::size_t>(op.prefetch)) {
  while (asked_ < prefetch_) {
    ask({});
  }
}

Time Reads::take(Time now) {
  if (arrival_.empty()) {
    return now;
  }
  if (asked_ == taken_) {
    ask(now);
  }
  const Time there = std::max(now, arrival_[taken_++ % arrival_.size()]);
  while (asked_ < taken_ + prefetch_) {
    ask(there);
  }
  return there;
}

}  // namespace foretrain::plan
