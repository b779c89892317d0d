// The list of launchers that exist once per instruction set, and what hangs on it: a table of them, and their
// declarations within the namespace of the instruction set being compiled.
#pragma once

#include "kernels/kernels.h"

#define FORETRAIN_KERNELS(X)               \
  X(matmul)                                \
  X(norm_forward)                          \
  X(norm_backward_input)                   \
  X(norm_backward_weight)                  \
  X(head_norm_forward)                     \
  X(head_norm_backward_input)              \
  X(head_norm_backward_weight)             \
  X(activation_forward)                    \
  X(activation_backward)                   \
  X(residual_add)                          \
  X(bias_gradient)                         \
  X(fill)                                  \
  X(cast)                                  \
  X(add)                                   \
  X(sum_in_order)                          \
  X(rotary_forward)                        \
  X(rotary_backward)                       \
  X(attention_forward)                     \
  X(attention_backward)                    \
  X(attention_part_forward)                \
  X(attention_part_backward)               \
  X(attention_rows_forward)                \
  X(attention_rows_backward)               \
  X(attention_merge)                       \
  X(attention_sinks_forward)               \
  X(attention_sinks_backward)              \
  X(attention_scale_mask)                  \
  X(attention_softmax)                     \
  X(attention_scale_mask_softmax)          \
  X(attention_softmax_backward)            \
  X(attention_scale_mask_backward)         \
  X(attention_scale_mask_softmax_backward) \
  X(embedding_forward)                     \
  X(embedding_backward)                    \
  X(cross_entropy_stats)                   \
  X(cross_entropy_combine)                 \
  X(cross_entropy_backward)                \
  X(output_loss_forward)                   \
  X(output_loss_backward)                  \
  X(squared_norm)                          \
  X(optimizer_step)                        \
  X(lamb_update)                           \
  X(lamb_step)                             \
  X(init_normal)                           \
  X(init_uniform)

namespace foretrain::kernels {

struct Table {
#define FORETRAIN_MEMBER(op) decltype(&kernels::op) op;
  FORETRAIN_KERNELS(FORETRAIN_MEMBER)
#undef FORETRAIN_MEMBER
};

namespace x86_64 {
extern const Table kTable;
}
namespace avx2 {
extern const Table kTable;
}
namespace avx512 {
extern const Table kTable;
}

// The table of the chosen instruction set.
const Table& table();

}  // namespace foretrain::kernels
