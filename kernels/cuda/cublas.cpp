#include "kernels/cuda/cublas.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <map>
#include <optional>
#include <tuple>

#include "base/error.h"
#include "kernels/cuda/matmul_layout.h"

namespace foretrain::kernels::cuda {

namespace {

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw EnvironmentError(fmt::format("cuBLASLt: {}: {}", call, cublasLtGetStatusString(status)));
  }
}

void check(cudaError_t error, const char* call) {
  if (error != cudaSuccess) {
    throw EnvironmentError(fmt::format("CUDA: {}: {}", call, cudaGetErrorString(error)));
  }
}

#define CHECK_CALL(function, ...) check(function(__VA_ARGS__), #function)

// Owns one handle of the library.
template <class T, cublasStatus_t (*kDestroy)(T)>
class Handle {
 public:
  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (handle_ != nullptr) {
      kDestroy(handle_);
    }
  }
  T get() const { return handle_; }
  T* out() { return &handle_; }

 private:
  T handle_ = nullptr;
};
using Library = Handle<cublasLtHandle_t, cublasLtDestroy>;
using Layout = Handle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Operation = Handle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Handle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType_t data_type(Dtype d) {
  return d == Dtype::fp64 ? CUDA_R_64F : d == Dtype::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

cublasComputeType_t compute_type(Dtype arithmetic) {
  return arithmetic == Dtype::fp64   ? CUBLAS_COMPUTE_64F
         : arithmetic == Dtype::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                     : CUBLAS_COMPUTE_32F;
}

void create(const ColumnMatrix& matrix, std::int64_t batch, Layout& layout) {
  CHECK_CALL(cublasLtMatrixLayoutCreate, layout.out(), data_type(matrix.dtype), static_cast<std::uint64_t>(matrix.rows),
             static_cast<std::uint64_t>(matrix.cols), matrix.ld);
  const auto set = [&](cublasLtMatrixLayoutAttribute_t attribute, auto value) {
    CHECK_CALL(cublasLtMatrixLayoutSetAttribute, layout.get(), attribute, &value, sizeof(value));
  };
  set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batch));
  set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, matrix.stride);
}

template <class T>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, T value) {
  CHECK_CALL(cublasLtMatmulDescSetAttribute, operation.get(), attribute, &value, sizeof(value));
}

// The greatest power of two that divides an address; cuBLASLt asks for no more than 256.
std::uint32_t alignment(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | 256;
  return static_cast<std::uint32_t>(bits & -bits);
}

struct Operands {
  const void *left, *right, *bias;
  void *out, *x;
};

// Algorithms may differ by the alignment of each operand.
using Key = std::tuple<ColumnProduct, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>;

Key key_of(const ColumnProduct& product, const Operands& operands) {
  return {product,
          alignment(operands.left),
          alignment(operands.right),
          alignment(operands.bias),
          alignment(operands.out),
          alignment(operands.x)};
}

cublasLtEpilogue_t epilogue(const ColumnProduct& product) {
  switch (product.epilogue) {
    case Epilogue::gelu: return product.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case Epilogue::gelu_backward: return CUBLASLT_EPILOGUE_DGELU;
    case Epilogue::none: break;
  }
  return product.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

// Where the epilogue finds what it works on: of each call, and when an algorithm is chosen, for the alignment.
void point(const Operation& operation, const ColumnProduct& product, const Operands& operands) {
  if (product.bias) {
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
  }
  if (product.epilogue != Epilogue::none) {
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, operands.x);
  }
}

struct Plan {
  Operation operation;
  Layout left, right, out;
  std::optional<cublasLtMatmulAlgo_t> algorithm;  // none: no such product
};

// REQUIRES: an algorithm.
void run(const Library& library, const Plan& plan, const ColumnProduct& product, const Operands& operands,
         const Stream& stream) {
  const double one = 1.0, beta = product.accumulate ? 1.0 : 0.0;
  const float one_32 = 1.0F, beta_32 = static_cast<float>(beta);
  const bool is_64 = product.arithmetic == Dtype::fp64;
  CHECK_CALL(cublasLtMatmul, library.get(), plan.operation.get(), is_64 ? static_cast<const void*>(&one) : &one_32,
             operands.left, plan.left.get(), operands.right, plan.right.get(),
             is_64 ? static_cast<const void*>(&beta) : &beta_32, operands.out, plan.out.get(), operands.out,
             plan.out.get(), &*plan.algorithm, stream.workspace, kWorkspaceBytes,
             static_cast<cudaStream_t>(stream.handle));
}

}  // namespace

struct Cublas::State {
  Library library;
  std::map<Key, Plan> plans;

  void make(const ColumnProduct& product, const Operands& operands, Plan& plan);
  void choose(const Operands& operands, Plan& plan);
};

void Cublas::State::make(const ColumnProduct& product, const Operands& operands, Plan& plan) {
  CHECK_CALL(cublasLtMatmulDescCreate, plan.operation.out(), compute_type(product.arithmetic),
             product.arithmetic == Dtype::fp64 ? CUDA_R_64F : CUDA_R_32F);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, product.transpose_left ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, product.transpose_right ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(product));
  if (product.bias) {
    set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(product.out.dtype));
  }
  if (product.epilogue != Epilogue::none) {
    set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, product.out.ld);
  }
  point(plan.operation, product, operands);
  create(product.left, product.batch, plan.left);
  create(product.right, product.batch, plan.right);
  create(product.out, product.batch, plan.out);
  choose(operands, plan);
}

void Cublas::State::choose(const Operands& operands, Plan& plan) {
  Preference preference;
  CHECK_CALL(cublasLtMatmulPreferenceCreate, preference.out());
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    CHECK_CALL(cublasLtMatmulPreferenceSetAttribute, preference.get(), attribute, &value, sizeof(value));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kWorkspaceBytes});
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(operands.left));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(operands.right));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(operands.out));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(operands.out));
  // Parts of a sum over k are added up in the wide type and rounded once.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  cublasLtMatmulHeuristicResult_t result = {};
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(library.get(), plan.operation.get(), plan.left.get(), plan.right.get(),
                                     plan.out.get(), plan.out.get(), preference.get(), 1, &result, &count);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) {
    check(status, "cublasLtMatmulAlgoGetHeuristic");
  }
  if (count > 0 && result.state == CUBLAS_STATUS_SUCCESS) {
    plan.algorithm = result.algo;
  }
}

Cublas::Cublas() : state_(std::make_unique<State>()) {
  CHECK_CALL(cublasLtCreate, state_->library.out());
}

Cublas::~Cublas() = default;

bool Cublas::matmul(const Stream& stream, const MatmulShape& shape, ConstTensor a, ConstTensor b, ConstTensor bias,
                    Tensor c, bool accumulate, const Behind& behind) {
  const std::optional<ColumnProduct> product =
      column_product(shape, a.dtype, b.dtype, bias ? std::optional<Dtype>(bias.dtype) : std::nullopt, c.dtype,
                     accumulate, behind.epilogue);
  if (!product) {
    return false;
  }
  const Operands operands = {b.data, a.data, bias.data, c.data, behind.x};
  const auto [at, is_new] = state_->plans.try_emplace(key_of(*product, operands));
  Plan& plan = at->second;
  if (is_new) {
    state_->make(*product, operands, plan);
  }
  if (!plan.algorithm) {
    return false;
  }
  point(plan.operation, *product, operands);
  run(state_->library, plan, *product, operands, stream);
  return true;
}

}  // namespace foretrain::kernels::cuda
