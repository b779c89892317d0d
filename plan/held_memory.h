// What a framework holds of a plan: the tensors of a step in the order in which they come and go, through PyTorch's
// caching allocator.
//
// The arena of plan/memory.h has room for every microbatch in flight at once; a framework asks for each tensor when an
// op first writes it and gives it back after the last op that reads it. The replay goes over the ops in program order:
//  - parameters tensor by tensor, gradients and master weights come before the first step; the optimizer's moments with
//    the first update, as torch.optim and Megatron make them; all of these stay;
//  - an activation lives from its first use in a microbatch to its last, per layer; temporaries within a segment's walk
//    or a layer;
//  - two steps: the second finds the segments that the first has left behind.
// Of many microbatches those that fill the pipeline, two more, and the last are replayed: the ones between repeat them.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>

#include "plan/caching_allocator.h"
#include "plan/graph.h"

namespace foretrain::plan {

// The loss where torch.nn.functional.cross_entropy computes it of logits cast to float32: beside the logits the cast
// and the log-softmax in the forward, of which the log-softmax stays; two gradients in float32 in the backward, and the
// logits' own. Each goes as soon as PyTorch's autograd lets it.
struct HeldLoss {
  bool eager = false;  // else the plan's logits, with HeldRules::times
  // Of logits in parts over tensor-parallel ranks: a difference and an exponential more in the forward, an exponential
  // and a sum in the backward (torch/distributed/tensor/parallel/loss.py).
  bool in_parts = false;
  // Tensor-parallel ranks that gather the whole logits: parts, a flat copy of NCCL's and the result beside each other.
  int gathered_over = 1;
  // Microbatches whose logits stay, this one among them: pipeline engines keep the outputs of a stage in buffers that
  // are written in turn. 0: they go when the loss is computed.
  int kept = 0;
  bool recomputed = false;  // the head is checkpointed with the layers: its backward begins with its forward
};

// What an update has beside the plan's, in bytes per element of the gradients (`norm`) or of what this rank updates.
struct HeldUpdate {
  double norm = 0;       // copies of all gradients at once, for their norm
  double copy = 0;       // a flat copy in the gradients' dtype, until it is cast
  double gradient = 0;   // gradients cast for the update, which go with it
  double temporary = 0;  // of the optimizer's own, during the update
  bool flat = false;     // the last two are one tensor each; else one for each parameter
};

// How a framework's tensors differ from the plan's.
struct HeldRules {
  // Bytes held for each byte of the plan's, by buffer ("norm1": 3 where its float32 copy is kept as well).
  std::map<std::string, double, std::less<>> times;
  // Where matmuls add weight gradients to their sum, one tensor in the parameters' dtype is kept for each shape of a
  // layer's weights, to hand to autograd; the head's is not kept (github:NVIDIA/TransformerEngine get_dummy_wgrad;
  // github:NVIDIA/Megatron-LM megatron/core/tensor_parallel/layers.py).
  bool weight_gradient_per_shape = false;
  // The sums of gradients come with the first backward that adds to them and go after the update, tensor by tensor
  // (zero_grad of PyTorch 2, set_to_none); else they stay.
  bool gradients_per_step = false;
  bool expandable_segments = false;
  HeldLoss loss;
  HeldUpdate update;
  // NCCL communicators of all ranks or of a pipeline beside those of the plan's collectives (plan/runtime_memory.h).
  int more_communicators = 0;
};

enum class HeldKind : std::uint8_t {
  parameters,
  gradients,
  master_weights,
  optimizer_state,
  activations,
  logits,  // the head's: logits, their gradient, the loss
  communication,
  workspace,  // temporaries, inputs
};
inline constexpr int kHeldKinds = 8;
std::string_view name(HeldKind k);

struct HeldMemory {
  Bytes allocated;  // at the peak (torch.cuda.max_memory_allocated)
  Bytes reserved;   // of the device by the allocator, with room (torch.cuda.max_memory_reserved)
  // On a device with room for `limit` only: what is reserved at most after all that is free went back; more than the
  // limit where even that is too much.
  Bytes needed;
  std::array<Bytes, kHeldKinds> by_kind;  // at the peak of allocated; sums to it, rounding counts as workspace
};
// `limit`: what the device has room for; the replay that looks at it is a second one, only where it matters.
HeldMemory held_memory(const Role& role, const HeldRules& rules = {}, Bytes limit = {CachingAllocator::kNoLimit});
// Never more than held_memory(role).allocated, without a replay.
Bytes least_held(const Role& role);

}  // namespace foretrain::plan
