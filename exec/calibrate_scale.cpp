#include "exec/calibrate_scale.h"

#include <algorithm>

#include "exec/gpu.h"
#include "topologies/this_machine.h"

namespace foretrain::exec {

namespace {

constexpr std::int64_t kKiB = 1024, kMiB = 1024 * kKiB;

constexpr std::int64_t power(int exponent) {
  return std::int64_t{1} << exponent;
}

}  // namespace

CalibrateScale scale_of_cores(int cores) {
  CalibrateScale s;
  s.matmul = {{Dtype::fp32, 32, 2048, 2, power(27)},
              {Dtype::bf16, 32, 2048, 4, power(29)},
              {Dtype::fp16, 32, 2048, 4, power(29)},
              {Dtype::fp64, 32, 2048, 4, power(25)}};
  s.attention = {{Dtype::fp32, 8, 1024, 128, 2},
                 {Dtype::bf16, 8, 512, 128, 4},
                 {Dtype::fp16, 8, 512, 128, 4},
                 {Dtype::fp64, 8, 512, 128, 4}};
  s.memory = {Dtype::fp32, Dtype::bf16, Dtype::fp16, Dtype::fp64};
  s.heads = 4;
  s.most_scores = power(22);
  s.least_tokens = 256;
  s.width = 256;  // a small model's
  s.vocabulary = 256;
  s.smallest_memory = 2 * kKiB;
  s.largest_memory = 32 * kMiB;
  s.pool = Bytes{64 * kMiB};
  s.small_pool = Bytes{16 * kMiB};
  const topologies::CacheSizes caches = topologies::cache_sizes();
  s.ops_pool = Bytes{std::clamp(2 * (caches.own + caches.shared).value, s.pool.value, 4 * s.pool.value)};
  s.most_cached = 8 * kMiB;
  for (const int ranks : {2, 3, 4, 6, 8}) {
    if (ranks <= 2 * cores) {
      s.ranks.push_back(ranks);
    }
  }
  s.work_extent = 192;  // half a millisecond or less: ranks that begin it together end it some ten microseconds apart
  s.sharing_extent = 384;
  s.smallest_sharing = 64 * kKiB;
  s.sharing_flops = 1e9;  // several slices of the system's scheduler
  s.sharing_bytes = 256e6;
  return s;
}

CalibrateScale scale_of_gpu(const Gpu& gpu) {
  CalibrateScale s;
  s.matmul = {{Dtype::bf16, 64, 16384, 2, power(37)},
              {Dtype::tf32, 64, 16384, 4, power(36)},
              {Dtype::fp32, 64, 16384, 4, power(34)},
              {Dtype::fp64, 64, 4096, 4, power(32)}};
  s.attention = {{Dtype::bf16, 32, 8192, 256, 2}, {Dtype::fp32, 32, 2048, 128, 4}, {Dtype::fp64, 32, 512, 128, 4}};
  s.memory = {Dtype::fp32, Dtype::bf16, Dtype::fp64};
  s.heads = 64;
  s.most_scores = power(26);
  s.width = 1024;
  s.vocabulary = 32768;
  s.smallest_memory = 64 * kKiB;
  s.largest_memory = 256 * kMiB;
  // The two pools of each of eight ranks take no more than half of what is free.
  const std::int64_t most = gpu.free_memory().value / 32;
  s.pool = Bytes{std::min(256 * kMiB, most)};
  s.small_pool = Bytes{std::min(64 * kMiB, most)};
  s.ops_pool = Bytes{std::min(512 * kMiB, 8 * most)};
  s.largest_memory = std::min(s.largest_memory, s.ops_pool.value / 2);
  s.most_cached = gpu.cache().value / 2;
  s.ranks = {2, 4, 8};
  s.work_extent = 1024;
  s.sharing_extent = 2048;
  s.smallest_sharing = kMiB;
  s.sharing_flops = 2e11;
  s.sharing_bytes = 4e9;
  s.has_launches = true;
  return s;
}

}  // namespace foretrain::exec
