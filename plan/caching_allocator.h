// PyTorch's caching allocator without memory: the same requests and releases, and how much it would hold of a device.
//
// Rules and figures of c10/cuda/CUDACachingAllocator.cpp (PyTorch 1.8 to 2.10; one stream, no max_split_size):
//  - A request is rounded up to 512 B. Up to 1 MiB it goes to the small pool, else to the large one.
//  - It takes the smallest free block of the pool that holds it, of equals the one at the lowest address; what is left
//    of the block stays free where it is 512 B or more (small pool) or more than 1 MiB (large pool).
//  - Without such a block a segment is taken from the device: 2 MiB for the small pool, 20 MiB for requests below
//    10 MiB, else the request rounded up to 2 MiB.
//  - A released block joins its free neighbours in the segment. Segments are kept, until the device has no room for the
//    next one: then all that are free from end to end go back to the device. Where even that is not enough, the program
//    ends; this one notes what it would have taken and goes on.
//  - Expandable segments: each pool is one segment that grows at its end by 2 MiB (small) or 20 MiB (large) at a time,
//    and every rest of 512 B or more stays free.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "plan/free_blocks.h"

namespace foretrain::plan {

class CachingAllocator {
 public:
  using Handle = std::int32_t;

  static constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

  // `limit`: what the device has room for.
  explicit CachingAllocator(bool expandable_segments = false, std::int64_t limit = kNoLimit)
      : expandable_(expandable_segments), limit_(limit) {}

  // -1, and nothing changes, where it would go beyond the limit and is to stop there. REQUIRES: bytes > 0.
  Handle allocate(std::int64_t bytes);
  // Instead of giving segments back.
  void stop_at_limit(bool stops) { stops_ = stops; }
  void lift_limit() { limit_ = kNoLimit; }
  // REQUIRES: a handle of allocate() that was not released.
  void release(Handle handle);
  // Segments that are free from end to end go back to the device, as torch.cuda.empty_cache() has it.
  void empty_cache();

  // Bytes handed out, rounded as above, and bytes of all segments; never less than allocated.
  std::int64_t allocated() const { return allocated_; }
  std::int64_t reserved() const { return reserved_; }
  std::int64_t peak_allocated() const { return peak_allocated_; }
  std::int64_t peak_reserved() const { return peak_reserved_; }
  // Segments went back to the device for want of room; more than `limit` was held nevertheless.
  bool gave_back() const { return gave_back_; }
  bool ran_out() const { return peak_reserved_ > limit_; }

 private:
  // Addresses only order blocks: each segment begins behind the one before it.
  struct Block {
    std::int64_t address = 0, bytes = 0;
    Handle previous = -1, next = -1;  // neighbours in the segment
    std::uint8_t pool = 0;
    bool free = false;
  };
  Handle new_block();  // of no content yet
  // What the device has to give for such a block.
  std::int64_t wanted(std::uint8_t pool, std::int64_t bytes) const;
  Handle take_segment(std::uint8_t pool, std::int64_t bytes);
  Handle grow(std::uint8_t pool, std::int64_t more);
  void list(Handle handle);  // as free
  void unlist(Handle handle);
  void absorb_next(Handle handle);
  void reserve(std::int64_t bytes);
  Handle split(Handle handle, std::int64_t bytes);

  bool expandable_;
  std::int64_t limit_;
  bool stops_ = false, gave_back_ = false;
  std::vector<Block> blocks_;
  std::vector<Handle> unused_;                      // entries of blocks_
  std::array<FreeBlocks, 2> free_;                  // by pool
  std::array<Handle, 2> tail_{-1, -1};              // last blocks of expandable segments
  std::array<std::int64_t, 2> next_address_{0, 0};  // by pool; pools never share a segment
  std::int64_t allocated_ = 0, reserved_ = 0, peak_allocated_ = 0, peak_reserved_ = 0;
};

}  // namespace foretrain::plan
