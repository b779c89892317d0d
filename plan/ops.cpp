#include "plan/ops.h"

#include <algorithm>
#include <string>

namespace foretrain::plan {

namespace {

std::string dotted(std::string_view kind, std::string_view step) {
  return std::string(kind) + "." + std::string(step);
}

struct KindName {
  std::string operator()(const Join&) const { return "join"; }
  std::string operator()(const Matmul&) const { return "matmul"; }
  std::string operator()(const Attention& w) const { return dotted("attention", name(w.step)); }
  std::string operator()(const Norm& w) const { return dotted("norm", name(w.direction)); }
  std::string operator()(const LatentHeads& w) const { return dotted("latent_heads", name(w.direction)); }
  std::string operator()(const SplitColumns& w) const { return dotted("split_columns", name(w.direction)); }
  std::string operator()(const AttentionSinks& w) const { return dotted("attention_sinks", name(w.direction)); }
  std::string operator()(const RelativeBias& w) const { return dotted("relative_bias", name(w.direction)); }
  std::string operator()(const StateSpace& w) const { return dotted("state_space", name(w.direction)); }
  std::string operator()(const HeadNorm& w) const { return dotted("head_norm", name(w.direction)); }
  std::string operator()(const Activation& w) const { return dotted("activation", name(w.direction)); }
  std::string operator()(const ResidualAdd&) const { return "residual_add"; }
  std::string operator()(const BiasGradient&) const { return "bias_gradient"; }
  std::string operator()(const Rotary& w) const { return dotted("rotary", name(w.direction)); }
  std::string operator()(const Embedding& w) const { return dotted("embedding", name(w.direction)); }
  std::string operator()(const PositionAdd& w) const { return dotted("position_add", name(w.direction)); }
  std::string operator()(const FirstTokens& w) const { return dotted("first_tokens", name(w.direction)); }
  std::string operator()(const CrossEntropy& w) const { return dotted("cross_entropy", name(w.step)); }
  std::string operator()(const OutputLoss& w) const { return dotted("output_loss", name(w.direction)); }
  std::string operator()(const SquaredNorm&) const { return "squared_norm"; }
  std::string operator()(const ClipCoefficient&) const { return "clip_coefficient"; }
  std::string operator()(const OptimizerStep&) const { return "optimizer_step"; }
  std::string operator()(const LambUpdate&) const { return "lamb_update"; }
  std::string operator()(const LossScale& w) const { return dotted("loss_scale", name(w.step)); }
  std::string operator()(const Fill&) const { return "fill"; }
  std::string operator()(const Accumulate&) const { return "accumulate"; }
  std::string operator()(const Cast&) const { return "cast"; }
  std::string operator()(const Encode& w) const { return dotted("encode", foretrain::name(w.code.kind)); }
  std::string operator()(const Decode& w) const { return dotted("decode", foretrain::name(w.code.kind)); }
  std::string operator()(const OuterStep& w) const { return dotted("outer_step", name(w.outer.kind)); }
  std::string operator()(const SumParts&) const { return "sum_parts"; }
  std::string operator()(const Collective& w) const { return std::string(name(w.kind)); }
  std::string operator()(const Exchange& w) const {
    const auto sends = std::count_if(w.messages.begin(), w.messages.end(), [](const Message& m) { return m.send; });
    if (sends == 0) {
      return "recv";
    }
    return sends == static_cast<std::ptrdiff_t>(w.messages.size()) ? "send" : "send_recv";
  }
  std::string operator()(const Copy& w) const { return dotted("copy", name(w.kind)); }
  std::string operator()(const Host& w) const { return std::string(name(w.task)); }
  std::string operator()(const Channel& w) const { return std::string(name(w.step)); }
  std::string operator()(const RingAttention& w) const { return dotted("ring_attention", name(w.step)); }
  std::string operator()(const Reshard& w) const { return dotted("reshard", name(w.step)); }
  std::string operator()(const Gate& w) const { return dotted("gate", name(w.direction)); }
  std::string operator()(const Route& w) const { return dotted("route", name(w.step)); }
  std::string operator()(const Permute& w) const { return dotted("permute", name(w.direction)); }
  std::string operator()(const GroupedMatmul&) const { return "grouped_matmul"; }
  std::string operator()(const ExpertBias& w) const { return dotted("expert_bias", name(w.direction)); }
  std::string operator()(const ExpertActivation& w) const { return dotted("expert_activation", name(w.direction)); }
};

}  // namespace

std::string_view name(Direction d) {
  switch (d) {
    case Direction::forward: return "forward";
    case Direction::backward_input: return "backward_input";
    case Direction::backward_weight: return "backward_weight";
  }
  return "?";
}

std::string_view name(Epilogue e) {
  switch (e) {
    case Epilogue::none: return "none";
    case Epilogue::gelu: return "gelu";
    case Epilogue::gelu_backward: return "gelu_backward";
  }
  return "?";
}

std::string_view name(CrossEntropyStep s) {
  switch (s) {
    case CrossEntropyStep::stats: return "stats";
    case CrossEntropyStep::combine: return "combine";
    case CrossEntropyStep::backward: return "backward";
  }
  return "?";
}

std::string_view name(OuterKind k) {
  switch (k) {
    case OuterKind::average: return "average";
    case OuterKind::sgd: return "sgd";
    case OuterKind::nesterov: return "nesterov";
  }
  return "?";
}

std::string_view name(LossScaleStep s) {
  return s == LossScaleStep::begin ? "begin" : "update";
}

std::string_view name(RouteStep s) {
  switch (s) {
    case RouteStep::count: return "count";
    case RouteStep::arrange: return "arrange";
  }
  return "?";
}

std::string_view name(CopyKind k) {
  switch (k) {
    case CopyKind::device_to_device: return "device_to_device";
    case CopyKind::device_to_host: return "device_to_host";
    case CopyKind::host_to_device: return "host_to_device";
  }
  return "?";
}

std::string_view name(Reduction r) {
  switch (r) {
    case Reduction::sum: return "sum";
    case Reduction::max: return "max";
  }
  return "?";
}

std::string_view name(Phase p) {
  switch (p) {
    case Phase::load: return "load";
    case Phase::forward: return "forward";
    case Phase::recompute: return "recompute";
    case Phase::backward_input: return "backward_input";
    case Phase::backward_weight: return "backward_weight";
    case Phase::grad_reduce: return "grad_reduce";
    case Phase::optimizer: return "optimizer";
    case Phase::param_gather: return "param_gather";
    case Phase::checkpoint: return "checkpoint";
  }
  return "?";
}

std::string_view name(AttentionStep s) {
  switch (s) {
    case AttentionStep::flash_forward: return "flash_forward";
    case AttentionStep::flash_backward: return "flash_backward";
    case AttentionStep::scores: return "scores";
    case AttentionStep::scale_mask: return "scale_mask";
    case AttentionStep::softmax: return "softmax";
    case AttentionStep::scale_mask_softmax: return "scale_mask_softmax";
    case AttentionStep::context: return "context";
    case AttentionStep::context_backward: return "context_backward";
    case AttentionStep::softmax_backward: return "softmax_backward";
    case AttentionStep::scale_backward: return "scale_backward";
    case AttentionStep::softmax_scale_backward: return "softmax_scale_backward";
    case AttentionStep::scores_backward: return "scores_backward";
  }
  return "?";
}

std::string_view name(CollectiveKind k) {
  switch (k) {
    case CollectiveKind::all_reduce: return "all_reduce";
    case CollectiveKind::reduce_scatter: return "reduce_scatter";
    case CollectiveKind::all_gather: return "all_gather";
    case CollectiveKind::broadcast: return "broadcast";
    case CollectiveKind::all_to_all: return "all_to_all";
    case CollectiveKind::gather: return "gather";
    case CollectiveKind::distribute: return "distribute";
  }
  return "?";
}

std::string_view name(ChannelStep s) {
  switch (s) {
    case ChannelStep::put: return "put";
    case ChannelStep::take: return "take";
    case ChannelStep::release: return "release";
    case ChannelStep::fetch: return "fetch";
  }
  return "?";
}

std::string_view name(HostTask t) {
  switch (t) {
    case HostTask::load_inputs: return "load_inputs";
    case HostTask::load_targets: return "load_targets";
    case HostTask::write_checkpoint: return "write_checkpoint";
    case HostTask::load_features: return "load_features";
    case HostTask::load_labels: return "load_labels";
    case HostTask::load_lengths: return "load_lengths";
  }
  return "?";
}

std::string_view name(RingStep s) {
  switch (s) {
    case RingStep::pack: return "pack";
    case RingStep::attend: return "attend";
    case RingStep::merge: return "merge";
    case RingStep::attend_backward: return "attend_backward";
    case RingStep::unpack: return "unpack";
    case RingStep::attend_all: return "attend_all";
    case RingStep::attend_all_backward: return "attend_all_backward";
  }
  return "?";
}

std::string_view name(ReshardStep s) {
  switch (s) {
    case ReshardStep::split_heads: return "split_heads";
    case ReshardStep::join_sequence: return "join_sequence";
    case ReshardStep::split_sequence: return "split_sequence";
    case ReshardStep::join_heads: return "join_heads";
  }
  return "?";
}

std::optional<AttentionCost> attention_of(const Work& w) {
  if (const auto* attention = std::get_if<Attention>(&w)) {
    return AttentionCost{*attention};
  }
  const auto* ring = std::get_if<RingAttention>(&w);
  if (ring == nullptr) {
    return std::nullopt;
  }
  Attention a{AttentionStep::flash_forward,
              ring->kind,
              ring->batch,
              ring->seq,
              ring->heads,
              ring->kv_heads,
              ring->head_dim,
              ring->causal,
              ring->dtype,
              ring->v_dim};
  switch (ring->step) {
    case RingStep::attend: return AttentionCost{a};
    case RingStep::attend_backward: a.step = AttentionStep::flash_backward; return AttentionCost{a};
    case RingStep::attend_all_backward: a.step = AttentionStep::flash_backward; [[fallthrough]];
    case RingStep::attend_all:
      a.seq *= ring->parts;
      a.window = ring->window;
      a.document = ring->document;
      return AttentionCost{a, 1.0 / ring->parts, ring->causal ? 2 : 1};  // with a mask one for each piece of the share
    default: return std::nullopt;
  }
}

std::string kind_name(const Work& w) {
  return std::visit(KindName{}, w);
}

}  // namespace foretrain::plan
