// A classifier's head (BERT, Devlin et al. 2019, section 4.1; BertForSequenceClassification of the transformers
// library): tanh of a product of hidden x hidden of each sequence's first token, and of that a product with the
// classes. Each tp rank has the whole of both, and all first tokens: their gradients are whole, too.
#include "plan/build_ends.h"

namespace foretrain::plan {

namespace {

struct Classifier {
  RoleContext& c;
  BlockBuilder& b;

  std::int64_t hidden() const { return c.n.hidden; }
  std::int64_t classes() const { return c.model.classes; }
  Operand kept(const char* name, Dtype dtype, std::int64_t cols) const {
    return c.builder.whole(c.head_buffer(name, dtype, c.n.batch * cols));
  }
  Operand passing(const char* name) const {
    return c.builder.whole(c.temporary(name, c.type.activation, c.n.batch * hidden()));
  }
  Operand first() const { return kept("head.first", c.type.activation, hidden()); }
  Operand dense() const { return kept("head.dense", c.type.activation, hidden()); }
  Operand pooled() const { return kept("head.pooled", c.type.activation, hidden()); }
  Operand logits() const { return kept("logits", c.type.activation, classes()); }  // and then their gradient
  Operand loss_rows() const { return kept("loss.rows", c.type.statistic, 2); }

  FirstTokens first_tokens(Direction d) const {
    return {d,
            c.n.batch,
            c.n.seq,
            c.n.shard_rows,
            hidden(),
            c.sequence_parallel ? c.groups.tp : kNoGroup,
            c.type.activation};
  }
  Activation tanh(Direction d) const {
    return {d, workloads::Activation::tanh, c.n.batch, hidden(), c.type.activation};
  }
  CrossEntropy cross_entropy(CrossEntropyStep step) const {
    const bool backward = step == CrossEntropyStep::backward;
    const double scale = (backward ? c.replicas_apart() : 1.0) / static_cast<double>(c.job.workload.global_batch);
    return {step, c.n.batch, classes(), classes(), kNoGroup, scale, c.type.activation, backward && c.scales_loss()};
  }

  // y = x W^T + b, and from dy the gradients of W, of b, and of x.
  void product(const std::string& name, Operand x, Operand y, std::int64_t out) const {
    const Matmul mm{c.n.batch, out, hidden(), false, true, true, false, c.type.activation, c.type.activation};
    b.emit(mm, kCompute, Phase::forward, {x, c.parameter(kHead, name + "weight"), c.parameter(kHead, name + "bias")},
           {y});
  }
  void product_backward(const std::string& name, Operand dy, Operand x, Operand dx, std::int64_t out) const {
    const Matmul to_input{c.n.batch, hidden(), out, false, false, false, false, c.type.activation, c.type.activation};
    b.emit(to_input, kCompute, Phase::backward_input, {dy, c.parameter(kHead, name + "weight")}, {dx});
    emit_weight_gradient(c, b, {out, hidden(), c.n.batch, true, false, false, false, c.type.activation, {}}, dy, x,
                         c.gradient(kHead, name + "weight"));
    const Operand d_bias = c.gradient(kHead, name + "bias");
    b.emit(BiasGradient{c.n.batch, out, c.type.activation}, kCompute, Phase::backward_weight, {dy, d_bias}, {d_bias});
  }

  void forward(Operand x) const {
    b.emit(first_tokens(Direction::forward), kCompute, Phase::forward, {x}, {first()});
    if (c.sequence_parallel) {  // each is on one rank, and 0 on the others
      Collective op;
      op.kind = CollectiveKind::all_reduce;
      op.group = c.groups.tp;
      op.elements = first().elements;
      op.dtype = c.type.activation;
      op.tag = c.builder.tag("head.first_tokens");
      b.emit(op, c.tp_stream(), Phase::forward, {first()}, {first()});
    }
    product("head.dense.", first(), dense(), hidden());
    b.emit(tanh(Direction::forward), kCompute, Phase::forward, {dense()}, {pooled()});
    product("head.", pooled(), logits(), classes());
    const Operand triple = c.builder.whole(c.temporary("loss.triple", c.type.statistic, c.n.batch * 3));
    const Operand loss = c.builder.whole(c.role().loss);
    b.emit(cross_entropy(CrossEntropyStep::stats), kCompute, Phase::forward, {logits(), loaded(c, Loaded::classes)},
           {triple});
    b.emit(cross_entropy(CrossEntropyStep::combine), kCompute, Phase::forward, {triple, loss}, {loss_rows(), loss});
  }

  void backward(Operand dx) const {
    std::vector<Operand> told{loss_rows(), loaded(c, Loaded::classes), logits()};
    if (c.scales_loss()) {
      told.push_back(c.loss_scale_state());
    }
    b.emit(cross_entropy(CrossEntropyStep::backward), kCompute, Phase::backward_input, std::move(told), {logits()});
    const Operand d_pooled = passing("head.d_pooled"), d_dense = passing("head.d_dense"),
                  d_first = passing("head.d_first");
    product_backward("head.", logits(), pooled(), d_pooled, classes());
    b.emit(tanh(Direction::backward_input), kCompute, Phase::backward_input, {d_pooled, dense()}, {d_dense});
    product_backward("head.dense.", d_dense, first(), d_first, hidden());
    b.emit(first_tokens(Direction::backward_input), kCompute, Phase::backward_input, {d_first}, {dx});
  }
};

}  // namespace

BlockId classifier_forward(RoleContext& c, std::size_t chunk) {
  BlockBuilder b(c.role(), "head.forward");
  await_unit(c, b, kHead, Phase::forward);
  const Classifier head{c, b};
  head.forward(c.chunk_output(chunk));
  c.role().logits = head.logits().buffer;
  b.join_open(Phase::forward);
  return c.builder.add(b.take());
}

// Products of a few rows: their weights' gradients are not put off.
BlockId classifier_backward(RoleContext& c, std::size_t chunk, BackwardPart part) {
  BlockBuilder b(c.role(), "head.backward" + std::string(suffix(part)));
  if (part == BackwardPart::weight) {
    b.join(Phase::backward_weight, {});
    return c.builder.add(b.take());
  }
  await_unit(c, b, kHead, Phase::backward_input);
  clear_unit(c, b, kHead);
  Classifier{c, b}.backward(c.gradient_in(c.chunk_layers[chunk]));
  b.join_open(Phase::backward_input);
  return c.builder.add(b.take());
}

}  // namespace foretrain::plan
