#include "plan/work.h"

#include <algorithm>
#include <map>
#include <variant>
#include <vector>

#include "plan/runtime_extent.h"
#include "plan/work_of.h"

namespace foretrain::plan {
namespace {

std::int64_t elements(const std::vector<Operand>& operands) {
  std::int64_t sum = 0;
  for (const Operand& o : operands) {
    sum += o.elements;
  }
  return sum;
}

std::int64_t own_elements(const Bucket& b) {
  return b.elements / std::max(b.shards, 1);
}

// An op whose extent is known only at run time does the mean's work over all ranks.
Op on_average(const PlanGraph& graph, const Op& op) {
  return at_extent(op,
                   static_cast<std::int64_t>(graph.runtime_extents[static_cast<std::size_t>(op.runtime_extent)].mean));
}

double matmul_flops(const PlanGraph& graph, const Role& role, const Segment& segment) {
  double sum = 0;
  for (const BlockCall& call : segment.calls) {
    double block = 0;
    for (const Op& op : role.blocks[static_cast<std::size_t>(call.block)].ops) {
      const OpWork w = op.runtime_extent < 0 ? work(op) : work(on_average(graph, op));
      block += w.is_matmul ? w.flops : 0;
    }
    sum += block * call.count;
  }
  return sum;
}

}  // namespace

void WorkOf::operator()(const Join&) {}

// 2 m n k, beside which an epilogue's count as nothing; reads A, B, [bias], [C], [X]; writes C, [X].
void WorkOf::operator()(const Matmul& x) {
  w.flops = 2 * product(x.m, x.n, x.k);
  w.is_matmul = true;
  w.read = size(x.in, x.m * x.k + x.k * x.n + (x.bias ? x.n : 0));
  if (x.accumulate) {
    w.read += size(x.out, x.m * x.n);
  }
  w.written = size(x.out, x.m * x.n);
  if (x.epilogue != Epilogue::none) {
    (x.epilogue == Epilogue::gelu ? w.written : w.read) += size(x.out, x.m * x.n);
  }
}

void WorkOf::operator()(const Norm& x) {
  const Bytes matrix = size(x.dtype, x.rows * x.cols);
  const Bytes stats = size(wide(x.dtype), 2 * x.rows);
  const std::int64_t vectors = x.kind == workloads::Norm::layernorm ? 2 : 1;  // gain, and bias where there is one
  switch (x.direction) {
    case Direction::forward:
      w.flops = kNormForward * product(x.rows, x.cols);
      w.read = matrix + size(x.dtype, vectors * x.cols);
      w.written = matrix + stats;
      break;
    case Direction::backward_input:
      w.flops = kNormBackward * product(x.rows, x.cols);
      w.read = matrix + matrix + size(x.dtype, x.cols) + stats;
      w.read += op.reads.size() == 4 ? Bytes{} : matrix;  // the base
      w.written = matrix;
      break;
    case Direction::backward_weight:
      w.flops = kNormWeight * product(x.rows, x.cols);
      w.written = size(wide(x.dtype), vectors * x.cols);
      w.read = matrix + matrix + stats + w.written;
      break;
  }
}

void WorkOf::operator()(const SplitColumns& x) {
  w.read = w.written = size(x.dtype, x.rows * (x.left + x.right));
}

void WorkOf::operator()(const Activation& x) {
  const Bytes y = size(x.dtype, x.rows * x.cols);
  const Bytes input = workloads::is_gated(x.kind) ? y + y : y;
  // tanh and exp count as one; a gate is one more product, and its backward three.
  const double forward = x.kind == workloads::Activation::relu             ? 1
                         : x.kind == workloads::Activation::tanh           ? 1
                         : x.kind == workloads::Activation::sigmoid        ? 3
                         : x.kind == workloads::Activation::swiglu         ? 5
                         : x.kind == workloads::Activation::swiglu_clamped ? 8
                                                                           : 9;
  if (x.direction == Direction::forward) {
    w.flops = forward * product(x.rows, x.cols);
    w.read = input;
    w.written = y;
  } else {
    w.flops = 2 * forward * product(x.rows, x.cols);
    w.read = y + input;
    w.written = input;
  }
}

void WorkOf::operator()(const ResidualAdd& x) {
  w.flops = (x.bias ? 2 : 1) * product(x.rows, x.cols);
  w.read = size(x.dtype, 2 * x.rows * x.cols + (x.bias ? x.cols : 0));
  w.written = size(x.dtype, x.rows * x.cols);
}

void WorkOf::operator()(const BiasGradient& x) {
  w.flops = product(x.rows, x.cols);
  w.read = size(x.dtype, x.rows * x.cols) + size(wide(x.dtype), x.cols);
  w.written = size(wide(x.dtype), x.cols);
}

// Rows looked up, not the whole table.
void WorkOf::operator()(const Embedding& x) {
  const std::int64_t values = x.tokens * x.hidden;
  w.read = size(Dtype::i32, x.tokens) + size(x.dtype, values);
  w.written = size(x.dtype, values);
  if (x.direction != Direction::forward) {
    w.flops = static_cast<double>(values);
    w.read += size(wide(x.dtype), values);
    w.written = size(wide(x.dtype), values);
  }
}

void WorkOf::operator()(const PositionAdd& x) {
  const std::int64_t table = std::min(x.rows, x.seq) * x.hidden;
  w.flops = product(x.rows, x.hidden);
  if (x.direction == Direction::forward) {
    w.read = size(x.dtype, x.rows * x.hidden + table);
    w.written = size(x.dtype, x.rows * x.hidden);
  } else {
    w.written = size(wide(x.dtype), table);
    w.read = size(x.dtype, x.rows * x.hidden) + w.written;
  }
}

void WorkOf::operator()(const FirstTokens& x) {
  w.read = size(x.dtype, x.sequences * x.hidden);
  w.written = size(x.dtype, (x.direction == Direction::forward ? x.sequences : x.rows) * x.hidden);
}

void WorkOf::operator()(const CrossEntropy& x) {
  const Bytes logits = size(x.dtype, x.rows * x.cols);
  const Bytes targets = size(Dtype::i32, x.rows);
  const Dtype stats = wide(x.dtype);
  switch (x.step) {
    case CrossEntropyStep::stats:
      w.flops = 4 * product(x.rows, x.cols);
      w.read = logits + targets;
      w.written = size(stats, 3 * x.rows);
      break;
    case CrossEntropyStep::combine: {
      const std::int64_t shards = x.cols > 0 ? (x.vocab + x.cols - 1) / x.cols : 1;
      w.flops = 4 * product(x.rows, shards);
      w.read = size(stats, 3 * x.rows * shards) + size(Dtype::fp64, 1);
      w.written = size(stats, 2 * x.rows) + size(Dtype::fp64, 1);
      break;
    }
    case CrossEntropyStep::backward:
      w.flops = 4 * product(x.rows, x.cols);
      w.read = logits + targets + size(stats, 2 * x.rows);
      w.written = logits;
      break;
  }
}

// Of squared_error; log and exp count as one.
void WorkOf::operator()(const OutputLoss& x) {
  const Bytes y = size(x.dtype, x.rows * x.cols);
  const bool forward = x.direction == Direction::forward;
  w.flops = (forward ? 4 : 2) * product(x.rows, x.cols);
  w.read = y + y + (forward ? size(Dtype::fp64, 1) : Bytes{});
  w.written = forward ? size(Dtype::fp64, 1) : y;
}

// The norms themselves (8 bytes a tensor) vanish beside the gradients.
void WorkOf::operator()(const SquaredNorm& x) {
  const std::int64_t own = own_elements(x.bucket);
  w.flops = 2 * static_cast<double>(own);
  w.read = size(x.dtype, own);
}

void WorkOf::operator()(const ClipCoefficient& x) {
  w.flops = static_cast<double>(x.tensors);
  w.read = size(Dtype::fp64, x.tensors);
  w.written = size(Dtype::fp64, 2);
}

// Reads the gradient, the moments and the master weight (the parameter itself only where there is no master); writes
// the moments, the master and the parameter.
void WorkOf::operator()(const OptimizerStep& x) {
  const std::int64_t own = own_elements(x.bucket);
  // Lamb's moments are LambUpdate's.
  const bool lamb = x.optimizer.kind == workloads::OptimizerKind::lamb;
  const int moments = lamb ? 0 : workloads::moments(x.optimizer.kind);
  w.flops = (moments == 2 ? kAdam : 2 + 2 * moments) * static_cast<double>(own);
  const Bytes state = size(x.precision.state, own * (moments + (x.precision.has_master() ? 1 : 0)));
  const Bytes parameter = size(x.precision.parameter, own);
  w.read = size(x.precision.gradient, own) + state;
  if (!x.precision.has_master()) {
    w.read += parameter;
  }
  w.written = state + parameter;
}

void WorkOf::operator()(const LambUpdate& x) {
  const std::int64_t own = own_elements(x.bucket);
  w.flops = kAdam * static_cast<double>(own);
  w.written = size(x.precision.gradient, own) + size(x.precision.state, 2 * own);
  w.read = w.written + size(x.precision.has_master() ? x.precision.state : x.precision.parameter, own);
}

void WorkOf::operator()(const LossScale&) {
  w.read = w.written = size(Dtype::fp64, 5);
}

void WorkOf::operator()(const Fill& x) {
  w.written = size(x.dtype, x.elements);
}

void WorkOf::operator()(const Accumulate& x) {
  w.flops = static_cast<double>(x.elements);
  w.read = size(x.from, x.elements) + size(x.dtype, x.elements);
  w.written = size(x.dtype, x.elements);
}

void WorkOf::operator()(const SumParts& x) {
  const std::int64_t terms = x.parts + (x.accumulate ? 1 : 0);
  w.flops = static_cast<double>(x.elements) * static_cast<double>(terms - 1);
  w.read = size(x.dtype, x.elements * terms);
  w.written = size(x.dtype, x.elements);
}

// Shards are as large as their operands say: the group's size is the mesh's affair.
void WorkOf::operator()(const Collective& x) {
  w.sent = size(x.dtype, x.elements);
  w.read = x.row > 0 ? w.sent : size(x.dtype, elements(op.reads));
  w.written = x.row > 0 ? w.sent : size(x.dtype, elements(op.writes));
}

void WorkOf::operator()(const Exchange& x) {
  for (const Message& m : x.messages) {
    if (m.send) {
      w.sent += size(m.dtype, m.elements);
      w.read += size(m.dtype, m.elements);
    } else {
      w.written += size(m.dtype, m.elements);
    }
  }
}

// Only the device's side counts.
void WorkOf::operator()(const Copy& x) {
  if (x.kind != CopyKind::host_to_device) {
    w.read = Bytes{x.bytes};
  }
  if (x.kind != CopyKind::device_to_host) {
    w.written = Bytes{x.bytes};
  }
}

// A checkpoint's bytes depend on its buffers' dtypes: the copies before it carry them.
void WorkOf::operator()(const Host& x) {
  if (x.task != HostTask::write_checkpoint) {
    w.written = x.cols > 0 ? size(x.dtype, x.sequences * x.cols) : size(Dtype::i32, x.sequences * x.seq);
  }
}

void WorkOf::operator()(const Channel& x) {
  if (op.writes.empty()) {
    w.sent = w.read = size(x.dtype, x.elements);
  } else {
    w.written = size(x.dtype, x.elements);
  }
}

OpWork work(const Op& op) {
  WorkOf work{op, {}};
  std::visit(work, op.work);
  return work.w;
}

double matmul_flops_per_step(const PlanGraph& graph) {
  double sum = 0;
  for (const Role& role : graph.roles) {
    std::map<SegmentId, double> by_segment;
    double of_rank = 0;
    for (const Instance& instance : role.program.body) {
      const auto [it, is_new] = by_segment.try_emplace(instance.segment, 0.0);
      if (is_new) {
        it->second = matmul_flops(graph, role, role.segments[static_cast<std::size_t>(instance.segment)]);
      }
      of_rank += it->second;
    }
    sum += of_rank * static_cast<double>(count(graph.mesh, role.ranks));
  }
  return sum;
}

}  // namespace foretrain::plan
