// Whether cuDNN has engines for our graphs on devices that are only described. It compiles their kernels, and then
// wants a driver: what stands in for one here (the toolkit's) loads none. Of a graph that it does not take it says so
// first.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/cuda/cudnn_graph.h"

namespace foretrain::kernels::cuda {
namespace {

struct Device {
  const char* name;
  int capability, processors, shared_bytes;
};
constexpr Device kA100{"NVIDIA A100-SXM4-80GB", 800, 108, 166912}, kH100{"NVIDIA H100 80GB HBM3", 900, 132, 232448},
    kB200{"NVIDIA B200", 1000, 148, 232448};

// As cuDNN 9.19 writes and reads it. Of what is the same of all devices, what it asks for.
CudnnDescriptor properties_of(const Device& d) {
  return cudnn_properties(fmt::format(
      R"({{"deviceName":"{}","deviceVer":{},"multiProcessorCount":{},"maxSharedMemoryPerBlockOptin":{},"cudaDeviceId":0,)"
      R"("driverVer":13000,"totalGlobalMem":80000000000,"maxGridSize":[2147483647,65535,65535],)"
      R"("maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"smClockRateKHz":1500000,"memClockRateKHz":2000000,)"
      R"("l2CacheSize":41943040,"warpSize":32,"maxSharedMemoryPerBlock":49152,"reservedSharedMemoryPerBlock":1024,)"
      R"("maxRegistersPerSM":65536,"pciDeviceId":0,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,)"
      R"("isTccDriver":0,"supportCoopLaunch":1}})",
      d.name, d.capability, d.processors, d.shared_bytes));
}

bool has_engine(const AttentionGraph& graph, const Device& device) {
  const CudnnDescriptor properties = properties_of(device);
  std::string why;
  return cudnn_plan(graph, {nullptr, &properties}, &why) || why != kNoEngine;
}

constexpr AttentionShape kGpt2 = {.batch = 8, .seq = 1024, .heads = 12, .kv_heads = 12, .head_dim = 64};
constexpr AttentionShape kGrouped = {
    .batch = 2, .seq = 1000, .heads = 8, .kv_heads = 2, .head_dim = 128, .causal = false};
constexpr AttentionShape kLatent = {
    .batch = 2, .seq = 1024, .heads = 16, .kv_heads = 16, .head_dim = 192, .value_dim = 128};

TEST(CudnnPlans, OfForwards) {
  EXPECT_TRUE(has_engine(*attention_graph(kGpt2), kA100));
  EXPECT_TRUE(has_engine(*attention_graph(kGrouped), kH100));
  EXPECT_TRUE(has_engine(*attention_graph(kLatent), kB200));
}

// Whole, and one head of one sequence.
TEST(CudnnPlans, OfBackwards) {
  EXPECT_TRUE(has_engine(attention_backward_graph(kGpt2, {8, 12}), kH100));
  EXPECT_TRUE(has_engine(attention_backward_graph(kGrouped, {1, 1}), kA100));
  EXPECT_TRUE(has_engine(attention_backward_graph(kLatent, {2, 16}), kB200));
  EXPECT_FALSE(has_engine(attention_backward_graph(kLatent, {2, 16}), kA100));
}

// What misses an operation is no attention.
TEST(CudnnPlans, OfNothingElse) {
  AttentionGraph graph = *attention_graph(kGpt2);
  graph.ops.pop_back();
  EXPECT_FALSE(has_engine(graph, kH100));
}

}  // namespace
}  // namespace foretrain::kernels::cuda
