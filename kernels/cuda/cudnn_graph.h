// Graphs of attention as cuDNN's plans (its graph interface, which describes everything by attributes of descriptors).
#pragma once

#include <cudnn.h>

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "kernels/cuda/attention_graph.h"

namespace foretrain::kernels::cuda {

// Throws EnvironmentError.
void check_cudnn(cudnnStatus_t status, const char* call);

// A descriptor: attributes, then finalize.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type);
  CudnnDescriptor(CudnnDescriptor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  CudnnDescriptor& operator=(CudnnDescriptor&&) = delete;
  ~CudnnDescriptor();

  cudnnBackendDescriptor_t get() const { return handle_; }
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                       const void* values);
  template <class T>
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    return set(name, type, 1, &value);
  }
  CudnnDescriptor& set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value);
  CudnnDescriptor& finalize();

 private:
  cudnnBackendDescriptor_t handle_ = nullptr;
};

// What plans are made for: the device of a handle; or one that is not at hand, by its properties as cuDNN writes them,
// whose plans can only be looked at.
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;
  const CudnnDescriptor* properties = nullptr;
};
CudnnDescriptor cudnn_properties(const std::string& json);

struct CudnnPlan {
  CudnnDescriptor plan;
  std::size_t workspace = 0;  // bytes
};

inline constexpr const char* kNoEngine = "no engine";
// The first of the heuristic's engines that takes the graph; none: *why. It takes seconds: kernels are compiled.
std::optional<CudnnPlan> cudnn_plan(const AttentionGraph& graph, const CudnnTarget& target, std::string* why);

}  // namespace foretrain::kernels::cuda
