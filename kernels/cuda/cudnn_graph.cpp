#include "kernels/cuda/cudnn_graph.h"

#include "base/error.h"

namespace foretrain::kernels::cuda {

namespace {

cudnnDataType_t data_type(GraphType type) {
  switch (type) {
    case GraphType::bf16: return CUDNN_DATA_BFLOAT16;
    case GraphType::fp32: return CUDNN_DATA_FLOAT;
    case GraphType::i32: return CUDNN_DATA_INT32;
    case GraphType::boolean: return CUDNN_DATA_BOOLEAN;
  }
  return CUDNN_DATA_FLOAT;
}

CudnnDescriptor tensor(const GraphTensor& t) {
  constexpr std::int64_t kAlignment = 16;
  CudnnDescriptor descriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
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
    case GraphOpKind::copy: return CUDNN_POINTWISE_IDENTITY;
    case GraphOpKind::exp: return CUDNN_POINTWISE_EXP;
    case GraphOpKind::log: return CUDNN_POINTWISE_LOG;
    case GraphOpKind::row_index:
    case GraphOpKind::column_index: return CUDNN_POINTWISE_GEN_INDEX;
    case GraphOpKind::greater_equal: return CUDNN_POINTWISE_CMP_GE;
    case GraphOpKind::select: return CUDNN_POINTWISE_BINARY_SELECT;
    default: CHECK(false, "a graph op of kind {} element by element", static_cast<int>(kind));
  }
}

using Tensors = std::map<GraphTensorId, CudnnDescriptor>;

// An operation holds its own copy of what describes it.
CudnnDescriptor matmul(const GraphOp& op, const Tensors& tensors) {
  CudnnDescriptor how(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT).finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, tensors.at(op.x))
      .set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, tensors.at(*op.b))
      .set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, tensors.at(op.y))
      .set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how)
      .finalize();
  return operation;
}

CudnnDescriptor reduction(const GraphOp& op, const Tensors& tensors) {
  CudnnDescriptor how(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
           op.kind == GraphOpKind::row_maximum ? CUDNN_REDUCE_TENSOR_MAX : CUDNN_REDUCE_TENSOR_ADD)
      .finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, tensors.at(op.x))
      .set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, tensors.at(op.y))
      .set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how)
      .finalize();
  return operation;
}

CudnnDescriptor transpose(const GraphOp& op, const Tensors& tensors) {
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, tensors.at(op.x))
      .set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, tensors.at(op.y))
      .finalize();
  return operation;
}

CudnnDescriptor pointwise(const GraphOp& op, const Tensors& tensors) {
  CudnnDescriptor how(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, pointwise_mode(op.kind))
      .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE,
           op.kind == GraphOpKind::greater_equal ? CUDNN_DATA_BOOLEAN : CUDNN_DATA_FLOAT);
  if (op.kind == GraphOpKind::row_index || op.kind == GraphOpKind::column_index) {
    const std::int64_t axis = op.kind == GraphOpKind::row_index ? 2 : 3;
    how.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
  }
  how.finalize();
  CudnnDescriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
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

CudnnDescriptor operation(const GraphOp& op, const Tensors& tensors) {
  switch (op.kind) {
    case GraphOpKind::matmul: return matmul(op, tensors);
    case GraphOpKind::row_maximum:
    case GraphOpKind::sum: return reduction(op, tensors);
    case GraphOpKind::transpose: return transpose(op, tensors);
    default: return pointwise(op, tensors);
  }
}

// Of what plans are made for, the attribute that a descriptor has for it.
void set_target(CudnnDescriptor& descriptor, const CudnnTarget& target,
                std::optional<cudnnBackendAttributeName_t> handle,
                std::optional<cudnnBackendAttributeName_t> properties) {
  if (target.properties != nullptr && properties) {
    descriptor.set(*properties, *target.properties);
  } else if (target.properties == nullptr && handle) {
    descriptor.set(*handle, CUDNN_TYPE_HANDLE, target.handle);
  }
}

}  // namespace

void check_cudnn(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS) {
    throw EnvironmentError(fmt::format("cuDNN: {}: {}", call, cudnnGetErrorString(status)));
  }
}

CudnnDescriptor::CudnnDescriptor(cudnnBackendDescriptorType_t type) {
  check_cudnn(cudnnBackendCreateDescriptor(type, &handle_), "cudnnBackendCreateDescriptor");
}

CudnnDescriptor::~CudnnDescriptor() {
  if (handle_ != nullptr) {
    cudnnBackendDestroyDescriptor(handle_);
  }
}

CudnnDescriptor& CudnnDescriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                      std::int64_t count, const void* values) {
  check_cudnn(cudnnBackendSetAttribute(handle_, name, type, count, values), "cudnnBackendSetAttribute");
  return *this;
}

CudnnDescriptor& CudnnDescriptor::set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
  return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, value.handle_);
}

CudnnDescriptor& CudnnDescriptor::finalize() {
  check_cudnn(cudnnBackendFinalize(handle_), "cudnnBackendFinalize");
  return *this;
}

CudnnDescriptor cudnn_properties(const std::string& json) {
  CudnnDescriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  properties
      .set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<std::int64_t>(json.size() + 1),
           json.c_str())
      .finalize();
  return properties;
}

std::optional<CudnnPlan> cudnn_plan(const AttentionGraph& graph, const CudnnTarget& target, std::string* why) {
  Tensors tensors;
  for (const GraphTensor& t : graph.tensors) {
    tensors.emplace(t.id, tensor(t));
  }
  std::vector<CudnnDescriptor> operations;
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
  CudnnDescriptor operation_graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  operation_graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                      static_cast<std::int64_t>(handles.size()), handles.data());
  set_target(operation_graph, target, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, std::nullopt);
  if (failed(cudnnBackendFinalize(operation_graph.get()))) {
    return std::nullopt;
  }
  CudnnDescriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, operation_graph)
      .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
  set_target(heuristic, target, std::nullopt, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
  if (failed(cudnnBackendFinalize(heuristic.get()))) {
    return std::nullopt;
  }
  constexpr std::size_t kMost = 16;
  std::vector<CudnnDescriptor> configurations;
  std::vector<cudnnBackendDescriptor_t> results;
  for (std::size_t i = 0; i < kMost; ++i) {
    configurations.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    results.push_back(configurations.back().get());
  }
  std::int64_t count = 0;
  check_cudnn(cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                       kMost, &count, results.data()),
              "cudnnBackendGetAttribute");
  *why = kNoEngine;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count) && i < kMost; ++i) {
    CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configurations[i]);
    set_target(plan, target, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    if (failed(cudnnBackendFinalize(plan.get()))) {
      continue;
    }
    std::int64_t bytes = 0, one = 0;
    check_cudnn(cudnnBackendGetAttribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                         &one, &bytes),
                "cudnnBackendGetAttribute");
    return CudnnPlan{std::move(plan), static_cast<std::size_t>(bytes)};
  }
  return std::nullopt;
}

}  // namespace foretrain::kernels::cuda
