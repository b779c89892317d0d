// The blocks of a role's layers, one of each kind, and in which order a chunk's forward and backward call them.
#include <algorithm>
#include <set>

#include "plan/build_context.h"

namespace foretrain::plan {

LayerBlocks::LayerBlocks(RoleContext& c, const std::vector<BackwardPart>& parts) {
  if (c.max_chunk_layers() == 0) {
    return;
  }
  for (std::size_t chunk = 0; chunk < c.chunk_layers.size(); ++chunk) {
    for (std::int32_t l = 0; l < c.chunk_layers[chunk]; ++l) {
      const std::int32_t layer = c.role().global_layer[kinds_.size()];
      const bool ssm = c.model.ssm.has_layer(layer);
      const std::int32_t offloaded = c.offloaded_layers(chunk);
      kinds_.push_back({c.has_experts(static_cast<std::int32_t>(kinds_.size())), ssm, l < c.recomputed_layers(chunk),
                        c.model.has_cross_attention(layer), ssm ? 0 : c.model.window(layer, c.job.workload.seq_len),
                        l < offloaded, l < offloaded && l == 0, l + 1 == offloaded});
    }
  }
  for (const LayerKind& kind : std::set<LayerKind>(kinds_.begin(), kinds_.end())) {
    forward_[kind] = layer_forward(c, kind);
    if (kind.offloads && !c.on_host[kind].empty()) {
      offload_[kind] = offload_layer(c, kind);
      fetch_[kind] = fetch_layer(c, kind);
    }
    for (const BackwardPart part : parts) {
      backward_[{kind, part, false}] = layer_backward(c, kind, part, false);
      if (part != BackwardPart::input) {
        backward_[{kind, part, true}] = layer_backward(c, kind, part, true);
      }
    }
    if (c.job.strategy.overlap_ep) {
      const BlockId forward = forward_.at(kind);
      parts_[forward] = kind.experts ? layer_forward_parts(c, kind) : std::vector<BlockId>{forward};
      for (const bool last : {false, true}) {
        if (const auto whole = backward_.find({kind, BackwardPart::whole, last}); whole != backward_.end()) {
          parts_[whole->second] =
              kind.experts ? layer_backward_parts(c, kind, last) : std::vector<BlockId>{whole->second};
        }
      }
    }
  }
  if (!offload_.empty()) {
    await_layer_ = await_offloaded(c, false);
    await_all_ = await_offloaded(c, true);
  }
}

const std::vector<BlockId>* LayerBlocks::parts(BlockId block) const {
  const auto at = parts_.find(block);
  return at == parts_.end() ? nullptr : &at->second;
}

std::int32_t LayerBlocks::end_of_run(std::int32_t from, std::int32_t end) const {
  const auto first = kinds_.begin() + from;
  const auto next = std::find_if(first, kinds_.begin() + end, [&](const LayerKind& kind) { return kind != *first; });
  return first->offloads ? from + 1 : static_cast<std::int32_t>(next - kinds_.begin());
}

void LayerBlocks::call_forward(std::vector<BlockCall>& calls, std::int32_t first, std::int32_t count) const {
  for (std::int32_t run = first; run < first + count;) {
    const LayerKind& kind = kinds_[static_cast<std::size_t>(run)];
    const std::int32_t next = end_of_run(run, first + count);
    // Its copies had the activations of the layer two before, or those of another microbatch or chunk.
    if (await_all_ >= 0 && kind.first_of_chunk) {
      calls.push_back({await_all_, 1, -1, 1});
    } else if (await_layer_ >= 0 && kind.offloads && !kind.first_of_chunk &&
               !kinds_[static_cast<std::size_t>(run - 1)].first_of_chunk) {
      calls.push_back({await_layer_, 1, run - 2, 1});
    }
    calls.push_back({forward_.at(kind), next - run, run, 1});
    if (const auto offload = offload_.find(kind); offload != offload_.end()) {
      calls.push_back({offload->second, 1, run, 1});
    }
    run = next;
  }
}

void LayerBlocks::call_fetch(std::vector<BlockCall>& calls, std::int32_t layer) const {
  if (const auto fetch = fetch_.find(kinds_[static_cast<std::size_t>(layer)]); fetch != fetch_.end()) {
    calls.push_back({fetch->second, 1, layer, 1});
  }
}

void LayerBlocks::call_first_fetches(std::vector<BlockCall>& calls, std::int32_t first, std::int32_t count) const {
  for (std::int32_t l = first + count; l-- > first;) {
    if (kinds_[static_cast<std::size_t>(l)].last_of_chunk) {
      call_fetch(calls, l);
      if (l > first) {
        call_fetch(calls, l - 1);
      }
    }
  }
}

void LayerBlocks::call_backward(std::vector<BlockCall>& calls, BackwardPart part, bool last, std::int32_t first,
                                std::int32_t count) const {
  for (std::int32_t top = first + count; top > first;) {
    const LayerKind& kind = kinds_[static_cast<std::size_t>(top - 1)];
    std::int32_t bottom = top - 1;
    while (!kind.offloads && bottom > first && kinds_[static_cast<std::size_t>(bottom - 1)] == kind) {
      --bottom;
    }
    // The layer below has its copies free: that of two above is past.
    if (kind.offloads && !kind.first_of_chunk && !kind.last_of_chunk) {
      call_fetch(calls, top - 2);
    }
    calls.push_back({backward_.at({kind, part, last}), top - bottom, top - 1, -1});
    top = bottom;
  }
}

}  // namespace foretrain::plan
