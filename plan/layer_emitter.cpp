#include "plan/layer_emitter.h"

namespace foretrain::plan {

void LayerEmitter::linear(Phase phase, Operand x, const std::string& w, bool bias, Operand y, std::int64_t out,
                          std::int64_t in) {
  Matmul mm{c.n.rows, out, in, false, true, bias, false, c.type.matmul, c.type.activation};
  std::vector<Operand> reads{x, weight(w + ".weight")};
  if (bias) {
    reads.push_back(weight(w + ".bias"));
  }
  b.emit(mm, kCompute, phase, std::move(reads), {y});
}

void LayerEmitter::linear_gelu(Phase phase, Operand x, const std::string& w, bool bias, Operand product, Operand y,
                               std::int64_t out, std::int64_t in) {
  const Matmul mm{c.n.rows, out, in, false, true, bias, false, c.type.matmul, c.type.activation, Epilogue::gelu};
  std::vector<Operand> reads{x, weight(w + ".weight")};
  if (bias) {
    reads.push_back(weight(w + ".bias"));
  }
  b.emit(mm, kCompute, phase, std::move(reads), {y, product});
}

void LayerEmitter::linear_partial(Phase phase, Operand x, const std::string& w, Operand y, bool accumulate,
                                  std::int64_t out, std::int64_t in) {
  Matmul mm{c.n.rows, out, in, false, true, false, accumulate, c.type.matmul, c.type.activation};
  std::vector<Operand> reads{x, weight(w + ".weight")};
  if (accumulate) {
    reads.push_back(y);
  }
  b.emit(mm, kCompute, phase, std::move(reads), {y});
}

void LayerEmitter::linear_input(Operand dy, const std::string& w, Operand dx, std::int64_t out, std::int64_t in,
                                bool accumulate) {
  Matmul mm{c.n.rows, in, out, false, false, false, accumulate, c.type.matmul, c.type.activation};
  std::vector<Operand> reads{dy, weight(w + ".weight")};
  if (accumulate) {
    reads.push_back(dx);
  }
  b.emit(mm, kCompute, Phase::backward_input, std::move(reads), {dx});
}

void LayerEmitter::linear_input_gelu(Operand dy, const std::string& w, Operand product, Operand dx, std::int64_t out,
                                     std::int64_t in) {
  const Matmul mm{
      c.n.rows, in, out, false, false, false, false, c.type.matmul, c.type.activation, Epilogue::gelu_backward};
  b.emit(mm, kCompute, Phase::backward_input, {dy, weight(w + ".weight"), product}, {dx});
}

void LayerEmitter::linear_weight(Operand dy, Operand x, const std::string& w, std::int64_t out, std::int64_t in) {
  const Matmul mm{out, in, c.n.rows, true, false, false, false, c.type.matmul, {}};
  emit_weight_gradient(c, b, mm, dy, x, grad(w + ".weight"));
}

void LayerEmitter::bias_gradient(Operand dy, const std::string& name, std::int64_t rows, std::int64_t cols) {
  const Operand db = grad(name);
  b.emit(BiasGradient{rows, cols, c.type.activation}, kCompute, Phase::backward_weight, {dy, db}, {db});
}

Norm LayerEmitter::norm(Direction d) const {
  return {d, c.model.norm, c.n.shard_rows, c.n.hidden, c.model.norm_eps, c.type.activation};
}

void LayerEmitter::norm_forward(Phase phase, Operand x, const std::string& name, Operand y, BufferId stats) {
  std::vector<Operand> reads{x, weight(name + ".gain")};
  if (norm_bias()) {
    reads.push_back(weight(name + ".bias"));
  }
  b.emit(norm(Direction::forward), kCompute, phase, std::move(reads), {y, all(stats)});
}

void LayerEmitter::norm_backward(Operand dy, Operand x, BufferId stats, const std::string& name,
                                 std::optional<Operand> base, Operand dx) {
  std::vector<Operand> inputs{dy, x, weight(name + ".gain"), all(stats)};
  if (base) {
    inputs.push_back(*base);
  }
  b.emit(norm(Direction::backward_input), kCompute, Phase::backward_input, std::move(inputs), {dx});
  std::vector<Operand> sums{grad(name + ".gain")};
  if (norm_bias()) {
    sums.push_back(grad(name + ".bias"));
  }
  std::vector<Operand> reads{dy, x, all(stats)};
  reads.insert(reads.end(), sums.begin(), sums.end());
  b.emit(norm(Direction::backward_weight), kCompute, Phase::backward_weight, std::move(reads), std::move(sums));
}

void LayerEmitter::residual_add(Phase phase, Operand x, Operand y, const std::string& bias, bool has_bias,
                                Operand out) {
  std::vector<Operand> reads{x, y};
  if (has_bias) {
    reads.push_back(weight(bias));
  }
  b.emit(ResidualAdd{c.n.shard_rows, c.n.hidden, has_bias, c.type.activation}, kCompute, phase, std::move(reads),
         {out});
}

void LayerEmitter::add_half(Phase phase, Operand x, Operand out, const std::string& bias, bool has_bias, BufferId sum,
                            const std::string& norm, BufferId stats, Operand y) {
  if (!c.model.norms_behind()) {
    residual_add(phase, x, out, bias, has_bias, y);
    return;
  }
  residual_add(phase, x, out, bias, has_bias, all(sum));
  norm_forward(phase, all(sum), norm, y, stats);
}

Operand LayerEmitter::half_gradient(BackwardPart part, Operand dy, BufferId sum, BufferId stats,
                                    const std::string& norm, const std::string& block) {
  if (!c.model.norms_behind()) {
    return dy;
  }
  const Operand d_sum = all(c.kept(block + ".d_sum", c.type.activation, c.n.shard_rows * c.n.hidden));
  if (part != BackwardPart::weight) {
    norm_backward(dy, all(sum), stats, norm, std::nullopt, d_sum);
  }
  return d_sum;
}

void LayerEmitter::add_half_gradient(Operand d_branch, Operand d_sum, Operand x, BufferId stats,
                                     const std::string& norm, Operand dx) {
  if (c.model.norms_behind()) {
    b.emit(ResidualAdd{c.n.shard_rows, c.n.hidden, false, c.type.activation}, kCompute, Phase::backward_input,
           {d_sum, d_branch}, {dx});
  } else {
    norm_backward(d_branch, x, stats, norm, d_sum, dx);
  }
}

Operand LayerEmitter::full_gradient(BackwardPart part, Operand shard, const std::string& name) {
  if (!c.splits || !c.sequence_parallel) {
    return gather_rows(c, b, Phase::backward_input, shard, name);
  }
  const Operand full = all(c.kept(name + ".full", c.type.activation, c.n.rows * c.n.hidden));
  if (part != BackwardPart::weight) {
    gather_rows_into(c, b, Phase::backward_input, shard, full, name);
  }
  return full;
}

ResidualGradients LayerEmitter::residual_gradients() {
  const Operand dy = all(c.residual_gradient());
  if (!c.keeps_residual_gradients()) {
    return {dy, dy, dy};
  }
  const BufferId mid = c.kept("d_x_mid", c.type.activation, c.n.shard_rows * c.n.hidden);
  return {c.builder.whole(c.residual_gradient(), 1), all(mid), dy};
}

Operand LayerEmitter::input_again(const std::string& block, Operand read) {
  const Operand x = gather_rows(c, b, Phase::backward_weight, read, block + ".input_again");
  wait_unless_overlapped(c, b, Phase::backward_weight);
  return x;
}

Operand LayerEmitter::through_input(BackwardPart part, const std::string& block, const std::string& w, Operand dy,
                                    std::int64_t out, Operand read, Operand x, bool bias) {
  const bool inputs = part != BackwardPart::weight, weights = part != BackwardPart::input;
  Operand dx = all(c.temporary(block + ".d_input", c.type.activation, c.n.rows * c.n.hidden));
  if (part == BackwardPart::whole) {
    x = input_again(block, read);
  }
  if (inputs) {
    linear_input(dy, w, dx, out, c.n.hidden);
    dx = reduce_rows(c, b, Phase::backward_input, dx, block + ".input_gradient");
    wait_unless_overlapped(c, b, Phase::backward_input);
  }
  if (weights) {  // with overlap_tp while the input gradient is summed over the tp group
    linear_weight(dy, x, w, out, c.n.hidden);
  }
  if (inputs && bias) {
    bias_gradient(dy, w + ".bias", c.n.rows, out);
  }
  return dx;
}

}  // namespace foretrain::plan
