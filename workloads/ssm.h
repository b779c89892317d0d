// State-space layers (Mamba-2: Dao and Gu 2024, "Transformers are SSMs", arXiv:2405.21060) in place of attention:
//
//   z | x | B | C | dt = in(h);  x | B | C = silu(conv(x | B | C));  y = scan(x, A, B, C, dt) + D x;
//   out(rmsnorm(y silu(z)))
//
// x has `heads` heads, B and C `groups` times `state` columns; dt, A and D are one number per head.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace foretrain::workloads {

struct Ssm {
  std::int64_t heads = 0;  // 0: the model has no such layers
  std::int64_t head_dim = 64, state = 128, groups = 1;
  std::int64_t conv = 4;                       // taps of the convolution
  std::int64_t chunk = 256;                    // tokens that the scan takes at a time
  std::vector<std::int64_t> attention_layers;  // which have attention; all others have this

  std::int64_t inner() const { return heads * head_dim; }
  std::int64_t conv_cols() const { return inner() + 2 * groups * state; }
  std::int64_t in_cols() const { return inner() + conv_cols() + heads; }
  // Of everything but the two projections: taps and a bias per column, dt's bias, A and D per head, the norm's gain.
  std::int64_t vectors() const { return conv_cols() * (conv + 1) + 3 * heads + inner(); }
  bool has_layer(std::int64_t layer) const {
    return heads > 0 && std::find(attention_layers.begin(), attention_layers.end(), layer) == attention_layers.end();
  }
};

}  // namespace foretrain::workloads
