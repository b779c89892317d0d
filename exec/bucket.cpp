#include "exec/bucket.h"

#include "base/error.h"
#include "kernels/kernels.h"
#include "plan/parameters.h"
#include "workloads/workload.h"

namespace foretrain::exec {

namespace {

kernels::OptimizerKind kernel_kind(workloads::OptimizerKind kind) {
  switch (kind) {
    case workloads::OptimizerKind::sgd: return kernels::OptimizerKind::sgd;
    case workloads::OptimizerKind::momentum: return kernels::OptimizerKind::momentum;
    case workloads::OptimizerKind::adam: return kernels::OptimizerKind::adam;
    case workloads::OptimizerKind::adamw: return kernels::OptimizerKind::adamw;
    case workloads::OptimizerKind::rmsprop: return kernels::OptimizerKind::rmsprop;
    case workloads::OptimizerKind::lamb: return kernels::OptimizerKind::lamb;
  }
  return {};
}

const plan::ParameterFamily& family_of(const OpCall& call, const plan::Bucket& bucket) {
  return call.rank->role->parameter_families[static_cast<std::size_t>(bucket.family)];
}

int slice_index(const OpCall& call, const plan::Bucket& bucket) {
  return call.rank->index_in(family_of(call, bucket).slice_group);
}

kernels::OptimizerStep numbers(const workloads::Optimizer& o, int step) {
  kernels::OptimizerStep s;
  s.kind = kernel_kind(o.kind);
  s.learning_rate = workloads::learning_rate(o, step);
  s.beta1 = o.kind == workloads::OptimizerKind::momentum ? o.momentum : o.beta1;
  s.beta2 = o.beta2;
  s.epsilon = o.eps;
  s.step = step + 1;
  return s;
}

kernels::Rounding rounding_of(const OpCall& call, const plan::Piece& piece) {
  const plan::Parameter& p = *piece.parameter;
  const std::int32_t tensor = plan::global_tensor(*call.rank->role, p, piece.layer);
  return {call.rank->seed,
          static_cast<std::uint64_t>(tensor),
          {piece.local_begin, p.cols, piece.slice->global_row - piece.slice->local_row, piece.slice->global_col,
           p.global_cols}};
}

// Calls fn(piece, its first element in this rank's part of the bucket).
template <class Fn>
void for_each_own_piece(const OpCall& call, const plan::Bucket& bucket, const Fn& fn) {
  const std::int64_t shard = call.rank->index_in(bucket.shard_group);
  const std::int64_t own_begin = shard * (bucket.elements / bucket.shards);
  plan::for_each_piece(*call.rank->role, bucket, first_copy(call, bucket), shard, bucket.shards,
                       slice_index(call, bucket),
                       [&](const plan::Piece& piece) { fn(piece, piece.bucket_begin - own_begin); });
}

}  // namespace

std::int32_t first_copy(const OpCall& call, const plan::Bucket& bucket) {
  const plan::ParameterFamily& family = family_of(call, bucket);
  return family.layers == 0 ? 0 : plan::copies_before(*call.rank->role, family.layer_list, call.binding.layer);
}

void squared_norms(const kernels::Launchers& launch, const OpCall& call, const plan::SquaredNorm& op) {
  const plan::Role& role = *call.rank->role;
  const plan::Bucket& bucket = op.bucket;
  auto* const norms = static_cast<double*>(call.writes[0].data);
  const std::int64_t shard = call.rank->index_in(bucket.shard_group);
  const std::int64_t own_begin = shard * (bucket.elements / bucket.shards);
  CHECK(op.piece_shards % bucket.shards == 0, "{} pieces in {} shards", op.piece_shards, bucket.shards);
  const std::int64_t pieces = op.piece_shards / bucket.shards;
  for (std::int64_t i = 0; i < pieces; ++i) {
    // Several slices of a tensor in one piece are one sum; pieces are summed in order.
    std::int32_t tensor = -1;
    double* const sum = launch.scalar();
    const auto close = [&] {
      if (tensor >= 0) {
        launch.add({sum, Dtype::fp64}, {norms + tensor, Dtype::fp64}, 1);
      }
      tensor = -1;
    };
    plan::for_each_piece(role, bucket, first_copy(call, bucket), shard * pieces + i, op.piece_shards,
                         slice_index(call, bucket), [&](const plan::Piece& piece) {
                           if (!plan::is_counted(piece)) {
                             return;
                           }
                           const std::int32_t t = plan::global_tensor(role, *piece.parameter, piece.layer);
                           const bool goes_on = t == tensor;
                           if (!goes_on) {
                             close();
                             tensor = t;
                           }
                           launch.squared_norm(advanced(call.reads[0], piece.bucket_begin - own_begin), piece.elements,
                                               sum, goes_on);
                         });
    close();
  }
}

void optimizer_step(const kernels::Launchers& launch, const OpCall& call, const plan::OptimizerStep& op) {
  const bool has_master = op.precision.has_master();
  const bool has_m = workloads::moments(op.optimizer.kind) >= 1, has_v = workloads::moments(op.optimizer.kind) >= 2;
  std::size_t next = 1;
  const kernels::Tensor parameter = call.writes[0];
  const kernels::Tensor master = has_master ? call.writes.at(next++) : kernels::Tensor{};
  const kernels::Tensor m = has_m ? call.writes.at(next++) : kernels::Tensor{};
  const kernels::Tensor v = has_v ? call.writes.at(next++) : kernels::Tensor{};

  kernels::OptimizerStep step = numbers(op.optimizer, call.binding.step);
  const auto tensors = static_cast<std::int64_t>(call.rank->graph->tensors);
  for_each_own_piece(call, op.bucket, [&](const plan::Piece& piece, std::int64_t i) {
    step.weight_decay = piece.parameter->decay ? op.optimizer.weight_decay : 0.0;
    const auto* const factor = static_cast<const double*>(call.reads[1].data);
    if (step.kind == kernels::OptimizerKind::lamb) {
      // As the authors' code has it, what does not decay does not adapt either.
      const double* const weights = piece.parameter->decay
                                        ? factor + plan::global_tensor(*call.rank->role, *piece.parameter, piece.layer)
                                        : nullptr;
      launch.lamb_step(piece.elements, step.learning_rate, advanced(call.reads[0], i), weights,
                       weights == nullptr ? nullptr : weights + tensors, advanced(has_master ? master : parameter, i),
                       has_master ? advanced(parameter, i) : kernels::Tensor{});
      return;
    }
    step.rounding = rounding_of(call, piece);
    launch.optimizer_step(step, piece.elements, advanced(call.reads[0], i), factor,
                          advanced(has_master ? master : parameter, i), advanced(m, i), advanced(v, i),
                          has_master ? advanced(parameter, i) : kernels::Tensor{});
  });
}

void lamb_update(const kernels::Launchers& launch, const OpCall& call, const plan::LambUpdate& op) {
  kernels::OptimizerStep step = numbers(op.optimizer, call.binding.step);
  for_each_own_piece(call, op.bucket, [&](const plan::Piece& piece, std::int64_t i) {
    step.weight_decay = piece.parameter->decay ? op.optimizer.weight_decay : 0.0;
    launch.lamb_update(step, piece.elements, advanced(call.writes[0], i),
                       static_cast<const double*>(call.reads[0].data), advanced(call.reads[1], i),
                       advanced(call.writes[1], i), advanced(call.writes[2], i));
  });
}

void outer_step(const kernels::Launchers& launch, const OpCall& call, const plan::OuterStep& op) {
  const auto write = [&](std::size_t i) { return i < call.writes.size() ? call.writes[i] : kernels::Tensor{}; };
  const bool has_anchor = op.outer.kind != plan::OuterKind::average;
  const bool has_momentum = op.outer.kind == plan::OuterKind::nesterov;
  kernels::OuterStep step;
  step.kind = has_momentum ? kernels::OuterKind::nesterov
              : has_anchor ? kernels::OuterKind::sgd
                           : kernels::OuterKind::average;
  step.replicas = op.replicas;
  step.learning_rate = op.outer.learning_rate;
  step.momentum = op.outer.momentum;
  const std::size_t state = has_momentum ? 2 : has_anchor ? 1 : 0;
  launch.outer_step(step, op.elements, write(0), has_anchor ? write(1) : kernels::Tensor{},
                    has_momentum ? write(2) : kernels::Tensor{}, op.has_master ? write(1 + state) : kernels::Tensor{});
}

}  // namespace foretrain::exec
