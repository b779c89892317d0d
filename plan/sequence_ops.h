// Ops about places in sequences (plan/ops.h): logits by distance, first tokens.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "plan/mesh.h"
#include "plan/moe_ops.h"

namespace foretrain::plan {

// Logits by distance from a table of buckets (kernels.h): forward: reads {table[heads,buckets]}, writes {bias[heads,
// 2*seq - 1]}; backward_weight: reads {dbias, dtable}, writes {dtable}, +=. bidirectional: keys behind a query have
// buckets of their own. bias in fp32 (fp64 for fp64).
struct RelativeBias {
  Direction direction{};
  std::int64_t heads = 0, seq = 0, buckets = 0, max_distance = 0;
  bool bidirectional = true;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const RelativeBias&, const RelativeBias&) = default;
};

// Of each of `sequences` sequences of `seq` tokens its first. forward: reads {x[rows, hidden]}, writes {y[sequences,
// hidden]}; backward_input: reads {dy}, writes {dx}, 0 for the other tokens. Row t of this rank is token `index in
// row_group * rows + t`; of tokens that are not here y is 0.
struct FirstTokens {
  Direction direction{};
  std::int64_t sequences = 0, seq = 0, rows = 0, hidden = 0;
  GroupId row_group = kNoGroup;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const FirstTokens&, const FirstTokens&) = default;
};

}  // namespace foretrain::plan
