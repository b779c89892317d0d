#include "plan/parameters.h"

#include <algorithm>

#include "base/error.h"

namespace foretrain::plan {

void for_each_piece(const Role& role, const Bucket& bucket, std::int32_t first_copy, std::int64_t shard,
                    std::int64_t shards, int slice_index, const std::function<void(const Piece&)>& fn) {
  const ParameterFamily& family = role.parameter_families[static_cast<std::size_t>(bucket.family)];
  CHECK(bucket.elements % shards == 0, "role {}: a bucket of {} elements in {} shards", role.name, bucket.elements,
        shards);
  CHECK(bucket.elements == family.elements * bucket.layers, "role {}: a bucket of {} elements over {} layers of {}",
        role.name, bucket.elements, bucket.layers, family.elements);
  const std::int64_t part = bucket.elements / shards;
  const std::int64_t begin = shard * part, end = begin + part;
  for (std::int32_t l = 0; l < bucket.layers; ++l) {
    const std::int64_t origin = l * family.elements;
    if (origin >= end || origin + family.elements <= begin) {
      continue;
    }
    const std::int32_t layer = family.layers == 0 ? 0 : layer_of_copy(role, family.layer_list, first_copy + l);
    for (const Parameter& p : family.parameters) {
      for (const Slice& s : p.slices[static_cast<std::size_t>(slice_index)]) {
        const std::int64_t tensor = origin + p.offset;
        const std::int64_t from = std::max(begin, tensor + s.local_row * p.cols);
        const std::int64_t to = std::min(end, tensor + (s.local_row + s.rows) * p.cols);
        if (from < to) {
          fn({&p, &s, layer, from, from - tensor, to - from});
        }
      }
    }
  }
}

std::int32_t global_tensor(const Role& role, const Parameter& parameter, std::int32_t layer) {
  if (parameter.tensor_stride == 0) {
    return parameter.first_tensor;
  }
  return parameter.first_tensor + role.global_layer[static_cast<std::size_t>(layer)] * parameter.tensor_stride;
}

std::string global_name(const Role& role, const Parameter& parameter, std::int32_t layer) {
  std::string name = parameter.name;
  const std::size_t place = name.find("{}");
  if (place != std::string::npos) {
    name.replace(place, 2, std::to_string(role.global_layer[static_cast<std::size_t>(layer)]));
  }
  return name;
}

bool is_counted(const Piece& piece) {
  return piece.parameter->counted && piece.slice->replica == 0;
}

std::int64_t global_index(const Parameter& parameter, const Slice& slice, std::int64_t local) {
  const std::int64_t row = local / parameter.cols - slice.local_row + slice.global_row;
  return row * parameter.global_cols + slice.global_col + local % parameter.cols;
}

}  // namespace foretrain::plan
