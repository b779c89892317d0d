// The words of the plan graph's enumerations and ops, for writing and reading. Used by graph_fields.h only.
#pragma once

#include <array>
#include <string_view>
#include <variant>

#include "plan/graph.h"

namespace foretrain::plan {

// The last value of an enumeration; name() has the words.
template <class E>
inline constexpr E kLast{};
template <>
inline constexpr Dtype kLast<Dtype> = Dtype::u8;
template <>
inline constexpr Coding kLast<Coding> = Coding::top_k;
template <>
inline constexpr OuterKind kLast<OuterKind> = OuterKind::nesterov;
template <>
inline constexpr Axis kLast<Axis> = Axis::tp;
template <>
inline constexpr Phase kLast<Phase> = Phase::checkpoint;
template <>
inline constexpr AttentionStep kLast<AttentionStep> = AttentionStep::scores_backward;
template <>
inline constexpr workloads::AttentionKind kLast<workloads::AttentionKind> = workloads::AttentionKind::cudnn;
template <>
inline constexpr Direction kLast<Direction> = Direction::backward_weight;
template <>
inline constexpr workloads::Norm kLast<workloads::Norm> = workloads::Norm::rmsnorm;
template <>
inline constexpr workloads::Activation kLast<workloads::Activation> = workloads::Activation::tanh;
template <>
inline constexpr workloads::Loss kLast<workloads::Loss> = workloads::Loss::cross_entropy;
template <>
inline constexpr workloads::Router kLast<workloads::Router> = workloads::Router::sigmoid;
template <>
inline constexpr RouteStep kLast<RouteStep> = RouteStep::arrange;
template <>
inline constexpr Epilogue kLast<Epilogue> = Epilogue::gelu_backward;
template <>
inline constexpr CrossEntropyStep kLast<CrossEntropyStep> = CrossEntropyStep::backward;
template <>
inline constexpr workloads::Rounding kLast<workloads::Rounding> = workloads::Rounding::stochastic;
template <>
inline constexpr workloads::OptimizerKind kLast<workloads::OptimizerKind> = workloads::OptimizerKind::lamb;
template <>
inline constexpr workloads::Schedule kLast<workloads::Schedule> = workloads::Schedule::inverse_sqrt;
template <>
inline constexpr LossScaleStep kLast<LossScaleStep> = LossScaleStep::update;
template <>
inline constexpr RingStep kLast<RingStep> = RingStep::attend_all_backward;
template <>
inline constexpr ReshardStep kLast<ReshardStep> = ReshardStep::join_heads;
template <>
inline constexpr CollectiveKind kLast<CollectiveKind> = CollectiveKind::distribute;
template <>
inline constexpr ChannelStep kLast<ChannelStep> = ChannelStep::fetch;
template <>
inline constexpr Reduction kLast<Reduction> = Reduction::max;
template <>
inline constexpr CopyKind kLast<CopyKind> = CopyKind::host_to_device;
template <>
inline constexpr HostTask kLast<HostTask> = HostTask::load_lengths;
template <>
inline constexpr StreamKind kLast<StreamKind> = StreamKind::host;
template <>
inline constexpr BufferKind kLast<BufferKind> = BufferKind::host;
template <>
inline constexpr Lifetime kLast<Lifetime> = Lifetime::block;
template <>
inline constexpr Replicas kLast<Replicas> = Replicas::per_layer;
template <>
inline constexpr Init kLast<Init> = Init::ones;

// What ops are called.
template <class W>
inline constexpr std::string_view kWorkWord{};
template <>
inline constexpr std::string_view kWorkWord<Join> = "join";
template <>
inline constexpr std::string_view kWorkWord<Matmul> = "matmul";
template <>
inline constexpr std::string_view kWorkWord<Attention> = "attention";
template <>
inline constexpr std::string_view kWorkWord<Norm> = "norm";
template <>
inline constexpr std::string_view kWorkWord<Activation> = "activation";
template <>
inline constexpr std::string_view kWorkWord<ResidualAdd> = "residual_add";
template <>
inline constexpr std::string_view kWorkWord<BiasGradient> = "bias_gradient";
template <>
inline constexpr std::string_view kWorkWord<Rotary> = "rotary";
template <>
inline constexpr std::string_view kWorkWord<Embedding> = "embedding";
template <>
inline constexpr std::string_view kWorkWord<PositionAdd> = "position_add";
template <>
inline constexpr std::string_view kWorkWord<CrossEntropy> = "cross_entropy";
template <>
inline constexpr std::string_view kWorkWord<SquaredNorm> = "squared_norm";
template <>
inline constexpr std::string_view kWorkWord<ClipCoefficient> = "clip_coefficient";
template <>
inline constexpr std::string_view kWorkWord<OptimizerStep> = "optimizer_step";
template <>
inline constexpr std::string_view kWorkWord<Fill> = "fill";
template <>
inline constexpr std::string_view kWorkWord<Accumulate> = "accumulate";
template <>
inline constexpr std::string_view kWorkWord<SumParts> = "sum_parts";
template <>
inline constexpr std::string_view kWorkWord<Collective> = "collective";
template <>
inline constexpr std::string_view kWorkWord<Exchange> = "exchange";
template <>
inline constexpr std::string_view kWorkWord<Copy> = "copy";
template <>
inline constexpr std::string_view kWorkWord<Host> = "host";
template <>
inline constexpr std::string_view kWorkWord<Channel> = "channel";
template <>
inline constexpr std::string_view kWorkWord<HeadNorm> = "head_norm";
template <>
inline constexpr std::string_view kWorkWord<LatentHeads> = "latent_heads";
template <>
inline constexpr std::string_view kWorkWord<SplitColumns> = "split_columns";
template <>
inline constexpr std::string_view kWorkWord<RingAttention> = "ring_attention";
template <>
inline constexpr std::string_view kWorkWord<Reshard> = "reshard";
template <>
inline constexpr std::string_view kWorkWord<Gate> = "gate";
template <>
inline constexpr std::string_view kWorkWord<Route> = "route";
template <>
inline constexpr std::string_view kWorkWord<Permute> = "permute";
template <>
inline constexpr std::string_view kWorkWord<GroupedMatmul> = "grouped_matmul";
template <>
inline constexpr std::string_view kWorkWord<ExpertActivation> = "expert_activation";
template <>
inline constexpr std::string_view kWorkWord<AttentionSinks> = "attention_sinks";
template <>
inline constexpr std::string_view kWorkWord<StateSpace> = "state_space";
template <>
inline constexpr std::string_view kWorkWord<ExpertBias> = "expert_bias";
template <>
inline constexpr std::string_view kWorkWord<OutputLoss> = "output_loss";
template <>
inline constexpr std::string_view kWorkWord<LambUpdate> = "lamb_update";
template <>
inline constexpr std::string_view kWorkWord<LossScale> = "loss_scale";
template <>
inline constexpr std::string_view kWorkWord<RelativeBias> = "relative_bias";
template <>
inline constexpr std::string_view kWorkWord<Cast> = "cast";
template <>
inline constexpr std::string_view kWorkWord<Encode> = "encode";
template <>
inline constexpr std::string_view kWorkWord<Decode> = "decode";
template <>
inline constexpr std::string_view kWorkWord<OuterStep> = "outer_step";
template <>
inline constexpr std::string_view kWorkWord<FirstTokens> = "first_tokens";

// The same by index of Work.
template <class... W>
constexpr std::array<std::string_view, sizeof...(W)> work_words(const std::variant<W...>*) {
  static_assert(!(kWorkWord<W>.empty() || ...), "an op without a word");
  return {kWorkWord<W>...};
}
inline constexpr auto kWorkWords = work_words(static_cast<const Work*>(nullptr));

}  // namespace foretrain::plan
