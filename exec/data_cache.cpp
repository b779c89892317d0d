#include "exec/data_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "plan/reading.h"

namespace foretrain::exec {

namespace {

constexpr std::uint32_t kNothing = 0, kIsWritten = 1, kIsThere = 2;
constexpr std::size_t kLine = 64;

std::size_t in_lines(std::size_t bytes) {
  return (bytes + kLine - 1) / kLine * kLine;
}

bool has_samples(const plan::PlanGraph& graph) {
  return std::any_of(graph.roles.begin(), graph.roles.end(), [](const plan::Role& role) {
    const plan::Host* const op = plan::reading_op(role);
    return op != nullptr && op->cols > 0;
  });
}

// What a sequence takes: as much as of storage, or what it is, if that is more.
std::size_t bytes_of_each(const plan::PlanGraph& graph, const DataSource& data) {
  std::size_t bytes = 0;
  if (has_samples(graph)) {
    const Sample sample = data.sample(0, 0);
    bytes = (sample.features.size() + sample.labels.size()) * sizeof(double);
  } else {
    bytes = static_cast<std::size_t>(graph.seq_len + 1) * sizeof(std::int32_t);
  }
  return in_lines(std::max(bytes, static_cast<std::size_t>(graph.data.bytes_per_sequence)));
}

// Of those kept at most: no more than there are.
std::size_t most_of(const plan::PlanGraph& graph) {
  return static_cast<std::size_t>(std::min(graph.data.kept, graph.data.sequences));
}

std::size_t bytes_of_states(std::size_t most) {
  return in_lines(most * sizeof(std::uint32_t));
}

}  // namespace

Bytes DataCache::size(const plan::PlanGraph& graph, const DataSource& data) {
  const std::size_t most = most_of(graph);
  return most == 0 ? Bytes{}
                   : Bytes{static_cast<std::int64_t>(bytes_of_states(most) + most * bytes_of_each(graph, data))};
}

DataCache::DataCache(const plan::PlanGraph& graph, const DataSource& data, std::vector<std::int32_t> data_ranks,
                     int first_step, std::byte* memory)
    : graph_(graph),
      data_(data),
      data_ranks_(std::move(data_ranks)),
      memory_(memory),
      most_(most_of(graph)),
      first_(bytes_of_states(most_)),
      each_(bytes_of_each(graph, data)),
      next_step_(first_step) {}

// REQUIRES: the mutex is held.
void DataCache::go_to(std::int64_t step) const {
  const std::int64_t together = graph_.sequences_per_step / graph_.all_microbatches();
  for (; next_step_ <= step && kept_.size() < most_; ++next_step_) {
    for (const std::int32_t rank : data_ranks_) {
      const std::int64_t own =
          graph_.microbatches_of.empty() ? graph_.microbatches : graph_.microbatches_of[static_cast<std::size_t>(rank)];
      for (std::int64_t i = 0; i < own * together; ++i) {
        const auto microbatch = static_cast<std::int32_t>(graph_.microbatches - own + i / together);
        const DataPlace place =
            data_.place(next_step_, graph_.microbatches_before(rank, microbatch) * together + i % together);
        if (kept_.size() < most_) {
          kept_.try_emplace(place.item, Kept{kept_.size(), place.epoch});
        }
      }
    }
  }
}

std::optional<DataCache::Kept> DataCache::find(std::int64_t step, std::int64_t index_in_batch) const {
  const std::lock_guard lock(mutex_);
  go_to(step);
  const auto found = kept_.find(data_.place(step, index_in_batch).item);
  return found == kept_.end() ? std::nullopt : std::optional(found->second);
}

bool DataCache::has(std::int64_t step, std::int64_t index_in_batch) const {
  const std::optional<Kept> kept = find(step, index_in_batch);
  return kept && data_.place(step, index_in_batch).epoch > kept->epoch;
}

template <class Fn>
void DataCache::keep(std::size_t number, const Fn& write) const {
  std::uint32_t expected = kNothing;
  if (state(number).compare_exchange_strong(expected, kIsWritten)) {
    write(content(number));
    state(number).store(kIsThere, std::memory_order_release);
  }
}

void DataCache::sequence(std::int64_t step, std::int64_t index_in_batch, std::int64_t seq_len,
                         std::int32_t* ids) const {
  const std::size_t bytes = static_cast<std::size_t>(seq_len + 1) * sizeof(std::int32_t);
  const std::optional<Kept> kept = find(step, index_in_batch);
  if (kept && state(kept->number).load(std::memory_order_acquire) == kIsThere) {
    std::memcpy(ids, content(kept->number), bytes);
    return;
  }
  data_.sequence(step, index_in_batch, seq_len, ids);
  if (kept) {
    keep(kept->number, [&](std::byte* content) { std::memcpy(content, ids, bytes); });
  }
}

Sample DataCache::sample(std::int64_t step, std::int64_t index_in_batch) const {
  const Sample read = data_.sample(step, index_in_batch);
  const std::optional<Kept> kept = find(step, index_in_batch);
  if (!kept) {
    return read;
  }
  keep(kept->number, [&](std::byte* content) {
    std::memcpy(content, read.features.data(), read.features.size_bytes());
    std::memcpy(content + read.features.size_bytes(), read.labels.data(), read.labels.size_bytes());
  });
  if (state(kept->number).load(std::memory_order_acquire) != kIsThere) {
    return read;
  }
  const auto* const values = reinterpret_cast<const double*>(content(kept->number));
  return {{values, read.features.size()}, {values + read.features.size(), read.labels.size()}};
}

}  // namespace foretrain::exec
