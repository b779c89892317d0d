// Samples of features through layers y = x W^T + b. An MLP's first layer, from the features, stands where transformers
// have their embedding, the other hidden ones, all alike, where they have their layers; the output's product and the
// loss are the head, which is all that a linear model has. A layer keeps what its activation read.
#include "plan/build_dense.h"

#include <cmath>
#include <optional>

namespace foretrain::plan {

namespace {

// A weight and a bias, drawn so that outputs are as large as inputs (He et al. 2015, arXiv:1502.01852: relu halves the
// variance).
Layout dense_layout(const RoleContext& c, const char* name, std::int64_t in, std::int64_t out, bool activates) {
  const bool halves = activates && c.model.activation != workloads::Activation::sigmoid;
  Layout l;
  l.family.name = name;
  l.add("weight", out, in, out, in, replicated(c.tp, out)).init_std =
      std::sqrt((halves ? 2.0 : 1.0) / static_cast<double>(in));
  l.add_vector("bias", out, out, replicated(c.tp, out), Init::zeros);
  return l;
}

std::int64_t head_inputs(const RoleContext& c) {
  return c.model.layers > 0 ? c.n.hidden : c.model.dense.inputs;
}

bool tells_classes(const RoleContext& c) {
  return c.model.dense.loss == workloads::Loss::cross_entropy;
}

// y = x W^T + b and its gradients, of one family's weight and bias.
struct Linear {
  RoleContext& c;
  BlockBuilder& b;
  Family family;
  std::string prefix;  // of the names of weight and bias
  std::int64_t in = 0, out = 0;

  void forward(Operand x, Operand y) const {
    const Matmul mm{c.n.rows, out, in, false, true, true, false, c.type.activation, c.type.activation};
    b.emit(mm, kCompute, Phase::forward,
           {x, c.parameter(family, prefix + "weight"), c.parameter(family, prefix + "bias")}, {y});
  }

  // dx is none where x are features.
  void backward(Operand dy, Operand x, std::optional<Operand> dx) const {
    if (dx) {
      const Matmul to_input{c.n.rows, in, out, false, false, false, false, c.type.activation, c.type.activation};
      b.emit(to_input, kCompute, Phase::backward_input, {dy, c.parameter(family, prefix + "weight")}, {*dx});
    }
    emit_weight_gradient(c, b, {out, in, c.n.rows, true, false, false, false, c.type.activation, {}}, dy, x,
                         c.gradient(family, prefix + "weight"));
    const Operand d_bias = c.gradient(family, prefix + "bias");
    b.emit(BiasGradient{c.n.rows, out, c.type.activation}, kCompute, Phase::backward_weight, {dy, d_bias}, {d_bias});
  }
};

// A hidden layer: the activation behind its product.
struct Hidden {
  Linear linear;
  Operand product;  // what the activation reads

  Activation activation(Direction d) const {
    const RoleContext& c = linear.c;
    return {d, c.model.activation, c.n.rows, c.n.hidden, c.type.activation};
  }
  void forward(Operand x, Operand y) const {
    linear.forward(x, product);
    linear.b.emit(activation(Direction::forward), kCompute, Phase::forward, {product}, {y});
  }
  // dy may be dx.
  void backward(Operand dy, Operand x, std::optional<Operand> dx) const {
    RoleContext& c = linear.c;
    const Operand d_product = c.builder.whole(c.temporary("d_product", c.type.activation, dy.elements));
    linear.b.emit(activation(Direction::backward_input), kCompute, Phase::backward_input, {dy, product}, {d_product});
    linear.backward(d_product, x, dx);
  }
};

Hidden input_layer(RoleContext& c, BlockBuilder& b) {
  const BufferId product = c.builder.buffer("input.product", c.type.activation, c.n.rows * c.n.hidden,
                                            BufferKind::activation, Lifetime::slot);
  return {{c, b, kEmbedding, "input.", c.model.dense.inputs, c.n.hidden}, c.builder.whole(product)};
}

Hidden layer(RoleContext& c, BlockBuilder& b) {
  const BufferId product = c.saved("product", c.type.activation, c.n.rows * c.n.hidden, false);
  return {{c, b, kLayer, "", c.n.hidden, c.n.hidden}, c.builder.whole(product)};
}

struct Head {
  Linear linear;
  Operand x, y, loss_rows;

  CrossEntropy cross_entropy(CrossEntropyStep step) const {
    const RoleContext& c = linear.c;
    const bool backward = step == CrossEntropyStep::backward;
    return {step,     c.n.rows,        c.n.vocab,         c.model.vocab,
            kNoGroup, scale(backward), c.type.activation, backward && c.scales_loss()};
  }
  OutputLoss loss(Direction d) const {
    const RoleContext& c = linear.c;
    const bool backward = d == Direction::backward_input;
    return {
        d, c.model.dense.loss, c.n.rows, c.n.vocab, scale(backward), c.type.activation, backward && c.scales_loss()};
  }
  // Means are over the step's samples, and outputs.
  double scale(bool backward) const {
    const RoleContext& c = linear.c;
    const std::int64_t numbers = c.job.workload.global_batch * (tells_classes(c) ? 1 : c.model.dense.outputs);
    return (backward ? c.replicas_apart() : 1.0) / static_cast<double>(numbers);
  }
};

Head head(RoleContext& c, BlockBuilder& b, std::size_t chunk) {
  const auto whole = [&](const char* name, Dtype dtype, std::int64_t elements) {
    return c.builder.whole(c.head_buffer(name, dtype, elements));
  };
  Head h{{c, b, kHead, "head.", head_inputs(c), c.n.vocab}, {}, {}, {}};
  h.x = c.model.layers > 0 ? c.chunk_output(chunk) : loaded(c, Loaded::features);
  h.y = whole("outputs", c.type.activation, c.n.rows * c.n.vocab);
  if (tells_classes(c)) {
    h.loss_rows = whole("loss.rows", c.type.statistic, c.n.rows * 2);
  }
  return h;
}

}  // namespace

Layout dense_input_layout(const RoleContext& c) {
  return dense_layout(c, "input", c.model.dense.inputs, c.n.hidden, true);
}
Layout dense_layer_layout(const RoleContext& c) {
  return dense_layout(c, "layer", c.n.hidden, c.n.hidden, true);
}
Layout dense_head_layout(const RoleContext& c) {
  return dense_layout(c, "head", head_inputs(c), c.n.vocab, false);
}

BlockId dense_input_forward(RoleContext& c, std::size_t chunk, bool gathers) {
  BlockBuilder b(c.role(), "input.forward");
  if (gathers && c.uses[kEmbedding].gathers) {
    emit_unit_gather(c, b, kEmbedding, false);
  }
  input_layer(c, b).forward(loaded(c, Loaded::features), c.chunk_input(chunk));
  b.join_open(Phase::forward);
  return c.builder.add(b.take());
}

BlockId dense_input_backward(RoleContext& c) {
  BlockBuilder b(c.role(), "input.backward");
  clear_unit(c, b, kEmbedding);
  input_layer(c, b).backward(c.gradient_out(), loaded(c, Loaded::features), std::nullopt);
  b.join_open(Phase::backward_input);
  return c.builder.add(b.take());
}

BlockId dense_layer_forward(RoleContext& c) {
  BlockBuilder b(c.role(), "layer.forward");
  await_unit(c, b, kLayer, Phase::forward);
  layer(c, b).forward(c.builder.whole(c.residual()), c.builder.whole(c.residual(), 1));
  b.join_open(Phase::forward);
  return c.builder.add(b.take());
}

BlockId dense_layer_backward(RoleContext& c) {
  BlockBuilder b(c.role(), "layer.backward");
  await_unit(c, b, kLayer, Phase::backward_input);
  clear_unit(c, b, kLayer);
  layer(c, b).backward(c.gradient_out(), c.builder.whole(c.residual()), c.gradient_out());
  b.join_open(Phase::backward_input);
  return c.builder.add(b.take());
}

BlockId dense_head_forward(RoleContext& c, std::size_t chunk) {
  BlockBuilder b(c.role(), "head.forward");
  await_unit(c, b, kHead, Phase::forward);
  const Head h = head(c, b, chunk);
  h.linear.forward(h.x, h.y);
  c.role().logits = h.y.buffer;
  const Operand loss = c.builder.whole(c.role().loss);
  if (tells_classes(c)) {
    const Operand triple = c.builder.whole(c.temporary("loss.triple", c.type.statistic, c.n.rows * 3));
    b.emit(h.cross_entropy(CrossEntropyStep::stats), kCompute, Phase::forward, {h.y, loaded(c, Loaded::labels)},
           {triple});
    b.emit(h.cross_entropy(CrossEntropyStep::combine), kCompute, Phase::forward, {triple, loss}, {h.loss_rows, loss});
  } else {
    b.emit(h.loss(Direction::forward), kCompute, Phase::forward, {h.y, loaded(c, Loaded::labels), loss}, {loss});
  }
  b.join_open(Phase::forward);
  return c.builder.add(b.take());
}

BlockId dense_head_backward(RoleContext& c, std::size_t chunk) {
  BlockBuilder b(c.role(), "head.backward");
  await_unit(c, b, kHead, Phase::backward_input);
  clear_unit(c, b, kHead);
  const Head h = head(c, b, chunk);
  const Operand dy = h.y;  // in place of the outputs
  std::vector<Operand> told = tells_classes(c) ? std::vector<Operand>{h.loss_rows, loaded(c, Loaded::labels), h.y}
                                               : std::vector<Operand>{h.y, loaded(c, Loaded::labels)};
  if (c.scales_loss()) {
    told.push_back(c.loss_scale_state());
  }
  const Work loss =
      tells_classes(c) ? Work(h.cross_entropy(CrossEntropyStep::backward)) : Work(h.loss(Direction::backward_input));
  b.emit(loss, kCompute, Phase::backward_input, std::move(told), {dy});
  h.linear.backward(dy, h.x, c.model.layers > 0 ? std::optional(c.gradient_in(c.chunk_layers[chunk])) : std::nullopt);
  b.join_open(Phase::backward_input);
  return c.builder.add(b.take());
}

}  // namespace foretrain::plan
