#include "plan/free_blocks.h"

#include <algorithm>
#include <limits>

namespace foretrain::plan {

// Without a branch on what is compared: it is as good as random.
std::size_t FreeBlocks::position(std::int64_t bytes) const {
  const std::int64_t* first = sizes_.data();
  std::size_t n = sizes_.size();
  while (n > 1) {
    const std::size_t half = n / 2;
    first += first[half - 1] < bytes ? half : 0;
    n -= half;
  }
  const auto at = static_cast<std::size_t>(first - sizes_.data());
  return n == 1 && *first < bytes ? at + 1 : at;
}

FreeBlocks::Places::iterator FreeBlocks::find(Places& places, std::int64_t address) {
  if (places.back().address >= address) {
    return places.back().address == address ? places.end() - 1 : places.end();
  }
  return std::lower_bound(places.begin(), places.end(), address,
                          [](const Place& p, std::int64_t a) { return p.address > a; });
}

FreeBlocks::Entry FreeBlocks::first_sorted(std::int64_t bytes) const {
  const std::size_t size = position(bytes);
  if (size == sizes_.size()) {
    return {std::numeric_limits<std::int64_t>::max(), 0, -1};
  }
  const Place& lowest = places_[lists_[size]].back();
  return {sizes_[size], lowest.address, lowest.block};
}

void FreeBlocks::drop(std::size_t size) {
  unused_.push_back(lists_[size]);
  lists_.erase(lists_.begin() + static_cast<std::ptrdiff_t>(size));
  sizes_.erase(sizes_.begin() + static_cast<std::ptrdiff_t>(size));
}

void FreeBlocks::sort_in(const Entry& entry) {
  const std::size_t size = position(entry.bytes);
  if (size < sizes_.size() && sizes_[size] == entry.bytes) {
    Places& places = places_[lists_[size]];
    places.insert(find(places, entry.address), {entry.address, entry.block});
    return;
  }
  if (unused_.empty()) {
    unused_.push_back(places_.size());
    places_.emplace_back();
  }
  sizes_.insert(sizes_.begin() + static_cast<std::ptrdiff_t>(size), entry.bytes);
  lists_.insert(lists_.begin() + static_cast<std::ptrdiff_t>(size), unused_.back());
  places_[unused_.back()].push_back({entry.address, entry.block});
  unused_.pop_back();
}

void FreeBlocks::erase_sorted(std::int64_t bytes, std::int64_t address) {
  const std::size_t size = position(bytes);
  Places& places = places_[lists_[size]];
  places.erase(find(places, address));
  if (places.empty()) {
    drop(size);
  }
}

}  // namespace foretrain::plan
