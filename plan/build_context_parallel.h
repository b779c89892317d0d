// Attention of a layer whose sequences are cut over the cp group (plan/sequence_share.h). Used by build_*.cpp only.
//
// ring: keys and values of every rank go round by send and receive while the block at hand is attended to; the partial
//   outputs are merged at the end. Backward they go round the other way, beginning with the block that came last, which
//   is kept, and the gradients of keys and values follow one step behind, so that each ends where it belongs. As
//   TransformerEngine's "p2p" does it (AttnFuncWithCPAndKVP2P), with these differences: outputs are merged by one
//   kernel, and this rank's own keys and values stay beside the last ones, since they lie packed with q.
// all_gather: keys and values of all shares are gathered before attention, and again before its backward; gradients
//   are reduced and scattered (Llama 3, arXiv:2407.21783, section 3.3.2; TransformerEngine's "all_gather",
//   AttnFuncWithCPAndKVAllGather, which has attention windows, too).
// all_to_all: shares of sequences with all heads become whole sequences with a share of the heads, and back (Jacobs et
//   al. 2023, "DeepSpeed Ulysses"). What attention itself is, the caller emits.
#pragma once

#include "plan/layer_emitter.h"

namespace foretrain::plan {

// ring, all_gather: from rotated packed qkv of the share, in t.qkv, to t.context and t.core (its log-sum-exp).
void share_forward(const LayerEmitter& e, Phase phase);
// Writes the gradient of t.qkv.
void share_backward(const LayerEmitter& e, Operand d_context, Operand d_qkv);

// Columns of packed q, k and v, or of one of them.
struct HeadColumns {
  std::int64_t q = 0, k = 0, v = 0;
};
// Of [rows, q + k + v] on a share to [rows * cp, (q + k + v) / cp] of whole sequences, and back. `name` is of the
// message.
void to_whole_sequences(const LayerEmitter& e, Phase phase, Operand share, Operand whole, HeadColumns cols,
                        const std::string& name);
void to_shares(const LayerEmitter& e, Phase phase, Operand whole, Operand share, HeadColumns cols,
               const std::string& name);

}  // namespace foretrain::plan
