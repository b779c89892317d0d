#include <algorithm>

#include "plan/work_of.h"

namespace foretrain::plan {

// tanh and exp count as one; a score takes a softmax or a sigmoid, and a comparison per choice.
void WorkOf::operator()(const Gate& x) {
  const Bytes square = size(x.dtype, x.tokens * x.experts);
  const Bytes chosen = size(Dtype::i32, x.tokens * x.top_k);
  const Bytes weights = size(x.dtype, x.tokens * x.top_k);
  if (x.direction == Direction::forward) {
    w.flops = (kSoftmax + static_cast<double>(x.top_k)) * product(x.tokens, x.experts);
    w.read = square;
    w.written = square + weights + chosen;
  } else {
    w.flops = kSoftmaxBackward * product(x.tokens, x.experts);
    w.read = square + weights + chosen;
    w.written = square;
  }
}

void WorkOf::operator()(const Route& x) {
  const Bytes tables = size(Dtype::i32, x.rows);
  if (x.step == RouteStep::count) {
    w.read = tables;
  } else {
    w.read = size(Dtype::i32, 2 * x.experts);
  }
  w.written = tables + size(Dtype::i32, x.experts);
}

void WorkOf::operator()(const Permute& x) {
  const Bytes one = size(x.dtype, x.rows * x.cols), all = size(x.dtype, x.rows * x.copies * x.cols);
  const Bytes table = size(Dtype::i32, x.rows * x.copies);
  if (x.direction == Direction::forward) {
    w.read = one + table;
    w.written = all;
  } else {
    w.flops = x.copies > 1 ? product(x.rows, x.copies, x.cols) : 0;
    w.read = all + table;
    w.written = one;
  }
}

void WorkOf::operator()(const GroupedMatmul& x) {
  w.flops = 2 * product(x.rows, x.out_features, x.in_features);
  w.is_matmul = true;
  const std::int64_t in = x.rows * x.in_features, out = x.rows * x.out_features;
  const std::int64_t weights = x.experts * x.out_features * x.in_features;
  switch (x.direction) {
    case Direction::forward:
      w.read = size(x.in, in + weights);
      w.written = size(x.out, out);
      break;
    case Direction::backward_input:
      w.read = size(x.in, out + weights);
      w.written = size(x.out, in);
      break;
    case Direction::backward_weight:
      w.read = size(x.in, in + out) + size(x.out, weights);
      w.written = size(x.out, weights);
      break;
  }
}

void WorkOf::operator()(const ExpertBias& x) {
  const Bytes rows = size(x.dtype, x.rows * x.cols),
              biases = size(wide(x.dtype), std::max<std::int64_t>(1, x.experts) * x.cols);
  const Bytes weights = x.weighted ? size(wide(x.dtype), x.rows) : Bytes{};
  w.flops = product(x.rows, x.cols, x.weighted ? 2 : 1);
  w.read = rows + biases + weights;
  w.written = x.direction == Direction::forward ? rows : x.direction == Direction::backward_input ? weights : biases;
}

void WorkOf::operator()(const ExpertActivation& x) {
  (*this)(Activation{x.direction, x.kind, x.rows, x.cols, x.dtype});
  const Bytes weights = size(wide(x.dtype), x.rows);
  w.flops += product(x.rows, x.cols, x.direction == Direction::forward ? 1 : 3);
  w.read += weights;
  if (x.direction != Direction::forward) {
    w.written += weights;
  }
}

}  // namespace foretrain::plan
