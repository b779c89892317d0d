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

CachingAllocator::Handle CachingAllocator::new_block() {
  if (unused_.empty()) {
    blocks_.emplace_back();
    return static_cast<Handle>(blocks_.size() - 1);
  }
  const Handle handle = unused_.back();
  unused_.pop_back();
  return handle;
}

void CachingAllocator::list(Handle handle) {
  Block& b = blocks_[static_cast<std::size_t>(handle)];
  b.free = true;
  free_[b.pool].insert(b.bytes, b.address, handle);
}

void CachingAllocator::unlist(Handle handle) {
  Block& b = blocks_[static_cast<std::size_t>(handle)];
  b.free = false;
  free_[b.pool].erase(b.bytes, b.address, handle);
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
  const Handle rest = new_block();
  Block &b = blocks_[static_cast<std::size_t>(handle)], &r = blocks_[static_cast<std::size_t>(rest)];
  r.address = b.address + bytes;
  r.bytes = b.bytes - bytes;
  r.previous = handle;
  r.next = b.next;
  r.pool = b.pool;
  r.free = false;
  if (b.next >= 0) {
    blocks_[static_cast<std::size_t>(b.next)].previous = rest;
  }
  if (tail_[b.pool] == handle) {
    tail_[b.pool] = rest;
  }
  b.bytes = bytes;
  b.next = rest;
  return rest;
}

// Such a segment is one free block.
void CachingAllocator::empty_cache() {
  for (FreeBlocks& pool : free_) {
    pool.erase_if([&](Handle handle) {
      const Block& b = blocks_[static_cast<std::size_t>(handle)];
      if (b.previous >= 0 || b.next >= 0) {
        return false;
      }
      reserved_ -= b.bytes;
      if (tail_[b.pool] == handle) {
        tail_[b.pool] = -1;
      }
      unused_.push_back(handle);
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
  const Handle handle = new_block();
  blocks_[static_cast<std::size_t>(handle)] = {next_address_[pool], bytes, -1, -1, pool, false};
  next_address_[pool] += bytes;
  return handle;
}

std::int64_t CachingAllocator::wanted(std::uint8_t pool, std::int64_t bytes) const {
  if (!expandable_) {
    return segment_bytes(bytes);
  }
  const bool joins = tail_[pool] >= 0 && blocks_[static_cast<std::size_t>(tail_[pool])].free;
  return round_up(bytes - (joins ? blocks_[static_cast<std::size_t>(tail_[pool])].bytes : 0),
                  pool == kSmallPool ? kSmallSegment : kLargeSegment);
}

// The end of the pool's only segment, so much longer.
CachingAllocator::Handle CachingAllocator::grow(std::uint8_t pool, std::int64_t more) {
  const Handle end = tail_[pool];
  const bool joins = end >= 0 && blocks_[static_cast<std::size_t>(end)].free;
  if (joins) {
    unlist(end);  // nor is it given back
  }
  reserve(more);
  next_address_[pool] += more;
  if (joins) {
    blocks_[static_cast<std::size_t>(end)].bytes += more;
    return end;
  }
  const Handle handle = new_block();
  blocks_[static_cast<std::size_t>(handle)] = {next_address_[pool] - more, more, tail_[pool], -1, pool, false};
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
  Handle handle = free_[pool].take(rounded);
  if (handle >= 0) {
    blocks_[static_cast<std::size_t>(handle)].free = false;
  } else {
    const std::int64_t more = wanted(pool, rounded);
    if (stops_ && more > limit_ - reserved_) {
      return -1;
    }
    handle = expandable_ ? grow(pool, more) : take_segment(pool, more);
  }
  if (leaves_rest(blocks_[static_cast<std::size_t>(handle)].bytes - rounded)) {
    list(split(handle, rounded));
  }
  allocated_ += blocks_[static_cast<std::size_t>(handle)].bytes;
  peak_allocated_ = std::max(peak_allocated_, allocated_);
  return handle;
}

void CachingAllocator::release(Handle handle) {
  Block& b = blocks_.at(static_cast<std::size_t>(handle));
  CHECK(!b.free, "block {} is released twice", handle);
  allocated_ -= b.bytes;
  if (b.next >= 0 && blocks_[static_cast<std::size_t>(b.next)].free) {
    unlist(b.next);
    absorb_next(handle);
  }
  if (const Handle previous = b.previous; previous >= 0 && blocks_[static_cast<std::size_t>(previous)].free) {
    unlist(previous);
    absorb_next(previous);
    handle = previous;
  }
  list(handle);
}

}  // namespace foretrain::plan
