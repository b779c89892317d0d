// The arithmetic and the copies of an operation whose members' buffers all lie in one address space, cut into one share
// per member. Shares write disjoint ranges and read what no other share writes, so that they may run in any order and
// at once.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "kernels/launchers.h"
#include "plan/ops.h"

namespace foretrain::exec {

struct SharedOperation {
  bool is_message = false;  // members: sender, receiver
  plan::CollectiveKind kind{};
  plan::Reduction reduction = plan::Reduction::sum;
  Dtype dtype = Dtype::fp32;
  std::int64_t elements = 0;
  int root = -1;                // of broadcast, gather, distribute
  std::vector<const void*> in;  // by member
  std::vector<void*> out;
  std::int64_t row = 0;                 // of a counted all_to_all
  std::vector<const std::int32_t*> to;  // by member: how many rows it sends to each
};

// Does member `index`'s share:
//   all_reduce      its part of all outputs, sums taken in member order (parts are cut at cache lines)
//   reduce_scatter  its own output
//   all_gather, broadcast, all_to_all   its own output, read from the others' inputs
//   gather          its own part into the root's output; the root has no share
//   distribute      its own output from the root's input; the root has no share
//   message         the receiver's copy; the sender has no share
void do_share(const kernels::Launchers& launch, const SharedOperation& operation, int index);

// Which of the gathered parts is a member's.
constexpr int part_of(int member, int root) {
  return member < root ? member : member - 1;
}

// The part of an all_reduce that member `index` of `members` reduces.
struct ElementRange {
  std::int64_t begin = 0, end = 0;
};
ElementRange all_reduce_part(std::int64_t elements, Dtype dtype, int index, int members);

// out[0, n) and all copies = the sum or maximum over the sources, taken in their order; out and the copies may be
// sources. Maxima are this processor's alone.
void reduce_in_order(const kernels::Launchers& launch, plan::Reduction reduction,
                     const std::vector<kernels::ConstTensor>& sources, kernels::Tensor out,
                     const std::vector<kernels::Tensor>& copies, std::int64_t n);

}  // namespace foretrain::exec
