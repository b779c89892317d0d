#include "plan/free_blocks.h"

#include <algorithm>

namespace foretrain::plan {

FreeBlocks::Places::iterator FreeBlocks::find(Places& places, std::int64_t address) {
  if (places.back().address >= address) {
    return places.back().address == address ? places.end() - 1 : places.end();
  }
  return std::lower_bound(places.begin(), places.end(), address,
                          [](const Place& p, std::int64_t a) { return p.address > a; });
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
