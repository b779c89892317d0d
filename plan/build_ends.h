// What both ends of the model share: the embedding's (build_ends.cpp) and the head's (build_head.cpp,
// build_classifier.cpp). Used by build_*.cpp only.
#pragma once

#include <optional>
#include <string>

#include "plan/build_context.h"

namespace foretrain::plan {

// The norm of the embedding, or of the head, from x to y and back. `base`: what the gradient is added to.
struct EndNorm {
  RoleContext& c;
  BlockBuilder& b;
  Family family;
  std::string name;

  void forward(Operand x, Operand y, Operand stats) const;
  void backward(Operand dy, Operand x, Operand stats, std::optional<Operand> base, Operand dx) const;

 private:
  Norm norm(Direction d) const;
  bool has_bias() const { return c.model.norm == workloads::Norm::layernorm; }
};

// build_classifier.cpp
BlockId classifier_forward(RoleContext& c, std::size_t chunk);
BlockId classifier_backward(RoleContext& c, std::size_t chunk, BackwardPart part);

// A tied table keeps one gradient accumulator per use, unless it is cleared and reduced for every microbatch.
Operand head_weight_gradient(RoleContext& c);

}  // namespace foretrain::plan
