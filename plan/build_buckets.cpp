// Which gradients are reduced, and which parameters are updated, together.
#include <algorithm>

#include "plan/build_update.h"

namespace foretrain::plan {

namespace {

// A chunk's families, each in one.
std::vector<BucketRange> whole_chunk(const RoleContext& c, std::size_t chunk) {
  std::vector<BucketRange> ranges;
  for (const Family which : c.layer_families()) {
    const std::int32_t list = c.family(which).layer_list, layers = c.chunk_copies(chunk, list);
    if (layers > 0) {
      ranges.push_back(
          {which, layer_of_copy(c.role(), list, copies_before(c.role(), list, c.chunk_first[chunk])), layers});
    }
  }
  return ranges;
}

}  // namespace

bool has_owners(const RoleContext& c) {
  return c.shards_state() && c.job.strategy.zero_kind == ZeroKind::owners;
}

BlockCall call_at(const BucketRange& r, BlockId block) {
  return {block, 1, r.family == kEmbedding || r.family == kHead ? -1 : r.first_layer, 1};
}

Bucket bucket_of(const RoleContext& c, Family f, std::int32_t layers) {
  Bucket b;
  b.elements = c.family(f).elements * layers;
  b.family = f;
  b.layers = layers;
  b.shard_group = c.shard_group(f);
  b.shards = c.shards_of(f);
  return b;
}

Operand own_part(const RoleContext& c, const Bucket& bucket, BufferId buffer) {
  const std::int64_t unit = c.family(static_cast<Family>(bucket.family)).elements;
  const bool is_whole = c.role().buffers[static_cast<std::size_t>(buffer)].elements == unit;
  const std::int64_t part = bucket.elements / bucket.shards;
  if (bucket.shards == 1 || !is_whole) {
    return {buffer, 0, kNoGroup, 0, part, 0};
  }
  return {buffer, 0, bucket.shard_group, 0, part, part};
}

std::vector<BucketRange> all_buckets(RoleContext& c, bool updated) {
  std::vector<BucketRange> all;
  if (c.family(kHead).gradient >= 0) {
    all.push_back({kHead, 0, 1});
  }
  for (int chunk = static_cast<int>(c.chunk_first.size()) - 1; chunk >= 0; --chunk) {
    const auto i = static_cast<std::size_t>(chunk);
    const std::vector<BucketRange> mine = updated && has_owners(c) ? whole_chunk(c, i) : chunk_buckets(c, chunk);
    all.insert(all.end(), mine.begin(), mine.end());
  }
  if (c.family(kEmbedding).gradient >= 0) {
    all.push_back({kEmbedding, 0, 1});
  }
  return all;
}

std::vector<BucketRange> chunk_buckets(const RoleContext& c, int chunk) {
  const auto i = static_cast<std::size_t>(chunk);
  const std::int64_t target = bucket_bytes(c.job).value * 8 / bits(c.type.gradient);
  std::vector<BucketRange> ranges;
  for (const Family which : c.layer_families()) {
    const ParameterFamily& f = c.family(which);
    // Units that are reduced on their own are cut on their own, and so are those that servers share out.
    const auto per_bucket =
        c.use(which).reduces || !c.groups.with_server.empty()
            ? 1
            : static_cast<std::int32_t>(std::max<std::int64_t>(1, target / std::max<std::int64_t>(1, f.elements)));
    const std::int32_t first = copies_before(c.role(), f.layer_list, c.chunk_first[i]);
    for (std::int32_t end = first + c.chunk_copies(i, f.layer_list); end > first;) {
      const std::int32_t layers = std::min(per_bucket, end - first);
      end -= layers;
      ranges.push_back({which, layer_of_copy(c.role(), f.layer_list, end), layers});
    }
  }
  std::stable_sort(ranges.begin(), ranges.end(),
                   [](const BucketRange& a, const BucketRange& b) { return a.first_layer > b.first_layer; });
  return ranges;
}

}  // namespace foretrain::plan
