#include "plan/op_text.h"

#include <fmt/format.h>

#include <variant>

namespace foretrain::plan {
namespace {

std::string tag_name(const PlanGraph& g, std::int32_t tag) {
  return tag >= 0 && static_cast<std::size_t>(tag) < g.tags.size() ? g.tags[static_cast<std::size_t>(tag)] : "?";
}

std::string group_name(const PlanGraph& g, GroupId group) {
  return group >= 0 && static_cast<std::size_t>(group) < g.groups.size()
             ? g.groups[static_cast<std::size_t>(group)].name
             : "no group";
}

std::string bucket_text(const PlanGraph& g, const Bucket& b) {
  if (b.shard_group == kNoGroup) {
    return fmt::format("{} of family {}", b.elements, b.family);
  }
  return fmt::format("{} of family {} in {} shards over {}", b.elements, b.family, b.shards,
                     group_name(g, b.shard_group));
}

std::string code_text(const Code& code, Dtype dtype) {
  const std::string kept = code.kind == Coding::top_k ? fmt::format("{} of ", code.kept) : "";
  return fmt::format(" {}{} {} in {} bytes", kept, code.elements, name(dtype), code.bytes());
}

// What follows the kind's name.
// What a mask hides beside the keys behind a query.
std::string mask_text(std::int64_t window, std::int64_t document) {
  return (window > 0 ? fmt::format(", window {}", window) : "") +
         (document > 0 ? fmt::format(", documents of {}", document) : "");
}

struct Shapes {
  const PlanGraph& g;

  std::string operator()(const Join&) const { return ""; }
  std::string operator()(const Matmul& w) const {
    return fmt::format(" {}x{}x{} {} -> {}{}{}{}{}{}", w.m, w.n, w.k, name(w.in), name(w.out),
                       w.trans_a ? ", A transposed" : "", w.trans_b ? ", B transposed" : "", w.bias ? ", + bias" : "",
                       w.accumulate ? ", accumulated" : "",
                       w.epilogue == Epilogue::none ? "" : fmt::format(", {}", name(w.epilogue)));
  }
  std::string operator()(const Attention& w) const {
    return fmt::format(" batch {} seq {} heads {}/{} x {}{} {}{}{}", w.batch, w.seq, w.heads, w.kv_heads, w.head_dim,
                       w.v_dim() == w.head_dim ? "" : fmt::format(" and {}", w.v_dim()), name(w.dtype),
                       w.causal ? ", causal" : "", mask_text(w.window, w.document)) +
           (w.key_seq > 0 ? fmt::format(", {} keys", w.key_seq) : "") + (w.biased ? ", + bias by distance" : "") +
           (w.padded ? ", up to lengths" : "");
  }
  std::string operator()(const RelativeBias& w) const {
    return fmt::format(" seq {} heads {} from {} buckets up to {} {}", w.seq, w.heads, w.buckets, w.max_distance,
                       name(w.dtype));
  }
  std::string operator()(const StateSpace& w) const {
    return fmt::format(" batch {} seq {} heads {} x {} state {} {}", w.batch, w.seq, w.heads, w.head_dim, w.state,
                       name(w.dtype));
  }
  std::string operator()(const AttentionSinks& w) const {
    return fmt::format(" batch {} seq {} heads {} x {} {}", w.batch, w.seq, w.heads, w.v_dim, name(w.dtype));
  }
  std::string operator()(const Norm& w) const {
    return fmt::format(" {} {}x{} {}", workloads::name(w.kind), w.rows, w.cols, name(w.dtype));
  }
  std::string operator()(const LatentHeads& w) const {
    return fmt::format(" batch {} seq {} heads {} x ({} + {}) and {} {}", w.batch, w.seq, w.heads, w.nope_dim,
                       w.rope_dim, w.v_dim, name(w.dtype));
  }
  std::string operator()(const SplitColumns& w) const {
    return fmt::format(" {}x({} + {}) {}", w.rows, w.left, w.right, name(w.dtype));
  }
  std::string operator()(const HeadNorm& w) const {
    return fmt::format(" {} rows heads {}/{} x {} {}", w.rows, w.heads, w.kv_heads, w.head_dim, name(w.dtype));
  }
  std::string operator()(const Activation& w) const {
    return fmt::format(" {} {}x{} {}", workloads::name(w.kind), w.rows, w.cols, name(w.dtype));
  }
  std::string operator()(const ResidualAdd& w) const {
    return fmt::format(" {}x{} {}{}", w.rows, w.cols, name(w.dtype), w.bias ? ", + bias" : "");
  }
  std::string operator()(const BiasGradient& w) const {
    return fmt::format(" {}x{} {}", w.rows, w.cols, name(w.dtype));
  }
  std::string operator()(const Rotary& w) const {
    return fmt::format(" batch {} seq {} heads {}/{} x {}{} {}", w.batch, w.seq, w.heads, w.kv_heads, w.head_dim,
                       w.rotary_dim == w.head_dim ? "" : fmt::format(" ({} rotated)", w.rotary_dim), name(w.dtype));
  }
  std::string operator()(const Embedding& w) const {
    return fmt::format(" {} tokens x {} from {} rows {}", w.tokens, w.hidden, w.rows, name(w.dtype));
  }
  std::string operator()(const PositionAdd& w) const {
    return fmt::format(" {}x{} seq {} {}", w.rows, w.hidden, w.seq, name(w.dtype));
  }
  std::string operator()(const FirstTokens& w) const {
    return fmt::format(" of {} sequences of {}, {}x{} {}", w.sequences, w.seq, w.rows, w.hidden, name(w.dtype));
  }
  std::string operator()(const CrossEntropy& w) const {
    return fmt::format(" {}x{} of {} {}", w.rows, w.cols, w.vocab, name(w.dtype));
  }
  std::string operator()(const OutputLoss& w) const {
    return fmt::format(" {} {}x{} {}", workloads::name(w.kind), w.rows, w.cols, name(w.dtype));
  }
  std::string operator()(const SquaredNorm& w) const {
    return fmt::format(" {} {}", bucket_text(g, w.bucket), name(w.dtype));
  }
  std::string operator()(const ClipCoefficient& w) const {
    return fmt::format(" {} tensors, clip {}", w.tensors, w.clip);
  }
  std::string operator()(const OptimizerStep& w) const {
    const bool nearest = w.precision.rounding == workloads::Rounding::nearest;
    return fmt::format(" {} {}, {}{}", workloads::name(w.optimizer.kind), bucket_text(g, w.bucket), w.precision.word,
                       nearest ? "" : ", stochastic rounding");
  }
  std::string operator()(const LambUpdate& w) const {
    return fmt::format(" {}, {}", bucket_text(g, w.bucket), w.precision.word);
  }
  std::string operator()(const LossScale& w) const { return fmt::format(" from {}", w.scaling.initial); }
  std::string operator()(const Fill& w) const { return fmt::format(" {} {}", w.elements, name(w.dtype)); }
  std::string operator()(const Accumulate& w) const {
    const std::string from = w.from == w.dtype ? "" : fmt::format("{} to ", name(w.from));
    return fmt::format(" {} {}{}", w.elements, from, name(w.dtype));
  }
  std::string operator()(const Cast& w) const {
    return fmt::format(" {} {} to {}", w.elements, name(w.from), name(w.to));
  }
  std::string operator()(const Encode& w) const { return code_text(w.code, w.dtype); }
  std::string operator()(const Decode& w) const {
    return code_text(w.code, w.dtype) + fmt::format(", the sum of {}", w.parts);
  }
  std::string operator()(const OuterStep& w) const {
    return fmt::format(" {} {}, mean of {}", w.elements, name(w.weights), w.replicas);
  }
  std::string operator()(const SumParts& w) const {
    return fmt::format(" {} of {} {}{}", w.parts, w.elements, name(w.dtype), w.accumulate ? ", accumulate" : "");
  }
  std::string operator()(const Collective& w) const {
    return fmt::format(
        " {} {}{}{} over {}{} as {}", w.elements, name(w.dtype), w.reduction == Reduction::max ? " (max)" : "",
        w.row > 0 ? fmt::format(" in rows of {}", w.row) : "", group_name(g, w.group),
        w.root < 0 ? "" : fmt::format(" {} {}", w.kind == CollectiveKind::gather ? "to" : "from", w.root),
        tag_name(g, w.tag));
  }
  std::string operator()(const Exchange& w) const {
    std::string text;
    for (const Message& m : w.messages) {
      text += fmt::format("{}{} {} {} {} {} as {}", text.empty() ? " " : "; ", m.elements, name(m.dtype),
                          m.send ? "to" : "from", name(m.axis),
                          m.relative ? fmt::format("{:+}", m.peer) : std::to_string(m.peer), tag_name(g, m.tag));
    }
    return text;
  }
  std::string operator()(const Copy& w) const { return fmt::format(" {} bytes", w.bytes); }
  std::string operator()(const Host& w) const {
    if (w.cols > 0) {
      return fmt::format(" {} samples x {} {}", w.sequences, w.cols, name(w.dtype));
    }
    return fmt::format(" {} sequences x {}{}", w.sequences, w.seq,
                       w.masking.count > 0 ? fmt::format(", {} masked of each", w.masking.count) : "") +
           (w.part.length > 0 ? fmt::format(" from {} on of {}", w.part.first, w.part.length) : "");
  }
  std::string operator()(const Channel& w) const {
    const bool bounded = w.step == ChannelStep::release && w.staleness >= 0;
    return fmt::format(" {} {} over {}{}{} as {}", w.elements, name(w.dtype), group_name(g, w.group),
                       bounded ? fmt::format(" staleness {}", w.staleness) : "", w.in_turn ? " in turn" : "",
                       tag_name(g, w.tag));
  }
  std::string operator()(const RingAttention& w) const {
    const bool attends = w.step == RingStep::attend || w.step == RingStep::attend_backward;
    return fmt::format(" batch {} seq {} of {} parts heads {}/{} x {} {}{}{}", w.batch, w.seq, w.parts, w.heads,
                       w.kv_heads, w.head_dim, name(w.dtype),
                       attends ? fmt::format(", keys from cp -{}", w.distance) : "",
                       w.causal ? mask_text(w.window, w.document) : ", not causal");
  }
  std::string operator()(const Reshard& w) const {
    return fmt::format(" batch {} seq {} x ({} + {} + {}) {} over {}", w.batch, w.seq, w.q, w.k, w.v, name(w.dtype),
                       w.parts);
  }
  std::string operator()(const Gate& w) const {
    return fmt::format(" {} {} tokens to {} of {} {}", workloads::name(w.router), w.tokens, w.top_k, w.experts,
                       name(w.dtype));
  }
  std::string operator()(const Route& w) const {
    return fmt::format(" {} rows to {} experts on {} ranks{}", w.rows, w.experts, w.members,
                       w.capacity > 0 ? fmt::format(", at most {} each", w.capacity) : "");
  }
  std::string operator()(const Permute& w) const {
    return fmt::format(" {}x{} of {} {}", w.rows, w.copies, w.cols, name(w.dtype));
  }
  std::string operator()(const GroupedMatmul& w) const {
    return fmt::format(".{} {} experts, {} rows, {} -> {} {} -> {}", name(w.direction), w.experts, w.rows,
                       w.in_features, w.out_features, name(w.in), name(w.out));
  }
  std::string operator()(const ExpertBias& w) const {
    return fmt::format(" {} experts, {}x{} {}", w.experts, w.rows, w.cols, name(w.dtype));
  }
  std::string operator()(const ExpertActivation& w) const {
    return fmt::format(" {} {}x{} {}", workloads::name(w.kind), w.rows, w.cols, name(w.dtype));
  }
};

}  // namespace

std::string op_text(const PlanGraph& graph, const Op& op) {
  return kind_name(op.work) + std::visit(Shapes{graph}, op.work);
}

std::string operand_text(const PlanGraph& graph, const Role& role, const Operand& operand) {
  std::string text = role.buffers[static_cast<std::size_t>(operand.buffer)].name;
  if (operand.layer_delta != 0) {
    text += fmt::format("(layer{:+})", operand.layer_delta);
  }
  std::int64_t end = 0;  // a graph that is refused is named too, whatever stands in it
  text += __builtin_add_overflow(operand.offset, operand.elements, &end)
              ? fmt::format("[{},{}+{})", operand.offset, operand.offset, operand.elements)
              : fmt::format("[{},{})", operand.offset, end);
  if (operand.rank_group != kNoGroup) {
    text += fmt::format("+{}*{}", operand.rank_stride, group_name(graph, operand.rank_group));
  }
  return text;
}

}  // namespace foretrain::plan
