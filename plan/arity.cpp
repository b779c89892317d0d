#include "plan/arity.h"

#include <algorithm>
#include <variant>

namespace foretrain::plan {
namespace {

struct ArityOf {
  Arity given;

  Arity operator()(const Join&) const { return {0, 0}; }
  Arity operator()(const Matmul& w) const {
    const bool reads_x = w.epilogue == Epilogue::gelu_backward, writes_x = w.epilogue == Epilogue::gelu;
    return {2u + (w.bias ? 1u : 0u) + (w.accumulate ? 1u : 0u) + (reads_x ? 1u : 0u), writes_x ? 2u : 1u};
  }
  Arity operator()(const Attention& w) const {
    const std::size_t apart = w.key_seq != 0 ? 1 : 0, bias = w.biased ? 1 : 0, lengths = w.padded ? 1 : 0;
    switch (w.step) {
      case AttentionStep::flash_forward: return {1 + apart + bias + lengths, 2};
      case AttentionStep::flash_backward: return {4 + apart + 2 * bias + lengths, 1 + apart + bias};
      case AttentionStep::scores:
      case AttentionStep::scale_mask:
      case AttentionStep::softmax:
      case AttentionStep::scale_mask_softmax:
      case AttentionStep::scale_backward: return {1, 1};
      case AttentionStep::context:
      case AttentionStep::softmax_backward:
      case AttentionStep::softmax_scale_backward:
      case AttentionStep::scores_backward: return {2, 1};
      case AttentionStep::context_backward: return {3, 2};
    }
    return {0, 0};
  }
  Arity operator()(const Norm& w) const {
    const std::size_t bias = w.kind == workloads::Norm::layernorm ? 1 : 0;
    switch (w.direction) {
      case Direction::forward: return {2 + bias, 2};
      case Direction::backward_input: return {given.reads == 4 ? 4u : 5u, 1};
      case Direction::backward_weight: return {4 + bias, 1 + bias};
    }
    return {0, 0};
  }
  Arity operator()(const RelativeBias& w) const { return {w.direction == Direction::forward ? 1u : 2u, 1}; }
  Arity operator()(const StateSpace& w) const { return w.direction == Direction::forward ? Arity{2, 1} : Arity{4, 2}; }
  Arity operator()(const AttentionSinks& w) const {
    return w.direction == Direction::forward ? Arity{3, 2} : Arity{5, 1};
  }
  Arity operator()(const LatentHeads& w) const { return w.direction == Direction::forward ? Arity{3, 1} : Arity{1, 3}; }
  Arity operator()(const SplitColumns& w) const {
    return w.direction == Direction::forward ? Arity{1, 2} : Arity{2, 1};
  }
  Arity operator()(const HeadNorm& w) const {
    switch (w.direction) {
      case Direction::forward: return {3, 2};
      case Direction::backward_input: return {4, 1};
      case Direction::backward_weight: return {4, 2};
    }
    return {0, 0};
  }
  Arity operator()(const Activation& w) const {
    return {w.direction == Direction::forward ? std::size_t{1} : std::size_t{2}, 1};
  }
  Arity operator()(const ResidualAdd& w) const { return {w.bias ? std::size_t{3} : std::size_t{2}, 1}; }
  Arity operator()(const BiasGradient&) const { return {2, 1}; }
  Arity operator()(const Rotary&) const { return {1, 1}; }
  Arity operator()(const Embedding& w) const {
    return {w.direction == Direction::forward ? std::size_t{2} : std::size_t{3}, 1};
  }
  Arity operator()(const PositionAdd&) const { return {2, 1}; }
  Arity operator()(const FirstTokens&) const { return {1, 1}; }
  Arity operator()(const CrossEntropy& w) const {
    switch (w.step) {
      case CrossEntropyStep::stats: return {2, 1};
      case CrossEntropyStep::combine: return {2, 2};
      case CrossEntropyStep::backward: return {3u + (w.scaled ? 1u : 0u), 1};
    }
    return {0, 0};
  }
  Arity operator()(const OutputLoss& w) const {
    return {w.direction == Direction::forward ? 3u : 2u + (w.scaled ? 1u : 0u), 1};
  }
  Arity operator()(const LambUpdate&) const { return {5, 3}; }
  Arity operator()(const LossScale& w) const { return {w.step == LossScaleStep::begin ? 1u : 2u, 1}; }
  Arity operator()(const SquaredNorm&) const { return {1, 1}; }
  Arity operator()(const ClipCoefficient& w) const { return {w.scaled ? 2u : 1u, 1}; }
  Arity operator()(const OptimizerStep& w) const {
    const auto moments = static_cast<std::size_t>(workloads::moments(w.optimizer.kind));
    const std::size_t state = moments + (w.precision.has_master() ? 1 : 0);
    return {3 + state, 1 + state};
  }
  Arity operator()(const Fill&) const { return {0, 1}; }
  Arity operator()(const Accumulate&) const { return {2, 1}; }
  Arity operator()(const Cast&) const { return {1, 1}; }
  Arity operator()(const Encode&) const { return {2, 2}; }
  Arity operator()(const Decode&) const { return {1, 1}; }
  Arity operator()(const OuterStep& w) const {
    const std::size_t state = w.outer.kind == OuterKind::average ? 0 : w.outer.kind == OuterKind::sgd ? 1 : 2;
    return {1 + state, 1 + state + (w.has_master ? 1 : 0)};
  }
  Arity operator()(const SumParts& w) const { return {w.accumulate ? std::size_t{2} : std::size_t{1}, 1}; }
  // A root and the others have different ends of a star.
  Arity operator()(const Collective& w) const {
    return is_star(w.kind) ? (given.writes == 0 ? Arity{1, 0} : Arity{0, 1})
                           : Arity{w.row > 0 ? std::size_t{3} : std::size_t{1}, 1};
  }
  Arity operator()(const Exchange& w) const {
    const auto sends = std::count_if(w.messages.begin(), w.messages.end(), [](const Message& m) { return m.send; });
    return {static_cast<std::size_t>(sends), w.messages.size() - static_cast<std::size_t>(sends)};
  }
  Arity operator()(const Copy&) const { return {1, 1}; }
  Arity operator()(const Host& w) const {
    return w.task == HostTask::write_checkpoint ? Arity{given.reads, 0} : Arity{0, 1};
  }
  Arity operator()(const Channel& w) const {
    if (w.step == ChannelStep::take) {
      return {1, std::max<std::size_t>(2, given.writes)};
    }
    const bool reads = w.step == ChannelStep::put || w.step == ChannelStep::release;
    return reads ? Arity{std::max<std::size_t>(1, given.reads), 0} : Arity{0, std::max<std::size_t>(1, given.writes)};
  }
  Arity operator()(const RingAttention& w) const {
    switch (w.step) {
      case RingStep::pack:
      case RingStep::unpack: return {1, 1};
      case RingStep::attend:
      case RingStep::attend_all:
      case RingStep::merge: return {2, 2};
      case RingStep::attend_all_backward: return {5, 2};
      case RingStep::attend_backward: return {5u + (w.accumulate ? 1u : 0u), 2};
    }
    return {0, 0};
  }
  Arity operator()(const Reshard&) const { return {1, 1}; }
  Arity operator()(const Gate& w) const {
    return w.direction == Direction::forward ? Arity{1, 3} : Arity{w.balance != 0 ? 4u : 3u, 1};
  }
  Arity operator()(const Route& w) const { return w.step == RouteStep::count ? Arity{1, 2} : Arity{2, 4}; }
  Arity operator()(const Permute&) const { return {2, 1}; }
  Arity operator()(const GroupedMatmul& w) const { return {w.direction == Direction::backward_weight ? 4u : 3u, 1}; }
  Arity operator()(const ExpertBias& w) const { return {2u + (w.experts > 0 ? 1u : 0u) + (w.weighted ? 1u : 0u), 1}; }
  Arity operator()(const ExpertActivation& w) const {
    const std::size_t offsets = w.experts > 0 ? 1 : 0;
    return w.direction == Direction::forward ? Arity{2 + offsets, 1} : Arity{3 + offsets, 2};
  }
};

}  // namespace

Arity arity(const Work& work, Arity given) {
  return std::visit(ArityOf{given}, work);
}

}  // namespace foretrain::plan
