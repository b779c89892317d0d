// How large what calibrate measures is: the same grids for a core and for a GPU, each as far as it is busy with.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "base/units.h"

namespace foretrain::exec {

class Gpu;

// Of one element type: extents from `smallest` on, each `step` times the last.
struct MatmulRange {
  Dtype dtype = Dtype::fp32;
  std::int64_t smallest = 0, largest = 0, step = 2;
  std::int64_t most_products = 0;  // m n k; larger ones run at the rate of the largest
};
struct AttentionRange {
  Dtype dtype = Dtype::fp32;
  std::int64_t shortest = 0, longest = 0, largest_head = 0, step = 2;  // heads from 32 columns on
};

struct CalibrateScale {
  std::vector<MatmulRange> matmul;
  std::vector<AttentionRange> attention;
  std::vector<Dtype> memory;                             // of memory-bound ops
  std::int64_t heads = 0, most_scores = 0;               // of attention: as many heads as keep heads x seq^2 within it
  std::int64_t least_tokens = 0;                         // of attention: as many sequences as have them
  std::int64_t width = 0;                                // columns of the matrices of memory-bound ops
  std::int64_t vocabulary = 0;                           // of logits
  std::int64_t smallest_memory = 0, largest_memory = 0;  // bytes that memory-bound ops touch
  Bytes pool, small_pool;                                // of a rank's operands: of at most two ranks, of each of more
  Bytes ops_pool;                                        // where ops of one rank are measured: beyond the caches
  std::int64_t most_cached = 0;  // an op runs again on what it has just touched only where that fits the caches
  std::vector<int> ranks;        // that share the device
  std::int64_t work_extent = 0;  // of the square product before a collective or message
  std::int64_t sharing_extent = 0, smallest_sharing = 0;  // of products; bytes that streaming work touches
  double sharing_flops = 0, sharing_bytes = 0;            // that ranks are watched for
  bool has_launches = false;                              // a host hands the device its ops, and copies over a link
};

CalibrateScale scale_of_cores(int cores);
// Of as much as fits beside what is on it.
CalibrateScale scale_of_gpu(const Gpu& gpu);

}  // namespace foretrain::exec
