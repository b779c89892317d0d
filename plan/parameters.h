// Which tensors lie where in a bucket of parameters.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "plan/graph.h"

namespace foretrain::plan {

// A contiguous run of one tensor's local elements inside one shard of a bucket. Runs end at slice boundaries.
struct Piece {
  const Parameter* parameter = nullptr;
  const Slice* slice = nullptr;
  std::int32_t layer = 0;         // role-local; 0 for a family without layers
  std::int64_t bucket_begin = 0;  // elements from the start of the bucket
  std::int64_t local_begin = 0;   // elements from the start of the local tensor
  std::int64_t elements = 0;
};

// Calls fn for each piece of part `shard` of `shards` equal parts of the bucket, in order of bucket_begin, as the rank
// with index `slice_index` in the family's slice_group holds it. `first_copy`: of the family's layers, where
// the bucket begins. Padding belongs to no piece.
void for_each_piece(const Role& role, const Bucket& bucket, std::int32_t first_copy, std::int64_t shard,
                    std::int64_t shards, int slice_index, const std::function<void(const Piece&)>& fn);

// Number and name of the global tensor that a parameter of a role-local layer is (a part of).
std::int32_t global_tensor(const Role& role, const Parameter& parameter, std::int32_t layer);
std::string global_name(const Role& role, const Parameter& parameter, std::int32_t layer);

// Whether this rank's elements of the piece count in sums over all ranks: not a replica, not a tied copy.
bool is_counted(const Piece& piece);

// Index in the global tensor of element `local` of the local one. REQUIRES: it lies in the slice.
std::int64_t global_index(const Parameter& parameter, const Slice& slice, std::int64_t local);

}  // namespace foretrain::plan
