// A forward and a backward of two microbatches in one segment. Layer by layer the parts of both are called in turn,
// backward first, as Megatron-core's combined 1F1B does (megatron/core/models/common/model_chunk_schedule_plan.py; the
// order of DeepSeek-V3, arXiv:2412.19437, figure 4):
//
//   compute   B: up to the gradients' sending | F: attention, router | B: experts | F: experts | B: router, attention |
//   … exchange  |        B: gradients out       |    F: tokens out     | B: back    |  F: back   |
#include <algorithm>

#include "plan/build_context.h"

namespace foretrain::plan {

namespace {

// What stands between two places where the other microbatch may come in: a layer's parts, or anything else in one.
struct Step {
  bool is_layer = false;
  std::vector<BlockCall> parts;
};

std::vector<Step> steps_of(const Segment& segment, const LayerBlocks& layers, bool beside) {
  std::vector<Step> steps;
  for (const BlockCall& call : segment.calls) {
    const std::vector<BlockId>* const parts = layers.parts(call.block);
    if (parts == nullptr) {
      BlockCall same = call;
      same.beside = beside;
      steps.push_back({false, {same}});
      continue;
    }
    for (std::int32_t i = 0; i < call.count; ++i) {
      Step step{true, {}};
      for (const BlockId part : *parts) {
        step.parts.push_back({part, 1, call.first + i * call.step, 1, beside});
      }
      steps.push_back(std::move(step));
    }
  }
  return steps;
}

// Takes the steps that are no layers, up to the next layer.
void call_up_to_layer(std::vector<Step>::const_iterator& step, std::vector<Step>::const_iterator end,
                      std::vector<BlockCall>& calls) {
  for (; step != end && !step->is_layer; ++step) {
    calls.insert(calls.end(), step->parts.begin(), step->parts.end());
  }
}

}  // namespace

SegmentId paired_segment(RoleContext& c, SegmentId forward, SegmentId backward, const LayerBlocks& layers) {
  const Segment& f = c.role().segments[static_cast<std::size_t>(forward)];
  const Segment& b = c.role().segments[static_cast<std::size_t>(backward)];
  Segment s{f.name + "|" + b.name, f.chunk, f.first_layer, {}, b.chunk, b.first_layer};
  const std::vector<Step> forwards = steps_of(f, layers, false), backwards = steps_of(b, layers, true);
  auto ahead = forwards.begin();
  auto back = backwards.begin();
  for (;;) {
    call_up_to_layer(back, backwards.end(), s.calls);
    call_up_to_layer(ahead, forwards.end(), s.calls);
    const bool has_forward = ahead != forwards.end(), has_backward = back != backwards.end();
    if (!has_forward && !has_backward) {
      break;
    }
    for (std::size_t part = 0;
         part < std::max(has_forward ? ahead->parts.size() : 0, has_backward ? back->parts.size() : 0); ++part) {
      if (has_backward && part < back->parts.size()) {
        s.calls.push_back(back->parts[part]);
      }
      if (has_forward && part < ahead->parts.size()) {
        s.calls.push_back(ahead->parts[part]);
      }
    }
    ahead += has_forward ? 1 : 0;
    back += has_backward ? 1 : 0;
  }
  return c.builder.add(std::move(s));
}

}  // namespace foretrain::plan
