#include "plan/reading.h"

#include <algorithm>
#include <map>

namespace foretrain::plan {

const Host* reading_op(const Role& role) {
  for (const Block& block : role.blocks) {
    for (const Op& op : block.ops) {
      if (const auto* const host = std::get_if<Host>(&op.work); host != nullptr && host->bytes > 0) {
        return host;
      }
    }
  }
  return nullptr;
}

ReadRate read_rate(const PlanGraph& graph, const topologies::Cluster& cluster) {
  ReadRate rate{cluster.storage.bandwidth, cluster.storage.latency};
  if (!rate.is_limited()) {
    return rate;
  }
  std::vector<bool> reads;
  for (const Role& role : graph.roles) {
    reads.push_back(reading_op(role) != nullptr);
  }
  std::map<std::int64_t, std::int64_t> readers;  // by storage
  std::int64_t most = 1;
  const bool is_one = cluster.storage.is_shared || (cluster.this_machine && !cluster.is_hosts());
  for (Rank r = 0; r < graph.mesh.ranks(); ++r) {
    if (reads[static_cast<std::size_t>(role_of(graph, r))]) {
      most = std::max(most, ++readers[is_one ? 0 : r / cluster.devices_per_node]);
    }
  }
  rate.bandwidth.value /= static_cast<double>(most);
  return rate;
}

Arrivals::Arrivals(const Host& op, const ReadRate& rate)
    : transfer_(rate.transfer(Bytes{op.bytes})), latency_(rate.latency), free_(static_cast<std::size_t>(op.loaders)) {}

Time Arrivals::ask(Time now) {
  Time& thread = *std::min_element(free_.begin(), free_.end());
  storage_free_ = std::max({now, thread, storage_free_}) + transfer_;
  thread = storage_free_ + latency_;
  return thread;
}

Reads::Reads(const Host& op, const ReadRate& rate)
    : arrivals_(op, rate),
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
