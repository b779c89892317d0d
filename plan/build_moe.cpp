// The other half of a layer with experts: x' = x_mid + sum over the chosen e of w_e expert_e(h) + shared(h),
// h = norm2(x_mid), and its backward. What is routed where: plan/moe_ops.h; who holds which experts: build_experts.cpp;
// how rows travel: build_moe_rows.h.
//
//   router -> choices -> rows by expert -> to the experts' ranks -> rows by local expert
//   -> up, act times weight, down -> back the same way -> each token's rows summed, in the order of its choices
//
// Each tp rank either routes the tokens of its own shard to whole experts, or all tp ranks route all tokens to their
// parts of the experts; then the outputs, the gradients of weights and inputs, and so those of the router, are partial
// sums over tp.
#include <optional>

#include "plan/build_moe_rows.h"
#include "plan/build_shared_experts.h"

namespace foretrain::plan {

namespace {

struct MoeEmitter : MoeRows {
  std::optional<SharedExperts> shared;

  MoeEmitter(const LayerEmitter& layer, bool in_backward) : MoeRows(layer, in_backward) {
    if (e.shared > 0) {
      shared.emplace(layer, in_backward);
    }
  }

  bool has_bias() const { return c.model.moe.bias; }

  GroupedMatmul grouped(Direction d, std::int64_t out, std::int64_t in) const {
    return {d,
            e.local,
            e.arriving,
            out,
            in,
            c.type.matmul,
            d == Direction::backward_weight ? c.type.gradient : c.type.activation};
  }
  void grouped_forward(Phase phase, Operand x, const std::string& w, Operand y, std::int64_t out, std::int64_t in) {
    bound(b.emit(grouped(Direction::forward, out, in), kCompute, phase, {x, weight(w), of(m.offsets)}, {y}));
  }
  void grouped_input(Operand dy, const std::string& w, Operand dx, std::int64_t out, std::int64_t in) {
    bound(b.emit(grouped(Direction::backward_input, out, in), kCompute, Phase::backward_input,
                 {dy, weight(w), of(m.offsets)}, {dx}));
  }
  void grouped_weight(Operand dy, Operand x, const std::string& w, std::int64_t out, std::int64_t in) {
    const Operand dw = grad(w);
    bound(b.emit(grouped(Direction::backward_weight, out, in), kCompute, Phase::backward_weight,
                 {dy, x, of(m.offsets), dw}, {dw}));
  }

  Gate gate(Direction d) const {
    const workloads::Moe& moe = c.model.moe;
    Gate g;
    g.direction = d;
    g.tokens = e.tokens;
    g.experts = e.experts;
    g.top_k = moe.top_k;
    g.groups = moe.groups;
    g.top_groups = moe.top_groups;
    g.group_best = moe.group_best;
    g.router = moe.router;
    g.normalize = moe.normalize_weights;
    g.scale = moe.weight_scale;
    g.dtype = c.type.statistic;
    if (d != Direction::forward && moe.aux_loss > 0) {
      // The step's loss is the mean over its microbatches; partial sums over tp take equal parts.
      g.balance = moe.aux_loss * static_cast<double>(c.n.batch) / static_cast<double>(c.job.workload.global_batch);
      g.balance /= e.own_tokens ? 1 : c.tp;
      g.parts = balanced_parts(c);
    }
    return g;
  }

  // Tables of rows from the router's scores; the weights of the choices go where the tokens go.
  void route(Phase phase, Operand h) {
    const Operand logits = temporary("logits", c.type.statistic, e.tokens * e.experts);
    const Matmul router{e.tokens, e.experts, c.n.hidden,        false,           true,
                        false,    false,     c.type.activation, c.type.statistic};
    b.emit(router, kCompute, phase, {h, weight("moe.router.weight")}, {logits});
    if (has_bias()) {
      b.emit(router_bias(Direction::forward), kCompute, phase, {logits, weight("moe.router.bias")}, {logits});
    }
    const Operand weights = temporary("choice_weights", c.type.statistic, e.choices);
    b.emit(gate(Direction::forward), kCompute, phase, {logits}, {of(m.scores), weights, of(m.chosen)});
    const bool together = of(m.counts).elements > e.experts;  // those of all that route the microbatch
    const Operand counts = together ? temporary("own_counts", Dtype::i32, e.experts) : of(m.counts);
    b.emit(Route{RouteStep::count, e.choices, e.experts, e.members, e.capacity}, kCompute, phase, {of(m.chosen)},
           {of(m.place), counts});
    if (together) {
      const StreamId stream = c.groups.balanced == c.groups.tp ? c.tp_stream() : c.ep_stream();
      b.emit(
          collective(phase, CollectiveKind::all_gather, c.groups.balanced, Dtype::i32, of(m.counts).elements, "counts"),
          stream, phase, {counts}, {of(m.counts)});
      if (c.job.strategy.overlap_ep) {
        b.join(phase);  // only the backward reads them, and this block's end waits for nothing
      }
    }
    Operand arrived = counts;
    if (exchanges()) {
      arrived = temporary("arrived_counts", Dtype::i32, e.experts);
      b.emit(collective(phase, CollectiveKind::all_to_all, c.groups.ep, Dtype::i32, e.experts, "counts.dispatch"),
             c.ep_stream(), phase, {counts}, {arrived});
    }
    b.emit(Route{RouteStep::arrange, e.arriving, e.experts, e.members, 0}, kCompute, phase, {counts, arrived},
           {of(m.order), of(m.offsets), of(m.to), of(m.from)});
    send(phase, "weights", of_weights(), weights, of(m.weights));
  }

  ExpertActivation activation(Direction d) const {
    return {d, c.model.activation, e.local, e.arriving, e.ffn, c.type.activation};
  }

  ExpertBias router_bias(Direction d) const { return {d, 0, e.tokens, e.experts, false, 1.0, c.type.statistic}; }
  ExpertBias up_bias(Direction d) const { return {d, e.local, e.arriving, e.ffn_in, false, 1.0, c.type.activation}; }
  // Of a row's weighted output, which tp ranks may have a part of each.
  ExpertBias down_bias(Direction d) const {
    return {d, e.local, e.arriving, c.n.hidden, true, e.own_tokens ? 1.0 : 1.0 / c.tp, c.type.activation};
  }
  void add_bias(Phase phase, const ExpertBias& bias, const std::string& name, Operand y) {
    if (has_bias()) {
      std::vector<Operand> reads{y, weight(name), of(m.offsets)};
      if (bias.weighted) {
        reads.push_back(of(m.weights));
      }
      bound(b.emit(bias, kCompute, phase, std::move(reads), {y}));
    }
  }
  void bias_gradients(Operand d_up, Operand d_outputs) {
    if (has_bias()) {
      const Operand up = grad("experts.up.bias"), down = grad("experts.down.bias");
      bound(b.emit(up_bias(Direction::backward_weight), kCompute, Phase::backward_weight, {d_up, of(m.offsets), up},
                   {up}));
      bound(b.emit(down_bias(Direction::backward_weight), kCompute, Phase::backward_weight,
                   {d_outputs, of(m.offsets), of(m.weights), down}, {down}));
    }
  }

  void activate(Phase phase) {
    bound(
        b.emit(activation(Direction::forward), kCompute, phase, {of(m.up), of(m.weights), of(m.offsets)}, {of(m.act)}));
  }

  // What a list of modules has the backward compute again.
  void compute_again() {
    if (again.norms) {
      norm_forward(Phase::recompute, all(t.x_mid), "norm2", all(t.norm2), t.stats2);
    }
    if (again.activation) {
      activate(Phase::recompute);
      if (shared) {
        shared->activate(Phase::recompute);
      }
    }
  }

  // All rows of the norm's output, where somebody needs them: the shared experts, or experts cut over tp.
  bool needs_all_rows() const { return shared || !e.own_tokens; }

  Operand shared_partial() { return crossing("shared.partial", c.type.activation, c.n.rows * c.n.hidden); }
  Operand outputs() { return crossing("outputs", c.type.activation, e.arriving * c.n.hidden); }

  // To the experts' ranks, there, and back: each part ends with tokens on their way.
  void forward(Phase phase, MoePart part) {
    const Dtype a = c.type.activation;
    if (part == MoePart::before) {
      norm_forward(phase, all(t.x_mid), "norm2", all(t.norm2), t.stats2);
      const Operand rows = needs_all_rows() ? gather_rows(c, b, phase, all(t.norm2), "moe.input") : all(t.norm2);
      const Operand h = e.own_tokens ? all(t.norm2) : rows;
      if (shared) {
        shared->forward(phase, rows, shared_partial());
      }
      route(phase, h);
      send(phase, "tokens", of_tokens(), h, of(m.input));
    } else if (part == MoePart::experts) {
      receive(phase, "weights", of_weights(), of(m.weights));
      receive(phase, "tokens", of_tokens(), of(m.input));
      grouped_forward(phase, of(m.input), "experts.up.weight", of(m.up), e.ffn_in, c.n.hidden);
      add_bias(phase, up_bias(Direction::forward), "experts.up.bias", of(m.up));
      activate(phase);
      grouped_forward(phase, of(m.act), "experts.down.weight", outputs(), c.n.hidden, e.ffn);
      add_bias(phase, down_bias(Direction::forward), "experts.down.bias", outputs());
      send_back(phase, "tokens", of_tokens(), outputs());
    } else {
      const Operand routed = temporary("routed", a, e.tokens * c.n.hidden);
      receive_back(phase, "tokens", of_tokens(), outputs(), routed);
      const Operand y = together(phase, routed, shared ? shared_partial() : Operand{}, "moe.output");
      residual_add(phase, all(t.x_mid), y, "", false, output(phase));
    }
  }

  // The routed and the shared part, over the tokens of a shard, summed over tp.
  Operand together(Phase phase, Operand routed, Operand beside, const std::string& name) {
    if (e.own_tokens) {
      if (shared) {
        const Operand sum = reduce_rows(c, b, phase, beside, name);
        b.emit(ResidualAdd{e.tokens, c.n.hidden, false, c.type.activation}, kCompute, phase, {routed, sum}, {routed});
      }
      return routed;
    }
    if (shared) {
      b.emit(ResidualAdd{e.tokens, c.n.hidden, false, c.type.activation}, kCompute, phase, {routed, beside}, {routed});
    }
    return reduce_rows(c, b, phase, routed, name);
  }

  Operand d_outputs() { return kept_or_crossing("d_outputs", c.type.activation, e.arriving * c.n.hidden); }
  Operand d_rows() { return crossing("d_rows", c.type.activation, e.arriving * c.n.hidden); }
  Operand d_weights() { return crossing("d_weights", c.type.statistic, e.arriving); }
  Operand d_shared() { return crossing("shared.d_input", c.type.activation, c.n.rows * c.n.hidden); }
  // The norm's output, all rows, as weight gradients read it; from its shards in the first part.
  Operand rows_again() {
    return needs_all_rows() && c.sequence_parallel
               ? crossing("input_again.full", c.type.activation, c.n.rows * c.n.hidden)
               : all(t.norm2);
  }

  void backward(BackwardPart half, MoePart part, const ResidualGradients& d) {
    const bool inputs = half != BackwardPart::weight, weights = half != BackwardPart::input;
    if (part == MoePart::before) {
      backward_begin(half, d);
    } else if (part == MoePart::experts) {
      backward_of_experts(inputs, weights);
    } else {
      backward_end(inputs, weights, d);
    }
  }

  void backward_begin(BackwardPart half, const ResidualGradients& d) {
    const bool inputs = half != BackwardPart::weight, weights = half != BackwardPart::input;
    if (inputs && !again.all) {
      compute_again();
    }
    const Operand rows_dy = needs_all_rows() ? full_gradient(half, d.out, "moe.output_gradient") : d.out;
    const Operand dy = e.own_tokens ? d.out : rows_dy;
    if (weights && needs_all_rows() && c.sequence_parallel) {
      gather_rows_into(c, b, Phase::backward_weight, all(t.norm2), rows_again(), "moe.input_again");
      wait_unless_overlapped(c, b, Phase::backward_weight);
    }
    if (shared) {
      shared->backward(half, rows_dy, rows_again(), d_shared());
    }
    if (inputs) {
      send(Phase::backward_input, "gradients", of_tokens(), dy, d_outputs());
    }
  }

  void backward_of_experts(bool inputs, bool weights) {
    const Dtype a = c.type.activation;
    const Operand d_up = kept("d_up", a, e.arriving * e.ffn_in);
    if (inputs) {
      receive(Phase::backward_input, "gradients", of_tokens(), d_outputs());
      const Operand d_act = temporary("d_act", a, e.arriving * e.ffn);
      grouped_input(d_outputs(), "experts.down.weight", d_act, c.n.hidden, e.ffn);
      bound(b.emit(activation(Direction::backward_input), kCompute, Phase::backward_input,
                   {d_act, of(m.up), of(m.weights), of(m.offsets)}, {d_up, d_weights()}));
      if (has_bias()) {
        bound(b.emit(down_bias(Direction::backward_input), kCompute, Phase::backward_input,
                     {d_outputs(), weight("experts.down.bias"), of(m.offsets), d_weights()}, {d_weights()}));
        bias_gradients(d_up, d_outputs());
      }
      send_back(Phase::backward_input, "weights", of_weights(), d_weights());
      grouped_input(d_up, "experts.up.weight", d_rows(), e.ffn_in, c.n.hidden);
      send_back(Phase::backward_input, "gradients", of_tokens(), d_rows());
    }
    if (weights) {  // while gradients are on their way
      grouped_weight(d_outputs(), of(m.act), "experts.down.weight", c.n.hidden, e.ffn);
      grouped_weight(d_up, of(m.input), "experts.up.weight", e.ffn_in, c.n.hidden);
    }
  }

  void backward_end(bool inputs, bool weights, const ResidualGradients& d) {
    const Operand d_h = temporary("d_input", c.type.activation, e.tokens * c.n.hidden);
    const Operand d_logits = kept("d_logits", c.type.statistic, e.tokens * e.experts);
    if (inputs) {
      receive_back(Phase::backward_input, "gradients", of_tokens(), d_rows(), d_h);
      router_input(d_logits, d_h);
    }
    if (weights) {
      const Matmul to_weight{e.experts, c.n.hidden, e.tokens,         true,           false,
                             false,     true,       c.type.statistic, c.type.gradient};
      emit_weight_gradient(c, b, to_weight, d_logits, e.own_tokens ? all(t.norm2) : rows_again(),
                           grad("moe.router.weight"));
    }
    if (inputs) {
      const Operand d_sum = together(Phase::backward_input, d_h, shared ? d_shared() : Operand{}, "moe.input_gradient");
      norm_backward(d_sum, all(t.x_mid), t.stats2, "norm2", d.out, d.mid);
    }
  }

  // From the gradients of the weights to those of the logits, and on to the router's input.
  void router_input(Operand d_logits, Operand d_h) {
    const Phase phase = Phase::backward_input;
    const Operand d_choices = temporary("d_choice_weights", c.type.statistic, e.choices);
    receive_back(phase, "weights", of_weights(), d_weights(), d_choices);
    const Gate g = gate(Direction::backward_input);
    std::vector<Operand> reads{of(m.scores), of(m.chosen), d_choices};
    if (g.balance != 0) {
      reads.push_back(of(m.counts));
    }
    b.emit(g, kCompute, phase, std::move(reads), {d_logits});
    if (has_bias()) {
      const Operand db = grad("moe.router.bias");
      b.emit(router_bias(Direction::backward_weight), kCompute, Phase::backward_weight, {d_logits, db}, {db});
    }
    const Matmul to_input{e.tokens, c.n.hidden,       e.experts,        false, false, false,
                          true,     c.type.statistic, c.type.activation};
    b.emit(to_input, kCompute, phase, {d_logits, weight("moe.router.weight"), d_h}, {d_h});
  }
};

}  // namespace

void moe_forward(const LayerEmitter& e, Phase phase) {
  for (const MoePart part : kMoeParts) {
    moe_forward(e, phase, part);
  }
}

void moe_backward(const LayerEmitter& e, BackwardPart half, const ResidualGradients& d) {
  for (const MoePart part : kMoeParts) {
    moe_backward(e, half, part, d);
  }
}

void moe_forward(const LayerEmitter& e, Phase phase, MoePart part) {
  MoeEmitter(e, phase == Phase::recompute).forward(phase, part);
}

void moe_backward(const LayerEmitter& e, BackwardPart half, MoePart part, const ResidualGradients& d) {
  MoeEmitter(e, true).backward(half, part, d);
}

}  // namespace foretrain::plan
