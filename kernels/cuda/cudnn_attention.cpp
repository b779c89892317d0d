#include "kernels/cuda/cudnn_attention.h"

#include <cudnn.h>

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "kernels/cuda/attention_graph.h"

namespace foretrain::kernels::cuda {

namespace {

void check(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS) {
    throw EnvironmentError(fmt::format("cuDNN: {}: {}", call, cudnnGetErrorString(status)));
  }
}

// A descriptor of the graph interface: attributes, then finalize.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    check(cudnnBackendCreateDescriptor(type, &handle_), "cudnnBackendCreateDescriptor");
  }
  Descriptor(Descriptor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (handle_ != nullptr) {
      cudnnBackendDestroyDescriptor(handle_);
    }
  }

  cudnnBackendDescriptor_t get() const { return handle_; }
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                  const void* values) {
    check(cudnnBackendSetAttribute(handle_, name, type, count, values), "cudnnBackendSetAttribute");
    return *this;
  }
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    return set(name, type, 1, &value);
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, value.handle_);
  }
  Descriptor& finalize() {
    check(cudnnBackendFinalize(handle_), "cudnnBackendFinalize");
    return *this;
  }

 private:
  cudnnBackendDescriptor_t handle_ = nullptr;
};

cudnnDataType_t data_type(GraphType type) {
  switch (type) {
    case GraphType::bf16: return CUDNN_DATA_BFLOAT16;
    case GraphType::fp32: return CUDNN_DATA_FLOAT;
    case GraphType::i32: return CUDNN_DATA_INT32;
    case GraphType::boolean: return CUDNN_DATA_BOOLEAN;
  }
  return CUDNN_DATA_FLOAT;
}

Descriptor tensor(const GraphTensor& t) {
  constexpr std::int64_t kAlignment = 16;
  Descriptor descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  descriptor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, data_type(t.type))
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, t.dims.data())
      .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, t.strides.data())
      .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, t.id)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kAlignment)
      .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, t.is_virtual())
      .set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, t.is_host_value());
  descriptor.finalize();
  return descriptor;
}

cudnnPointwiseMode_t pointwise_mode(GraphOpKind kind) {
  switch (kind) {
    case GraphOpKind::multiply: return CUDNN_POINTWISE_MUL;
    case GraphOpKind::subtract: return CUDNN_POINTWISE_SUB;
    case GraphOpKind::add: return CUDNN_POINTWISE_ADD;
    case GraphOpKind::divide: return CUDNN_POINTWISE_DIV;
    case GraphOpKind::exp: return CUDNN_POINTWISE_EXP;
    case GraphOpKind::log: return CUDNN_POINTWISE_LOG;
    case GraphOpKind::row_index:
    case GraphOpKind::column_index: return CUDNN_POINTWISE_GEN_INDEX;
    case GraphOpKind::greater_equal: return CUDNN_POINTWISE_CMP_GE;
    case GraphOpKind::select: return CUDNN_POINTWISE_BINARY_SELECT;
    default: CHECK(false, "a graph op of kind {} element by element", static_cast<int>(kind));
  }
}

using Tensors = std::map<GraphTensorId, Descriptor>;

// An operation holds its own copy of what describes it.
Descriptor matmul(const GraphOp& op, const Tensors& tensors) {
  Descriptor how(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT).finalize();
  Descriptor operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, tensors.at(op.x))
      .set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, tensors.at(*op.b))
      .set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, tensors.at(op.y))
      .set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how)
      .finalize();
  return operation;
}

Descriptor reduction(const GraphOp& op, const Tensors& tensors) {
  Descriptor how(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
           op.kind == GraphOpKind::row_maximum ? CUDNN_REDUCE_TENSOR_MAX : CUDNN_REDUCE_TENSOR_ADD)
      .finalize();
  Descriptor operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, tensors.at(op.x))
      .set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, tensors.at(op.y))
      .set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how)
      .finalize();
  return operation;
}

Descriptor pointwise(const GraphOp& op, const Tensors& tensors) {
  Descriptor how(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, pointwise_mode(op.kind))
      .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE,
           op.kind == GraphOpKind::greater_equal ? CUDNN_DATA_BOOLEAN : CUDNN_DATA_FLOAT);
  if (op.kind == GraphOpKind::row_index || op.kind == GraphOpKind::column_index) {
    const std::int64_t axis = op.kind == GraphOpKind::row_index ? 2 : 3;
    how.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
  }
  how.finalize();
  Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how)
      .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors.at(op.x))
      .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors.at(op.y));
  if (op.b) {
    operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors.at(*op.b));
  }
  if (op.t) {
    operation.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, tensors.at(*op.t));
  }
  operation.finalize();
  return operation;
}

Descriptor operation(const GraphOp& op, const Tensors& tensors) {
  switch (op.kind) {
    case GraphOpKind::matmul: return matmul(op, tensors);
    case GraphOpKind::row_maximum:
    case GraphOpKind::row_sum: return reduction(op, tensors);
    default: return pointwise(op, tensors);
  }
}

// The first of the heuristic's engines that takes the graph and has room in the workspace; none: *why.
std::optional<Descriptor> plan_of(const AttentionGraph& graph, cudnnHandle_t library, std::string* why) {
  Tensors tensors;
  for (const GraphTensor& t : graph.tensors) {
    tensors.emplace(t.id, tensor(t));
  }
  std::vector<Descriptor> operations;
  std::vector<cudnnBackendDescriptor_t> handles;
  for (const GraphOp& op : graph.ops) {
    operations.push_back(operation(op, tensors));
    handles.push_back(operations.back().get());
  }
  const auto failed = [&](cudnnStatus_t status) {
    if (status != CUDNN_STATUS_SUCCESS) {
      char words[512] = "";
      cudnnGetLastErrorString(words, sizeof(words));
      *why = fmt::format("{}: {}", cudnnGetErrorString(status), words);
    }
    return status != CUDNN_STATUS_SUCCESS;
  };
  Descriptor operation_graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  operation_graph
      .set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(handles.size()),
           handles.data())
      .set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, library);
  if (failed(cudnnBackendFinalize(operation_graph.get()))) {
    return std::nullopt;
  }
  Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, operation_graph)
      .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
  if (failed(cudnnBackendFinalize(heuristic.get()))) {
    return std::nullopt;
  }
  constexpr std::size_t kMost = 16;
  std::vector<Descriptor> configurations;
  std::vector<cudnnBackendDescriptor_t> results;
  for (std::size_t i = 0; i < kMost; ++i) {
    configurations.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    results.push_back(configurations.back().get());
  }
  std::int64_t count = 0;
  check(cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, kMost,
                                 &count, results.data()),
        "cudnnBackendGetAttribute");
  *why = "no engine";
  for (std::size_t i = 0; i < static_cast<std::size_t>(count) && i < kMost; ++i) {
    Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configurations[i])
        .set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, library);
    if (failed(cudnnBackendFinalize(plan.get()))) {
      continue;
    }
    std::int64_t bytes = 0, one = 0;
    check(cudnnBackendGetAttribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &one,
                                   &bytes),
          "cudnnBackendGetAttribute");
    if (static_cast<std::size_t>(bytes) <= kWorkspaceBytes) {
      return plan;
    }
    *why = fmt::format("a workspace of {} bytes", bytes);
  }
  return std::nullopt;
}

auto key_of(const AttentionShape& s) {
  return std::tuple(s.batch, s.seq, s.heads, s.kv_heads, s.head_dim, s.v_dim(), s.causal, s.window, s.document);
}

bool is_aligned(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
}

}  // namespace

struct CudnnAttention::State {
  cudnnHandle_t handle = nullptr;
  std::map<decltype(key_of({})), std::optional<Descriptor>> plans;
  std::vector<std::string> refused;

  ~State() {
    plans.clear();
    if (handle != nullptr) {
      cudnnDestroy(handle);
    }
  }

  const std::optional<Descriptor>& plan(const AttentionShape& s) {
    const auto [at, is_new] = plans.try_emplace(key_of(s));
    if (is_new) {
      std::string why = "a window, documents, or heads that are no multiple of 8";
      const std::optional<AttentionGraph> graph = attention_graph(s);
      if (std::optional<Descriptor> found = graph ? plan_of(*graph, handle, &why) : std::nullopt) {
        at->second.emplace(std::move(*found));
      } else {
        refused.push_back(fmt::format("cuDNN has no attention of {} x {} tokens and {}/{} heads of {} and {} ({})",
                                      s.batch, s.seq, s.heads, s.kv_heads, s.head_dim, s.v_dim(), why));
      }
    }
    return at->second;
  }
};

CudnnAttention::CudnnAttention() : state_(std::make_unique<State>()) {
  check(cudnnCreate(&state_->handle), "cudnnCreate");
}

CudnnAttention::~CudnnAttention() = default;

const std::vector<std::string>& CudnnAttention::refused() const {
  return state_->refused;
}

bool CudnnAttention::forward(const Stream& stream, const AttentionShape& s, ConstTensor qkv, Tensor o, Tensor lse) {
  if (qkv.dtype != Dtype::bf16 || !is_aligned(qkv.data) || !is_aligned(o.data) || !is_aligned(lse.data)) {
    return false;
  }
  const std::optional<Descriptor>& plan = state_->plan(s);
  if (!plan) {
    return false;
  }
  check(cudnnSetStream(state_->handle, static_cast<cudaStream_t>(stream.handle)), "cudnnSetStream");
  constexpr std::int64_t kElement = 2;
  auto* const q = static_cast<char*>(const_cast<void*>(qkv.data));  // the interface has one kind of pointer
  float scale = static_cast<float>(s.scale != 0.0 ? s.scale : 1.0 / std::sqrt(static_cast<double>(s.head_dim)));
  float minus_infinity = -std::numeric_limits<float>::infinity();
  const std::vector<std::pair<GraphTensorId, void*>> tensors = {
      {GraphTensorId::q, q},
      {GraphTensorId::k, q + s.q_cols() * kElement},
      {GraphTensorId::v, q + (s.q_cols() + s.kv_heads * s.head_dim) * kElement},
      {GraphTensorId::o, o.data},
      {GraphTensorId::lse, lse.data},
      {GraphTensorId::scale, &scale},
      {GraphTensorId::minus_infinity, &minus_infinity}};
  std::vector<std::int64_t> ids;
  std::vector<void*> addresses;
  for (const auto& [id, address] : tensors) {
    if (s.causal || id != GraphTensorId::minus_infinity) {
      ids.push_back(static_cast<std::int64_t>(id));
      addresses.push_back(address);
    }
  }
  const auto count = static_cast<std::int64_t>(ids.size());
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, addresses.data())
      .set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids.data())
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, stream.workspace)
      .finalize();
  check(cudnnBackendExecute(state_->handle, plan->get(), pack.get()), "cudnnBackendExecute");
  return true;
}

}  // namespace foretrain::kernels::cuda
