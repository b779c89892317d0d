#include "kernels/cuda/cudnn_attention.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "kernels/cuda/cudnn_graph.h"

namespace foretrain::kernels::cuda {

namespace {

constexpr const char* kNoGraph = "a window, documents, or heads that are no multiple of 8";
constexpr std::size_t kPadding = 256;  // of pieces of the workspace
constexpr std::size_t kElement = 2;    // bytes of bf16
// Before, it needed a mask for what fills up rows of keys to 128.
constexpr std::size_t kLeastForBackward = 91600;

std::size_t padded(std::int64_t floats) {
  return (static_cast<std::size_t>(floats) * sizeof(float) + kPadding - 1) / kPadding * kPadding;
}

auto key_of(const AttentionShape& s) {
  return std::tuple(s.batch, s.seq, s.heads, s.kv_heads, s.head_dim, s.v_dim(), s.causal, s.window, s.document);
}

bool are_aligned(std::initializer_list<const void*> addresses) {
  return std::all_of(addresses.begin(), addresses.end(),
                     [](const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; });
}

// A portion of a backward, and how the workspace is shared: dots, dq_sums, the plan's own.
struct BackwardPlan {
  CudnnPlan plan;
  AttentionPortion portion;
  std::size_t dq_sums = 0, own = 0;  // where they begin
};

using Bindings = std::vector<std::pair<GraphTensorId, void*>>;

void* past(const void* tensor, std::int64_t elements, std::size_t element = kElement) {
  return static_cast<char*>(const_cast<void*>(tensor)) +
         elements * static_cast<std::int64_t>(element);  // cuDNN has one kind of pointer
}

}  // namespace

struct CudnnAttention::State {
  cudnnHandle_t handle = nullptr;
  Order order = Order::fixed;
  std::map<decltype(key_of({})), std::optional<CudnnPlan>> forwards;
  std::map<decltype(key_of({})), std::optional<BackwardPlan>> backwards;
  std::vector<std::string> refused;

  ~State() {
    forwards.clear();
    backwards.clear();
    if (handle != nullptr) {
      cudnnDestroy(handle);
    }
  }

  void refuse(const char* what, const AttentionShape& s, const std::string& why) {
    refused.push_back(fmt::format("cuDNN has no {} of {} x {} tokens and {}/{} heads of {} and {} ({})", what, s.batch,
                                  s.seq, s.heads, s.kv_heads, s.head_dim, s.v_dim(), why));
  }

  const std::optional<CudnnPlan>& forward(const AttentionShape& s) {
    const auto [at, is_new] = forwards.try_emplace(key_of(s));
    if (is_new) {
      std::string why = kNoGraph;
      const std::optional<AttentionGraph> graph = attention_graph(s);
      std::optional<CudnnPlan> plan = graph ? cudnn_plan(*graph, {handle, nullptr}, &why) : std::nullopt;
      if (plan && plan->workspace <= kWorkspaceBytes) {
        at->second.emplace(std::move(*plan));
      } else {
        refuse("attention", s, plan ? fmt::format("a workspace of {} bytes", plan->workspace) : why);
      }
    }
    return at->second;
  }

  const std::optional<BackwardPlan>& backward(const AttentionShape& s) {
    const auto [at, is_new] = backwards.try_emplace(key_of(s));
    if (!is_new) {
      return at->second;
    }
    std::string why = attention_graph(s) ? "no portion has room in the workspace" : kNoGraph;
    for (const AttentionPortion& portion :
         attention_graph(s) ? attention_portions(s) : std::vector<AttentionPortion>{}) {
      const std::size_t dq_sums = padded(portion.dots(s)), own = dq_sums + padded(portion.dq_sums(s));
      if (own > kWorkspaceBytes) {
        continue;
      }
      std::string none;
      std::optional<CudnnPlan> plan = cudnn_plan(attention_backward_graph(s, portion), {handle, nullptr}, &none);
      if (!plan) {  // nor has less of the same an engine
        why = none;
        break;
      }
      if (own + plan->workspace <= kWorkspaceBytes) {
        at->second.emplace(BackwardPlan{std::move(*plan), portion, dq_sums, own});
        return at->second;
      }
    }
    refuse("backward of attention", s, why);
    return at->second;
  }

  void execute(const Stream& stream, const CudnnPlan& plan, const AttentionShape& s, Bindings tensors,
               std::size_t own) {
    float scale = static_cast<float>(s.scale != 0.0 ? s.scale : 1.0 / std::sqrt(static_cast<double>(s.head_dim)));
    float minus_infinity = -std::numeric_limits<float>::infinity();
    tensors.emplace_back(GraphTensorId::scale, &scale);
    if (s.causal) {
      tensors.emplace_back(GraphTensorId::minus_infinity, &minus_infinity);
    }
    std::vector<std::int64_t> ids;
    std::vector<void*> addresses;
    for (const auto& [id, address] : tensors) {
      ids.push_back(static_cast<std::int64_t>(id));
      addresses.push_back(address);
    }
    const auto count = static_cast<std::int64_t>(ids.size());
    void* const workspace = past(stream.workspace, static_cast<std::int64_t>(own), 1);
    CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, addresses.data())
        .set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids.data())
        .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace)
        .finalize();
    check_cudnn(cudnnSetStream(handle, static_cast<cudaStream_t>(stream.handle)), "cudnnSetStream");
    check_cudnn(cudnnBackendExecute(handle, plan.plan.get(), pack.get()), "cudnnBackendExecute");
  }
};

CudnnAttention::CudnnAttention(Order order) : state_(std::make_unique<State>()) {
  state_->order = order;
  check_cudnn(cudnnCreate(&state_->handle), "cudnnCreate");
}

CudnnAttention::~CudnnAttention() = default;

const std::vector<std::string>& CudnnAttention::refused() const {
  return state_->refused;
}

bool CudnnAttention::forward(const Stream& stream, const AttentionShape& s, ConstTensor qkv, Tensor o, Tensor lse) {
  if (qkv.dtype != Dtype::bf16 || !are_aligned({qkv.data, o.data, lse.data})) {
    return false;
  }
  const std::optional<CudnnPlan>& plan = state_->forward(s);
  if (!plan) {
    return false;
  }
  state_->execute(stream, *plan, s,
                  {{GraphTensorId::q, past(qkv.data, 0)},
                   {GraphTensorId::k, past(qkv.data, s.q_cols())},
                   {GraphTensorId::v, past(qkv.data, s.q_cols() + s.kv_heads * s.head_dim)},
                   {GraphTensorId::o, o.data},
                   {GraphTensorId::lse, lse.data}},
                  0);
  return true;
}

bool CudnnAttention::backward(const Stream& stream, const AttentionShape& s, ConstTensor qkv, ConstTensor o,
                              ConstTensor lse, ConstTensor d_o, Tensor dqkv) {
  if (state_->order == Order::fixed || cudnnGetVersion() < kLeastForBackward || qkv.dtype != Dtype::bf16 ||
      !are_aligned({qkv.data, o.data, lse.data, d_o.data, dqkv.data})) {
    return false;
  }
  const std::optional<BackwardPlan>& plan = state_->backward(s);
  if (!plan) {
    return false;
  }
  const std::int64_t k = s.q_cols(), v = k + s.kv_heads * s.head_dim, group = s.heads / s.kv_heads;
  float one = 1;
  for (std::int64_t sequence = 0; sequence < s.batch; sequence += plan->portion.sequences) {
    for (std::int64_t kv_head = 0; kv_head < s.kv_heads; kv_head += plan->portion.kv_heads) {
      const std::int64_t row = sequence * s.seq * s.qkv_cols(), head = kv_head * group;
      const std::int64_t of_q = row + head * s.head_dim, of_k = row + k + kv_head * s.head_dim,
                         of_v = row + v + kv_head * s.v_dim();
      const std::int64_t of_o = sequence * s.seq * s.out_cols() + head * s.v_dim();
      state_->execute(stream, plan->plan, s,
                      {{GraphTensorId::q, past(qkv.data, of_q)},
                       {GraphTensorId::k, past(qkv.data, of_k)},
                       {GraphTensorId::v, past(qkv.data, of_v)},
                       {GraphTensorId::o, past(o.data, of_o)},
                       {GraphTensorId::d_o, past(d_o.data, of_o)},
                       {GraphTensorId::lse, past(lse.data, (sequence * s.heads + head) * s.seq, sizeof(float))},
                       {GraphTensorId::dq, past(dqkv.data, of_q)},
                       {GraphTensorId::dk, past(dqkv.data, of_k)},
                       {GraphTensorId::dv, past(dqkv.data, of_v)},
                       {GraphTensorId::dots, stream.workspace},
                       {GraphTensorId::dq_sums, past(stream.workspace, static_cast<std::int64_t>(plan->dq_sums), 1)},
                       {GraphTensorId::one, &one}},
                      plan->own);
    }
  }
  return true;
}

}  // namespace foretrain::kernels::cuda
