#include "plan/cost_kind.h"

#include <variant>

namespace foretrain::plan {
namespace {

std::string_view word(Direction d) {
  switch (d) {
    case Direction::forward: return "forward";
    case Direction::backward_input: return "backward_input";
    case Direction::backward_weight: return "backward_weight";
  }
  return "?";
}

std::string_view word(CrossEntropyStep s) {
  switch (s) {
    case CrossEntropyStep::stats: return "stats";
    case CrossEntropyStep::combine: return "combine";
    case CrossEntropyStep::backward: return "backward";
  }
  return "?";
}

std::string_view word(CopyKind k) {
  switch (k) {
    case CopyKind::device_to_device: return "device_to_device";
    case CopyKind::device_to_host: return "device_to_host";
    case CopyKind::host_to_device: return "host_to_device";
  }
  return "?";
}

std::string_view word(workloads::OptimizerKind k) {
  switch (k) {
    case workloads::OptimizerKind::sgd: return "sgd";
    case workloads::OptimizerKind::momentum: return "momentum";
    case workloads::OptimizerKind::adam: return "adam";
    case workloads::OptimizerKind::adamw: return "adamw";
    case workloads::OptimizerKind::rmsprop: return "rmsprop";
    case workloads::OptimizerKind::lamb: return "lamb";
  }
  return "?";
}

struct Namer {
  static std::string join(std::string_view a, std::string_view b) { return std::string(a) + "." + std::string(b); }

  std::string operator()(const Norm& x) const {
    const std::string_view kind = x.kind == workloads::Norm::layernorm ? "norm.layernorm" : "norm.rmsnorm";
    return join(kind, word(x.direction));
  }
  // It reads and writes as a norm of the same bytes does.
  std::string operator()(const HeadNorm& x) const { return join("norm.rmsnorm", word(x.direction)); }
  // Both gelus, sigmoid and tanh move the same bytes, and so do both swiglus: one table serves them.
  static workloads::Activation tabled(workloads::Activation kind) {
    return kind == workloads::Activation::gelu_erf || kind == workloads::Activation::sigmoid ||
                   kind == workloads::Activation::tanh
               ? workloads::Activation::gelu
           : kind == workloads::Activation::swiglu_clamped ? workloads::Activation::swiglu
                                                           : kind;
  }
  std::string operator()(const Activation& x) const {
    return join(join("activation", workloads::name(tabled(x.kind))), word(x.direction));
  }
  std::string operator()(const ResidualAdd& x) const { return x.bias ? "residual_add.bias" : "residual_add"; }
  std::string operator()(const Rotary&) const { return "rotary"; }
  std::string operator()(const Embedding& x) const { return join("embedding", word(x.direction)); }
  std::string operator()(const PositionAdd& x) const { return join("position_add", word(x.direction)); }
  std::string operator()(const CrossEntropy& x) const { return join("cross_entropy", word(x.step)); }
  std::string operator()(const FirstTokens&) const { return "copy.device_to_device"; }
  // It reads and writes as the sum of as much does.
  std::string operator()(const OutputLoss&) const { return "accumulate"; }
  std::string operator()(const OptimizerStep& x) const { return join("optimizer", word(x.optimizer.kind)); }
  std::string operator()(const ExpertActivation& x) const {
    return join(join("activation", workloads::name(tabled(x.kind))), word(x.direction));
  }
  std::string operator()(const Copy& x) const { return join("copy", word(x.kind)); }
  // Zeros, among which few values are put.
  std::string operator()(const Decode& x) const { return x.code.kind == Coding::top_k ? "fill" : kind_name(Work(x)); }
  // The same passes over memory.
  std::string operator()(const SumParts&) const { return "accumulate"; }
  template <class Other>
  std::string operator()(const Other& x) const {
    return kind_name(Work(x));
  }
};

struct Typer {
  Dtype operator()(const Matmul& x) const { return x.in; }
  Dtype operator()(const GroupedMatmul& x) const { return x.in; }
  Dtype operator()(const OptimizerStep& x) const { return x.precision.parameter; }
  Dtype operator()(const Cast& x) const { return x.from; }
  Dtype operator()(const OuterStep& x) const { return x.weights; }
  Dtype operator()(const LambUpdate& x) const { return x.precision.parameter; }
  template <class Other>
  Dtype operator()(const Other& x) const {
    if constexpr (requires { x.dtype; }) {
      return x.dtype;
    } else {
      return Dtype::u8;
    }
  }
};

}  // namespace

std::string cost_kind(const Work& work) {
  return std::visit(Namer{}, work);
}

Dtype cost_dtype(const Work& work) {
  return std::visit(Typer{}, work);
}

}  // namespace foretrain::plan
