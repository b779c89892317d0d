// The words of the plan graph's enumerations and ops, for writing and reading. Used by graph_fields.h only.
#pragma once

#include <iterator>
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

// The alternatives of Work, by index.
inline constexpr std::string_view kWorkWords[] = {"join",
                                                  "matmul",
                                                  "attention",
                                                  "norm",
                                                  "activation",
                                                  "residual_add",
                                                  "bias_gradient",
                                                  "rotary",
                                                  "embedding",
                                                  "position_add",
                                                  "cross_entropy",
                                                  "squared_norm",
                                                  "clip_coefficient",
                                                  "optimizer_step",
                                                  "fill",
                                                  "accumulate",
                                                  "sum_parts",
                                                  "collective",
                                                  "exchange",
                                                  "copy",
                                                  "host",
                                                  "channel",
                                                  "head_norm",
                                                  "latent_heads",
                                                  "split_columns",
                                                  "ring_attention",
                                                  "reshard",
                                                  "gate",
                                                  "route",
                                                  "permute",
                                                  "grouped_matmul",
                                                  "expert_activation",
                                                  "attention_sinks",
                                                  "state_space",
                                                  "expert_bias",
                                                  "output_loss",
                                                  "lamb_update",
                                                  "loss_scale",
                                                  "relative_bias",
                                                  "cast",
                                                  "encode",
                                                  "decode",
                                                  "outer_step",
                                                  "first_tokens"};
static_assert(std::size(kWorkWords) == std::variant_size_v<Work>);

}  // namespace foretrain::plan
