// Models of features (workloads/dense.h): what stands in the places of the embedding, the layers and the head. Used by
// build_*.cpp only.
#pragma once

#include "plan/build_context.h"
#include "plan/parameter_layout.h"

namespace foretrain::plan {

Layout dense_input_layout(const RoleContext& c);
Layout dense_layer_layout(const RoleContext& c);
Layout dense_head_layout(const RoleContext& c);

BlockId dense_input_forward(RoleContext& c, std::size_t chunk, bool gathers);
BlockId dense_input_backward(RoleContext& c);
BlockId dense_layer_forward(RoleContext& c);
BlockId dense_layer_backward(RoleContext& c);
BlockId dense_head_forward(RoleContext& c, std::size_t chunk);
BlockId dense_head_backward(RoleContext& c, std::size_t chunk);

}  // namespace foretrain::plan
