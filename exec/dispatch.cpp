#include "exec/dispatch.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "exec/attention_ops.h"
#include "exec/bucket.h"
#include "exec/context_parallel.h"
#include "exec/load_tokens.h"
#include "exec/samples.h"
#include "kernels/kernels.h"

namespace foretrain::exec {

namespace {

using kernels::ConstTensor;
using kernels::Tensor;

kernels::NormKind kernel_kind(workloads::Norm kind) {
  return kind == workloads::Norm::layernorm ? kernels::NormKind::layernorm : kernels::NormKind::rmsnorm;
}

kernels::Activation kernel_kind(workloads::Activation kind) {
  switch (kind) {
    case workloads::Activation::gelu: return kernels::Activation::gelu;
    case workloads::Activation::gelu_erf: return kernels::Activation::gelu_erf;
    case workloads::Activation::relu: return kernels::Activation::relu;
    case workloads::Activation::swiglu: return kernels::Activation::swiglu;
    case workloads::Activation::geglu: return kernels::Activation::geglu;
    case workloads::Activation::swiglu_clamped: return kernels::Activation::swiglu_clamped;
    case workloads::Activation::sigmoid: return kernels::Activation::sigmoid;
    case workloads::Activation::tanh: return kernels::Activation::tanh;
  }
  return {};
}

const std::int32_t* ids(const Tensor& t) {
  return static_cast<const std::int32_t*>(t.data);
}

std::int32_t* table(const Tensor& t) {
  return static_cast<std::int32_t*>(t.data);
}

bool is_zero(const Tensor& scalar) {
  switch (scalar.dtype) {
    case Dtype::fp64: return *static_cast<const double*>(scalar.data) == 0.0;
    case Dtype::fp32: return *static_cast<const float*>(scalar.data) == 0.0F;
    case Dtype::i32: return *static_cast<const std::int32_t*>(scalar.data) == 0;
    default: CHECK(false, "a guard of type {}", name(scalar.dtype));
  }
  return false;
}

void loss_scale(const kernels::Launchers& launch, const OpCall& call, const plan::LossScale& op) {
  static_assert(sizeof(kernels::LossScaleState) == 5 * sizeof(double), "it is the op's state");
  auto* const state = static_cast<kernels::LossScaleState*>(call.writes[0].data);
  const auto* const norm =
      op.step == plan::LossScaleStep::begin ? nullptr : static_cast<const double*>(call.reads[0].data) + 1;
  const kernels::LossScaleRule rule{op.scaling.initial, op.scaling.growth, op.scaling.backoff, op.scaling.interval};
  launch.update_loss_scale(rule, norm, state);
}

// One overload per kind of op; operands in the order of plan/ops.h.
struct KernelRunner {
  const kernels::Launchers& launch;
  const OpCall& call;

  const Tensor& read(std::size_t i) const { return call.reads[i]; }
  const Tensor& write(std::size_t i) const { return call.writes[i]; }
  Tensor read_or_none(std::size_t i) const { return i < call.reads.size() ? call.reads[i] : Tensor{}; }

  // A number that a kernel is told by address.
  const double* scalar(std::size_t i) const { return static_cast<const double*>(read(i).data); }

  // A product's a or b: buffers do not tell tf32 from fp32.
  Tensor factor(std::size_t i, Dtype in) const { return {read(i).data, in == Dtype::tf32 ? in : read(i).dtype}; }

  void operator()(const plan::Join&) const {}

  void operator()(const plan::Matmul& op) const {
    kernels::MatmulShape shape;
    shape.m = op.m;
    shape.n = op.n;
    shape.k = op.k;
    shape.transpose_a = op.trans_a;
    shape.transpose_b = op.trans_b;
    const Tensor a = factor(0, op.in), b = factor(1, op.in), bias = op.bias ? read(2) : Tensor{};
    switch (op.epilogue) {
      case plan::Epilogue::none: launch.matmul(shape, a, b, bias, write(0), op.accumulate); break;
      case plan::Epilogue::gelu: launch.matmul_gelu(shape, a, b, bias, write(1), write(0)); break;
      case plan::Epilogue::gelu_backward: launch.matmul_gelu_backward(shape, a, b, read(2), write(0)); break;
    }
  }

  // Statistics [rows, 2] are stored as two columns: all means, then all reciprocal deviations.
  void operator()(const plan::Norm& op) const {
    const kernels::NormShape shape{kernel_kind(op.kind), op.rows, op.cols, op.eps};
    switch (op.direction) {
      case plan::Direction::forward:
        launch.norm_forward(shape, read(0), read(1), read_or_none(2), write(0), write(1), advanced(write(1), op.rows));
        break;
      case plan::Direction::backward_input:
        launch.norm_backward_input(shape, read(1), read(2), read(0), read(3), advanced(read(3), op.rows),
                                   read_or_none(4), write(0));
        break;
      case plan::Direction::backward_weight:
        launch.norm_backward_weight(shape, read(1), read(0), read(2), advanced(read(2), op.rows), write(0),
                                    call.writes.size() > 1 ? write(1) : Tensor{}, true);
        break;
    }
  }

  void operator()(const plan::SplitColumns& op) const {
    const std::int64_t both = op.left + op.right;
    if (op.direction == plan::Direction::forward) {
      launch.copy_matrix(op.rows, op.left, read(0), both, write(0), op.left);
      launch.copy_matrix(op.rows, op.right, advanced(read(0), op.left), both, write(1), op.right);
    } else {
      launch.copy_matrix(op.rows, op.left, read(0), op.left, write(0), both);
      launch.copy_matrix(op.rows, op.right, read(1), op.right, advanced(write(0), op.left), both);
    }
  }

  void operator()(const plan::HeadNorm& op) const {
    const kernels::HeadNormShape shape{op.rows, op.heads, op.kv_heads, op.head_dim, op.eps};
    switch (op.direction) {
      case plan::Direction::forward: launch.head_norm_forward(shape, read(0), read(1), write(0), write(1)); break;
      case plan::Direction::backward_input:
        launch.head_norm_backward_input(shape, read(0), read(1), read(2), write(0));
        break;
      case plan::Direction::backward_weight:
        launch.head_norm_backward_weight(shape, read(1), read(0), write(0), write(1));
        break;
    }
  }

  void operator()(const plan::Activation& op) const {
    if (op.direction == plan::Direction::forward) {
      launch.activation_forward(kernel_kind(op.kind), op.rows, op.cols, read(0), write(0));
    } else {
      launch.activation_backward(kernel_kind(op.kind), op.rows, op.cols, read(1), read(0), write(0));
    }
  }

  void operator()(const plan::ResidualAdd& op) const {
    launch.residual_add(op.rows, op.cols, read(0), read(1), op.bias ? read(2) : Tensor{}, write(0));
  }

  void operator()(const plan::BiasGradient& op) const {
    launch.bias_gradient(op.rows, op.cols, read(0), write(0), true);
  }

  void operator()(const plan::Embedding& op) const {
    kernels::EmbeddingShape shape;
    shape.tokens = shape.seq = op.tokens;
    shape.cols = op.hidden;
    shape.vocab_start = call.rank->index_in(op.vocab_group) * op.rows;
    shape.vocab_rows = op.rows;
    if (op.direction == plan::Direction::forward) {
      launch.embedding_forward(shape, ids(read(0)), read(1), {}, write(0));
    } else {
      launch.embedding_backward(shape, ids(read(0)), read(1), write(0), {});
    }
  }

  void operator()(const plan::FirstTokens& op) const {
    const std::int64_t first_row = call.rank->index_in(op.row_group) * op.rows;
    const bool forward = op.direction == plan::Direction::forward;
    launch.fill(write(0), (forward ? op.sequences : op.rows) * op.hidden, 0.0);
    for (std::int64_t s = 0; s < op.sequences; ++s) {
      const std::int64_t row = s * op.seq - first_row;
      if (row >= 0 && row < op.rows) {
        const std::int64_t from = (forward ? row : s) * op.hidden, to = (forward ? s : row) * op.hidden;
        launch.copy(advanced(read(0), from).data, advanced(write(0), to).data, size_bytes(op.dtype, op.hidden));
      }
    }
  }

  // Neighbouring rows have neighbouring positions up to the end of a run: whole runs at a time.
  void operator()(const plan::PositionAdd& op) const {
    const std::int64_t first = call.rank->index_in(op.row_group) * op.rows;
    const plan::SequenceShare share = call.rank->share_in(op.seq_group, op.seq);
    for (std::int64_t row = 0; row < op.rows;) {
      const std::int64_t token = (first + row) % op.seq;
      const std::int64_t position = share.position(token);
      const std::int64_t n = std::min(share.run() - token % share.run(), op.rows - row);
      if (op.direction == plan::Direction::forward) {
        const Tensor x = advanced(write(0), row * op.hidden);
        launch.residual_add(n, op.hidden, x, advanced(read(1), position * op.hidden), {}, x);
      } else {
        launch.add(advanced(read(0), row * op.hidden), advanced(write(0), position * op.hidden), n * op.hidden);
      }
      row += n;
    }
  }

  void operator()(const plan::CrossEntropy& op) const {
    kernels::CrossEntropyShape shape;
    shape.rows = op.rows;
    shape.cols = op.cols;
    shape.vocab_start = call.rank->index_in(op.vocab_group) * op.cols;
    shape.valid = std::clamp<std::int64_t>(op.vocab - shape.vocab_start, 0, op.cols);
    switch (op.step) {
      case plan::CrossEntropyStep::stats: launch.cross_entropy_stats(shape, read(0), ids(read(1)), write(0)); break;
      case plan::CrossEntropyStep::combine:
        launch.cross_entropy_combine(op.rows, call.rank->size_of(op.vocab_group), read(0), op.scale,
                                     static_cast<double*>(write(1).data), true, write(0));
        break;
      case plan::CrossEntropyStep::backward:
        launch.cross_entropy_backward(shape, read(2), ids(read(1)), read(0), op.scale, write(0),
                                      op.scaled ? scalar(3) : nullptr);
        break;
    }
  }

  void operator()(const plan::OutputLoss& op) const {
    const auto kind = op.kind == workloads::Loss::squared_error ? kernels::OutputLoss::squared_error
                                                                : kernels::OutputLoss::binary_cross_entropy;
    if (op.direction == plan::Direction::forward) {
      launch.output_loss_forward(kind, op.rows * op.cols, read(0), read(1), op.scale,
                                 static_cast<double*>(write(0).data));
    } else {
      launch.output_loss_backward(kind, op.rows * op.cols, read(0), read(1), op.scale, write(0),
                                  op.scaled ? scalar(2) : nullptr);
    }
  }

  void operator()(const plan::SquaredNorm& op) const { squared_norms(launch, call, op); }

  void operator()(const plan::ClipCoefficient& op) const {
    const std::span<const double> norms(static_cast<const double*>(read(0).data), static_cast<std::size_t>(op.tensors));
    auto* const result = static_cast<double*>(write(0).data);
    const double limit = op.clip > 0 ? op.clip : std::numeric_limits<double>::infinity();
    launch.clip_coefficient(norms, limit, &result[1], &result[0], op.scaled ? scalar(1) : nullptr);
  }

  void operator()(const plan::LossScale& op) const { loss_scale(launch, call, op); }

  void operator()(const plan::OptimizerStep& op) const { optimizer_step(launch, call, op); }
  void operator()(const plan::LambUpdate& op) const { lamb_update(launch, call, op); }

  void operator()(const plan::Fill& op) const { launch.fill(write(0), op.elements, 0.0); }

  void operator()(const plan::Accumulate& op) const { launch.add(read(0), write(0), op.elements); }

  void operator()(const plan::Cast& op) const { launch.cast(read(0), write(0), op.elements); }
  void operator()(const plan::Encode& op) const { launch.encode(op.code, read(0), write(1), write(0).data); }
  void operator()(const plan::Decode& op) const { launch.decode(op.code, op.parts, read(0).data, write(0)); }
  void operator()(const plan::OuterStep& op) const { outer_step(launch, call, op); }

  void operator()(const plan::SumParts& op) const {
    std::vector<ConstTensor> terms;
    if (op.accumulate) {
      terms.push_back(write(0));
    }
    for (std::int32_t part = 0; part < op.parts; ++part) {
      terms.push_back(advanced(read(0), part * op.elements));
    }
    launch.sum_in_order(terms, write(0), {}, op.elements);
  }

  void operator()(const plan::Copy& op) const { launch.copy(read(0).data, write(0).data, op.bytes); }

  void operator()(const plan::Host& op) const { op.cols > 0 ? load_samples(call, op) : load_tokens(call, op); }

  void operator()(const plan::Gate& op) const {
    kernels::GateShape shape;
    shape.tokens = op.tokens;
    shape.experts = op.experts;
    shape.top_k = op.top_k;
    shape.groups = op.groups;
    shape.top_groups = op.top_groups;
    shape.group_best = op.group_best;
    shape.router = op.router == workloads::Router::softmax ? kernels::Router::softmax : kernels::Router::sigmoid;
    shape.normalize = op.normalize;
    shape.scale = op.scale;
    if (op.direction == plan::Direction::forward) {
      launch.gate_forward(shape, read(0), write(0), write(1), table(write(2)));
    } else {
      launch.gate_backward(shape, read(0), ids(read(1)), read(2), op.balance, ids(read_or_none(3)), op.parts, write(0));
    }
  }

  void operator()(const plan::Route& op) const {
    if (op.step == plan::RouteStep::count) {
      launch.route_count(op.rows, op.experts, op.capacity, ids(read(0)), table(write(0)), table(write(1)));
    } else {
      launch.route_arrange(op.rows, op.experts, op.members, ids(read(0)), ids(read(1)), table(write(0)),
                           table(write(1)), table(write(2)), table(write(3)));
    }
  }

  void operator()(const plan::Permute& op) const {
    if (op.direction == plan::Direction::forward) {
      launch.permute_forward(op.rows, op.copies, op.cols, read(0), ids(read(1)), write(0));
    } else {
      launch.permute_backward(op.rows, op.copies, op.cols, read(0), ids(read(1)), write(0));
    }
  }

  void operator()(const plan::GroupedMatmul& op) const {
    const kernels::GroupedShape shape{op.experts, op.out_features, op.in_features};
    switch (op.direction) {
      case plan::Direction::forward: launch.grouped_forward(shape, ids(read(2)), read(0), read(1), write(0)); break;
      case plan::Direction::backward_input:
        launch.grouped_backward_input(shape, ids(read(2)), read(0), read(1), write(0));
        break;
      case plan::Direction::backward_weight:
        launch.grouped_backward_weight(shape, ids(read(2)), read(0), read(1), write(0));
        break;
    }
  }

  void operator()(const plan::ExpertBias& op) const {
    const kernels::ExpertBiasShape shape{op.experts, op.rows, op.cols, op.scale};
    const std::size_t offsets = op.experts > 0 ? 1 : 0, weights = op.weighted ? 1 : 0;
    const auto ends = [&](std::size_t at) { return offsets > 0 ? ids(read(at)) : nullptr; };
    const auto rows = [&](std::size_t at) { return weights > 0 ? read(at) : kernels::ConstTensor{}; };
    switch (op.direction) {
      case plan::Direction::forward:
        launch.expert_bias_forward(shape, ends(2), read(1), rows(2 + offsets), write(0));
        break;
      case plan::Direction::backward_input:
        launch.expert_bias_backward_weights(shape, ends(2), read(0), read(1), write(0));
        break;
      case plan::Direction::backward_weight:
        launch.expert_bias_gradient(shape, ends(1), read(0), rows(1 + offsets), write(0));
        break;
    }
  }

  void operator()(const plan::ExpertActivation& op) const {
    const bool forward = op.direction == plan::Direction::forward;
    const std::int32_t* const count = op.experts == 0 ? nullptr : ids(read(forward ? 2 : 3)) + op.experts;
    if (forward) {
      launch.expert_activation_forward(kernel_kind(op.kind), op.rows, count, op.cols, read(0), read(1), write(0));
    } else {
      launch.expert_activation_backward(kernel_kind(op.kind), op.rows, count, op.cols, read(1), read(2), read(0),
                                        write(0), write(1));
    }
  }

  void operator()(const plan::Attention& op) const { attention(launch, call, op); }
  void operator()(const plan::AttentionSinks& op) const { attention_sinks(launch, call, op); }
  void operator()(const plan::RelativeBias& op) const { relative_bias(launch, call, op); }
  void operator()(const plan::LatentHeads& op) const { latent_heads(launch, call, op); }
  void operator()(const plan::Rotary& op) const { rotary(launch, call, op); }
  void operator()(const plan::RingAttention& op) const { ring_attention(launch, call, op); }
  void operator()(const plan::Reshard& op) const { reshard(launch, call, op); }

  template <class Other>
  void operator()(const Other&) const {
    CHECK(false, "{} is no kernel", plan::kind_name(call.op->work));
  }
};

bool is_stored(Dtype d) {
  return d != Dtype::fp8 && d != Dtype::mxfp8 && d != Dtype::nvfp4;
}

bool is_built(const plan::Op& op) {
  const plan::Host* host = std::get_if<plan::Host>(&op.work);
  return !std::holds_alternative<plan::StateSpace>(op.work) &&
         !(host != nullptr && host->task == plan::HostTask::write_checkpoint);
}

}  // namespace

bool is_communication(const plan::Work& work) {
  return std::holds_alternative<plan::Collective>(work) || std::holds_alternative<plan::Exchange>(work) ||
         std::holds_alternative<plan::Channel>(work);
}

void check_runnable(const plan::PlanGraph& graph) {
  for (const plan::Role& role : graph.roles) {
    for (const plan::Buffer& buffer : role.buffers) {
      if (!is_stored(buffer.dtype)) {
        throw InputError(
            fmt::format("precision: {} ({} of {}) can be estimated but not run here; allowed: fp64, "
                        "fp32, tf32, fp16, bf16",
                        name(buffer.dtype), buffer.name, role.name));
      }
    }
    for (const plan::Block& block : role.blocks) {
      for (const plan::Op& op : block.ops) {
        if (!is_built(op)) {
          throw InputError(fmt::format("{} ({} of {}) can be estimated but not run", plan::kind_name(op.work),
                                       block.name, role.name));
        }
      }
    }
  }
}

bool is_guarded_off(const OpCall& call) {
  return call.guard && is_zero(call.guard);
}

void run_kernel(const kernels::Launchers& launch, const OpCall& call) {
  std::visit(KernelRunner{launch, call}, call.op->work);
}

CollectiveCall collective_call(const OpCall& call) {
  const auto& op = std::get<plan::Collective>(call.op->work);
  const GroupView& group = call.rank->groups[static_cast<std::size_t>(op.group)];
  CHECK(!group.members.empty(), "rank {} is no member of the group of its {}", call.rank->rank, plan::name(op.kind));
  CollectiveCall c;
  c.key = {plan::match_key(*call.rank->role, op.tag, call.binding), call.binding.step, group.members.front(), -1};
  c.kind = op.kind;
  c.reduction = op.reduction;
  c.dtype = kernels::stored_type(op.dtype);
  c.elements = op.elements;
  c.root = op.root;
  c.in = call.reads.empty() ? nullptr : call.reads[0].data;
  c.out = call.writes.empty() ? nullptr : call.writes[0].data;
  c.group = &group;
  if (op.row > 0) {
    c.row = op.row;
    c.to = ids(call.reads.at(1));
    c.from = ids(call.reads.at(2));
  }
  return c;
}

void message_calls(const OpCall& call, std::vector<MessageCall>& messages) {
  messages.clear();
  std::size_t reads = 0, writes = 0;
  for (const plan::Message& m : std::get<plan::Exchange>(call.op->work).messages) {
    const plan::Rank other = call.rank->graph->mesh.peer(call.rank->rank, m.axis, m.peer, m.relative);
    MessageCall out;
    out.key.match = plan::match_key(*call.rank->role, m.tag, call.binding);
    out.key.step = call.binding.step;
    out.key.from = m.send ? call.rank->rank : other;
    out.key.to = m.send ? other : call.rank->rank;
    out.send = m.send;
    out.dtype = kernels::stored_type(m.dtype);
    out.elements = m.elements;
    out.data = m.send ? call.reads.at(reads++).data : call.writes.at(writes++).data;
    messages.push_back(out);
  }
}

void channel_calls(const OpCall& call, int worker, std::int64_t clock, std::vector<MessageCall>& messages) {
  const auto& op = std::get<plan::Channel>(call.op->work);
  const std::vector<plan::Rank>& members = call.rank->groups[static_cast<std::size_t>(op.group)].members;
  const bool up = op.step == plan::ChannelStep::put || op.step == plan::ChannelStep::take;
  const bool sends = op.step == plan::ChannelStep::put || op.step == plan::ChannelStep::release;
  const plan::Rank server = members[static_cast<std::size_t>(op.root)];
  const plan::Rank other = members[static_cast<std::size_t>(worker)];
  const std::vector<plan::Operand>& operands = sends ? call.op->reads : call.op->writes;
  const std::size_t parts = operands.size() - (op.step == plan::ChannelStep::take ? 1 : 0);  // the last is its own
  for (std::size_t i = 0; i < parts; ++i) {
    MessageCall out;
    out.key = {{op.tag, -1, static_cast<std::int32_t>(i)},
               static_cast<std::int32_t>(clock),
               up ? other : server,
               up ? server : other};
    out.send = sends;
    out.dtype = kernels::stored_type(op.dtype);
    out.elements = operands[i].elements;
    out.data = (sends ? call.reads : call.writes)[i].data;
    out.announces = op.step == plan::ChannelStep::put;
    messages.push_back(out);
  }
}

}  // namespace foretrain::exec
