// Free blocks of a memory pool, by size and of one size by address.
//
// Blocks that have just become free are mostly taken first, or grow: the latest two stand in no order and are looked
// through. The others are sorted: sizes are few at a time, blocks of one size may be many, and those that come and go
// are mostly the lowest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace foretrain::plan {

class FreeBlocks {
 public:
  using Handle = std::int32_t;

  void insert(std::int64_t bytes, std::int64_t address, Handle block) {
    if (latest_count_ < kLatest) {
      latest_[latest_count_++] = {bytes, address, block};
      return;
    }
    const Entry oldest = latest_[next_out_];
    latest_[next_out_] = {bytes, address, block};
    next_out_ = (next_out_ + 1) % kLatest;
    sort_in(oldest);
  }
  // REQUIRES: a block that was inserted like this.
  void erase(std::int64_t bytes, std::int64_t address, Handle block) {
    for (std::size_t i = 0; i < latest_count_; ++i) {
      if (latest_[i].block == block) {
        latest_[i] = latest_[--latest_count_];
        return;
      }
    }
    erase_sorted(bytes, address);
  }
  // The smallest block of at least `bytes`, of equals that at the lowest address, is no longer here; -1: none.
  Handle take(std::int64_t bytes) {
    const std::size_t size = position(bytes);
    const bool has_sorted = size < sizes_.size();
    Entry found{std::numeric_limits<std::int64_t>::max(), 0, -1};
    if (has_sorted) {
      const Place& lowest = places_[lists_[size]].back();
      found = {sizes_[size], lowest.address, lowest.block};
    }
    std::size_t best = kLatest;
    for (std::size_t i = 0; i < latest_count_; ++i) {
      const Entry& e = latest_[i];
      if (e.bytes >= bytes && (e.bytes < found.bytes || (e.bytes == found.bytes && e.address < found.address))) {
        best = i;
        found = e;
      }
    }
    if (best < kLatest) {
      latest_[best] = latest_[--latest_count_];
    } else if (has_sorted) {
      Places& places = places_[lists_[size]];
      places.pop_back();
      if (places.empty()) {
        drop(size);
      }
    }
    return found.block;
  }
  // Erases the blocks of which `is_gone(block)`, asked once for each.
  template <class F>
  void erase_if(F&& is_gone);

 private:
  struct Entry {
    std::int64_t bytes = 0, address = 0;
    Handle block = -1;
  };
  struct Place {
    std::int64_t address = 0;
    Handle block = -1;
  };
  using Places = std::vector<Place>;  // addresses descending
  static constexpr std::size_t kLatest = 2;

  // The size that is not below `bytes`: where it stands, or would stand. Without a branch on what is compared: it is as
  // good as random.
  std::size_t position(std::int64_t bytes) const {
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
  static Places::iterator find(Places& places, std::int64_t address);
  void sort_in(const Entry& entry);
  void erase_sorted(std::int64_t bytes, std::int64_t address);
  void drop(std::size_t size);  // that has no block left

  std::array<Entry, kLatest> latest_;
  std::size_t latest_count_ = 0, next_out_ = 0;
  std::vector<std::int64_t> sizes_;  // ascending; each has a block
  std::vector<std::size_t> lists_;   // of each size, in places_
  std::vector<Places> places_;
  std::vector<std::size_t> unused_;  // of places_, kept for what they have reserved
};

template <class F>
void FreeBlocks::erase_if(F&& is_gone) {
  for (std::size_t i = 0; i < latest_count_; ++i) {
    sort_in(latest_[i]);
  }
  latest_count_ = 0;
  for (std::size_t size = 0; size < sizes_.size();) {
    Places& places = places_[lists_[size]];
    std::erase_if(places, [&](const Place& p) { return is_gone(p.block); });
    if (places.empty()) {
      drop(size);
    } else {
      ++size;
    }
  }
}

}  // namespace foretrain::plan
