// Ops of mixtures of experts (workloads/moe.h). A rank routes `tokens` tokens to top_k of `experts` experts each: its
// choices, tokens x top_k, numbered token by token. Tables of rows are i32. Extents of what depends on the routing are
// maxima (RuntimeExtent); the tables say how many rows there are.
//
// Choices are sorted by expert, and by token within an expert, and go to the members of a group, each of which holds as
// many experts as the next, in blocks, member by member. What arrives is sorted by member, then expert; experts want it
// by expert, then member. Weights travel beside the tokens and scale what goes into an expert's last matmul, so that
// nothing of the outputs need be kept.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/dtype.h"
#include "workloads/model.h"

namespace foretrain::plan {

enum class Direction : std::uint8_t { forward, backward_input, backward_weight };
std::string_view name(Direction d);

// Scores, weights and choices; in dtype, all but `chosen`.
//   forward:        reads {logits[tokens, experts]}, writes {scores[tokens, experts], weights[tokens, top_k],
//                   chosen[tokens, top_k]}, best first, equal ones by number
//   backward_input: reads {scores, chosen, dweights[tokens, top_k], [counts[parts, experts]]}, writes {dlogits};
//                   counts exist where balance is not 0: the gradient of
//                   balance · experts · sum over e of (share of e in all counts) · (mean over all tokens of score e)
//                   is added, scores of a sigmoid taken as shares of their sum
struct Gate {
  Direction direction{};
  std::int64_t tokens = 0, experts = 0, top_k = 0;
  std::int64_t groups = 1, top_groups = 1, group_best = 2;
  workloads::Router router{};
  bool normalize = true;
  double scale = 1.0;
  double balance = 0.0;
  std::int32_t parts = 1;  // ranks, one after the other in `counts`, whose tokens are balanced together
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const Gate&, const Gate&) = default;
};

// Where rows go.
//   count:   reads {chosen[rows]}, writes {place[rows], counts[experts]}: of choice i the place among all that are
//            sent, -1 where its expert has got `capacity` (0: any number)
//   arrange: reads {counts[experts], arrived[members, experts/members]}, writes {place[rows], offsets[experts/members +
//            1], to[members], from[members]}: of row i of those that arrive its place by expert, -1 beyond them; where
//            each expert's rows begin, and all end; how many go to each member and come from each
enum class RouteStep : std::uint8_t { count, arrange };
std::string_view name(RouteStep s);
struct Route {
  RouteStep step{};
  std::int64_t rows = 0, experts = 0, members = 1;
  std::int64_t capacity = 0;
  friend bool operator==(const Route&, const Route&) = default;
};

// Moves rows of cols elements. forward: reads {x[rows, cols], place[rows, copies]}, writes {y}; y[place[i, c]] = x[i]
// for every c. backward_input: reads {y, place}, writes {x}; x[i] = sum over c of y[place[i, c]], in order. No place
// (-1): nothing moves, and adds nothing.
struct Permute {
  Direction direction{};
  std::int64_t rows = 0, copies = 1, cols = 0;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const Permute&, const Permute&) = default;
};

// One matmul per expert: rows [offsets[e], offsets[e + 1]) with the e-th matrix w_e[out, in].
//   forward:         reads {x[rows, in], w[experts * out, in], offsets[experts + 1]}, writes {y[rows, out]}: y = x w^T
//   backward_input:  reads {dy, w, offsets}, writes {dx}: dx = dy w
//   backward_weight: reads {dy, x, offsets, dw}, writes {dw}: dw += dy^T x
struct GroupedMatmul {
  Direction direction{};
  std::int64_t experts = 0, rows = 0, out_features = 0, in_features = 0;
  Dtype in = Dtype::fp32, out = Dtype::fp32;
  friend bool operator==(const GroupedMatmul&, const GroupedMatmul&) = default;
};

// Biases of the experts' rows, added to what their matmul gave and, where `weighted`, times the rows' weights; all that
// is added is times `scale` (tp ranks add their parts of one). In fp64. Without experts (0) all rows are one's, and
// there are no offsets: the router.
//   forward:         reads {y[rows, cols], bias[experts, cols], [offsets[experts + 1]], [weights[rows]]}, writes {y}
//   backward_input:  reads {dy, bias, offsets, dweights}, writes {dweights}: += scale · <dy[row], bias[e]>; only where
//                    weighted
//   backward_weight: reads {dy, [offsets], [weights], dbias}, writes {dbias}: += weight · dy, not times scale
struct ExpertBias {
  Direction direction{};
  std::int64_t experts = 0, rows = 0, cols = 0;
  bool weighted = false;
  double scale = 1.0;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const ExpertBias&, const ExpertBias&) = default;
};

// Activation of the rows that there are, times their weights (in fp32, fp64 for fp64). Without experts (0) all rows are
// one's, and there are no offsets: shared experts with a gate.
//   forward:        reads {x, weights[rows], offsets[experts + 1]}, writes {y[rows, cols]}: y = weight · act(x)
//   backward_input: reads {dy, x, weights, offsets}, writes {dx, dweights}
struct ExpertActivation {
  Direction direction{};
  workloads::Activation kind{};
  std::int64_t experts = 0, rows = 0, cols = 0;
  Dtype dtype = Dtype::fp32;
  friend bool operator==(const ExpertActivation&, const ExpertActivation&) = default;
};

}  // namespace foretrain::plan
