// Kernels of mixtures of experts: choosing experts, moving rows, one product per expert. Part of kernels.h, and under
// its rules. Tables are int32; "T" and "W" as there.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/tensor.h"

namespace foretrain::kernels {

enum class Activation : std::uint8_t;
enum class Router : std::uint8_t { softmax, sigmoid };

// Scores s = softmax or sigmoid of the logits. With groups, experts are in `groups` equal blocks and only those of the
// top_groups blocks with the greatest sum of their group_best (1 or 2) best scores are chosen from. Greatest first; of
// equal ones the first. Weights: scale · s of the chosen, divided by their sum when normalised.
struct GateShape {
  std::int64_t tokens = 0, experts = 0, top_k = 0;
  std::int64_t groups = 1, top_groups = 1, group_best = 2;
  Router router = Router::softmax;
  bool normalize = true;
  double scale = 1.0;
};

// logits, scores [tokens, experts], weights [tokens, top_k], all W; chosen [tokens, top_k].
void gate_forward(const GateShape& shape, ConstTensor logits, Tensor scores, Tensor weights, std::int32_t* chosen);
// dlogits from dweights. With balance != 0 the gradient of balance · experts · sum_e (count_e / all counts) · (mean
// over tokens of parts · tokens of p_e) is added, where p is s for softmax and s / sum s for sigmoid; counts [parts,
// experts] are constants.
void gate_backward(const GateShape& shape, ConstTensor scores, const std::int32_t* chosen, ConstTensor dweights,
                   double balance, const std::int32_t* counts, std::int64_t parts, Tensor dlogits);

// place[i]: where choice i of `rows` stands when they are sorted by expert, in order otherwise; -1 for the ones that
// are more than `capacity` (0: any number) of their expert. counts[experts]: of those that have a place.
void route_count(std::int64_t rows, std::int64_t experts, std::int64_t capacity, const std::int32_t* chosen,
                 std::int32_t* place, std::int32_t* counts);
// Of `members`, each with experts / members neighbouring experts: counts[experts] are the own rows by expert;
// arrived[members, experts / members] what each member sends. Rows arrive by member, then expert: place[i] is where row
// i stands when they are sorted by expert, then member (-1 for i beyond them); offsets[experts / members + 1] where
// each expert's rows begin. to, from [members]: rows for and from each. At most `rows` may arrive: InternalError.
void route_arrange(std::int64_t rows, std::int64_t experts, std::int64_t members, const std::int32_t* counts,
                   const std::int32_t* arrived, std::int32_t* place, std::int32_t* offsets, std::int32_t* to,
                   std::int32_t* from);

// What a member of a group sends: rows for each member in turn, to[j] for member j.
struct ReceivedRows {
  const void* rows = nullptr;
  const std::int32_t* to = nullptr;
};
// y = what member `index` is sent, by member; no element type, rows of row_bytes.
void receive_rows(std::span<const ReceivedRows> members, std::int64_t index, std::int64_t row_bytes, void* y);

// y[place[i, c]] = x[i]; rows of cols elements of any one type.
void permute_forward(std::int64_t rows, std::int64_t copies, std::int64_t cols, ConstTensor x,
                     const std::int32_t* place, Tensor y);
// x[i] = sum over c, in order, of y[place[i, c]]; T, summed in W. -1 adds nothing.
void permute_backward(std::int64_t rows, std::int64_t copies, std::int64_t cols, ConstTensor y,
                      const std::int32_t* place, Tensor x);

// One product per expert, over its rows [offsets[e], offsets[e + 1]), with w [experts * out, in]. All T, but dw W.
struct GroupedShape {
  std::int64_t experts = 0, out = 0, in = 0;
};
void grouped_forward(const GroupedShape& shape, const std::int32_t* offsets, ConstTensor x, ConstTensor w, Tensor y);
void grouped_backward_input(const GroupedShape& shape, const std::int32_t* offsets, ConstTensor dy, ConstTensor w,
                            Tensor dx);
// dw +=.
void grouped_backward_weight(const GroupedShape& shape, const std::int32_t* offsets, ConstTensor dy, ConstTensor x,
                             Tensor dw);

// Biases by expert, of its rows [offsets[e], offsets[e + 1]), or of all `rows` without experts (0, no offsets). Weights
// W, or none (all 1). Any element types; computed in fp64.
struct ExpertBiasShape {
  std::int64_t experts = 0, rows = 0, cols = 0;
  double scale = 1.0;
};
// y[r] += scale · weights[r] · bias[e].
void expert_bias_forward(const ExpertBiasShape& shape, const std::int32_t* offsets, ConstTensor bias,
                         ConstTensor weights, Tensor y);
// dweights[r] += scale · <dy[r], bias[e]>.
void expert_bias_backward_weights(const ExpertBiasShape& shape, const std::int32_t* offsets, ConstTensor dy,
                                  ConstTensor bias, Tensor dweights);
// dbias[e] += sum over its rows, in order, of weights[r] · dy[r].
void expert_bias_gradient(const ExpertBiasShape& shape, const std::int32_t* offsets, ConstTensor dy,
                          ConstTensor weights, Tensor dbias);

// y[r] = weights[r] · act(x[r]); x, y as in activation_forward, weights [rows] W.
void expert_activation_forward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x,
                               ConstTensor weights, Tensor y);
void expert_activation_backward(Activation kind, std::int64_t rows, std::int64_t cols, ConstTensor x,
                                ConstTensor weights, ConstTensor dy, Tensor dx, Tensor dweights);

}  // namespace foretrain::kernels
