#include "plan/caching_allocator.h"

#include <algorithm>

#include "base/error.h"

namespace foretrain::plan {

namespace {

constexpr std::int64_t kMiB = 1024 * 1024;
constexpr std::int64_t kSmallestBlock = 512, kLargestSmall = kMiB;
constexpr std::int64_t kSmallSegment = 2 * kMiB, kLargeSegment = 20 * kMiB;
constexpr std::int64_t kOwnSegment = 10 * kMiB;  // requests from here on get a segment of their own size
constexpr std::int64_t kSegmentUnit = 2 * kMiB;
constexpr std::uint8_t kSmallPool = 0, kLargePool = 1;

constexpr std::int64_t round_up(std::int64_t bytes, std::int64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

std::int64_t segment_bytes(std::int64_t bytes) {
  return bytes <= kLargestSmall ? kSmallSegment : bytes < kOwnSegment ? kLargeSegment : round_up(bytes, kSegmentUnit);
}

}  // namespace

CachingAllocator::Handle CachingAllocator::new_block(const Block& block) {
  if (unused_.empty()) {
    blocks_.push_back(block);
    return static_cast<Handle>(blocks_.size() - 1);
  }
  const Handle handle = unused_.back();
  unused_.pop_back();
  blocks_[static_cast<std::size_t>(handle)] = block;
  return handle;
}

CachingAllocator::Key CachingAllocator::key_of(Handle handle) const {
  const Block& b = blocks_[static_cast<std::size_t>(handle)];
  return {b.bytes, b.address, handle};
}

void CachingAllocator::list(Handle handle) {
  Block& b = blocks_[static_cast<std::size_t>(handle)];
  b.free = true;
  std::vector<Key>& pool = free_[b.pool];
  const Key key = key_of(handle);
  pool.insert(std::lower_bound(pool.begin(), pool.end(), key), key);
}

void CachingAllocator::unlist(Handle handle) {
  Block& b = blocks_[static_cast<std::size_t>(handle)];
  b.free = false;
  std::vector<Key>& pool = free_[b.pool];
  pool.erase(std::lower_bound(pool.begin(), pool.end(), key_of(handle)));
}

// In place of a smaller block, of which it has become: those between the two move by one.
void CachingAllocator::list_grown(const Key& before, Handle handle) {
  Block& b = blocks_[static_cast<std::size_t>(handle)];
  b.free = true;
  std::vector<Key>& pool = free_[b.pool];
  const Key key = key_of(handle);
  const auto from = std::lower_bound(pool.begin(), pool.end(), before);
  const auto to = std::lower_bound(from + 1, pool.end(), key);
  std::copy(from + 1, to, from);
  *(to - 1) = key;
}

// The next block's bytes become this one's. Neither may be listed as free.
void CachingAllocator::absorb_next(Handle handle) {
  Block& b = blocks_[static_cast<std::size_t>(handle)];
  const Handle gone = b.next;
  const Block& next = blocks_[static_cast<std::size_t>(gone)];
  b.bytes += next.bytes;
  b.next = next.next;
  if (b.next >= 0) {
    blocks_[static_cast<std::size_t>(b.next)].previous = handle;
  }
  if (tail_[b.pool] == gone) {
    tail_[b.pool] = handle;
  }
  unused_.push_back(gone);
}

// Keeps `bytes` of a block that is not listed as free; the rest becomes a block behind it, which is not yet, either.
CachingAllocator::Handle CachingAllocator::split(Handle handle, std::int64_t bytes) {
  Block b = blocks_[static_cast<std::size_t>(handle)];
  const Handle rest = new_block({b.address + bytes, b.bytes - bytes, handle, b.next, b.pool, false});
  if (b.next >= 0) {
    blocks_[static_cast<std::size_t>(b.next)].previous = rest;
  }
  if (tail_[b.pool] == handle) {
    tail_[b.pool] = rest;
  }
  b.bytes = bytes;
  b.next = rest;
  blocks_[static_cast<std::size_t>(handle)] = b;
  return rest;
}

// Such a segment is one free block.
void CachingAllocator::empty_cache() {
  for (std::vector<Key>& pool : free_) {
    std::erase_if(pool, [&](const Key& key) {
      const Block& b = blocks_[static_cast<std::size_t>(key.block)];
      if (b.previous >= 0 || b.next >= 0) {
        return false;
      }
      reserved_ -= b.bytes;
      if (tail_[b.pool] == key.block) {
        tail_[b.pool] = -1;
      }
      unused_.push_back(key.block);
      return true;
    });
  }
}

void CachingAllocator::reserve(std::int64_t bytes) {
  if (bytes > limit_ - reserved_) {
    const std::int64_t before = reserved_;
    empty_cache();
    gave_back_ |= reserved_ < before;
  }
  reserved_ += bytes;
  peak_reserved_ = std::max(peak_reserved_, reserved_);
}

CachingAllocator::Handle CachingAllocator::take_segment(std::uint8_t pool, std::int64_t bytes) {
  reserve(bytes);
  const Handle handle = new_block({next_address_[pool], bytes, -1, -1, pool, false});
  next_address_[pool] += bytes;
  return handle;
}

// Makes the end of the pool's only segment hold `bytes`.
CachingAllocator::Handle CachingAllocator::grow(std::uint8_t pool, std::int64_t bytes) {
  const std::int64_t unit = pool == kSmallPool ? kSmallSegment : kLargeSegment;
  const Handle end = tail_[pool];
  const bool joins = end >= 0 && blocks_[static_cast<std::size_t>(end)].free;
  if (joins) {
    unlist(end);  // nor is it given back
  }
  const std::int64_t more = round_up(bytes - (joins ? blocks_[static_cast<std::size_t>(end)].bytes : 0), unit);
  reserve(more);
  next_address_[pool] += more;
  if (joins) {
    blocks_[static_cast<std::size_t>(end)].bytes += more;
    return end;
  }
  const Handle handle = new_block({next_address_[pool] - more, more, tail_[pool], -1, pool, false});
  if (tail_[pool] >= 0) {
    blocks_[static_cast<std::size_t>(tail_[pool])].next = handle;
  }
  tail_[pool] = handle;
  return handle;
}

CachingAllocator::Handle CachingAllocator::allocate(std::int64_t bytes) {
  CHECK(bytes > 0, "a request of {} bytes", bytes);
  const std::int64_t rounded = round_up(bytes, kSmallestBlock);
  const std::uint8_t pool = rounded <= kLargestSmall ? kSmallPool : kLargePool;
  const auto leaves_rest = [&](std::int64_t rest) {
    return pool == kSmallPool || expandable_ ? rest >= kSmallestBlock : rest > kLargestSmall;
  };
  std::vector<Key>& free = free_[pool];
  const auto found = std::lower_bound(free.begin(), free.end(), Key{rounded, 0, -1});
  Handle handle = -1;
  if (found == free.end()) {
    handle = expandable_ ? grow(pool, rounded) : take_segment(pool, segment_bytes(rounded));
    if (leaves_rest(blocks_[static_cast<std::size_t>(handle)].bytes - rounded)) {
      list(split(handle, rounded));
    }
  } else {
    handle = found->block;
    blocks_[static_cast<std::size_t>(handle)].free = false;
    if (leaves_rest(found->bytes - rounded)) {  // it comes in its place: those between the two move by one
      const Handle rest = split(handle, rounded);
      blocks_[static_cast<std::size_t>(rest)].free = true;
      const Key key = key_of(rest);
      const auto place = std::lower_bound(free.begin(), found, key);
      std::copy_backward(place, found, found + 1);
      *place = key;
    } else {
      free.erase(found);
    }
  }
  allocated_ += blocks_[static_cast<std::size_t>(handle)].bytes;
  peak_allocated_ = std::max(peak_allocated_, allocated_);
  return handle;
}

void CachingAllocator::release(Handle handle) {
  Block& b = blocks_.at(static_cast<std::size_t>(handle));
  CHECK(!b.free, "block {} is released twice", handle);
  allocated_ -= b.bytes;
  const Handle previous = b.previous;
  const bool joins_previous = previous >= 0 && blocks_[static_cast<std::size_t>(previous)].free;
  const bool joins_next = b.next >= 0 && blocks_[static_cast<std::size_t>(b.next)].free;
  if (!joins_previous && !joins_next) {
    list(handle);
    return;
  }
  const Key before = key_of(joins_previous ? previous : b.next);
  if (joins_next) {
    if (joins_previous) {
      unlist(b.next);
    }
    absorb_next(handle);
  }
  if (joins_previous) {
    absorb_next(previous);
    handle = previous;
  }
  list_grown(before, handle);
}

}  // namespace foretrain::plan
