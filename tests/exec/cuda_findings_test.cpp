// What is said of a machine with GPUs, and whether its versions go together.
#include <gtest/gtest.h>

#include <map>

#include "exec/cuda.h"

namespace foretrain::exec {
namespace {

CudaState two_gpus() {
  CudaState s;
  s.is_built = s.is_usable = true;
  s.versions = {13000, 13000, "580.65.06", 130002, 91301, 13000, 22809};
  s.devices = {{"NVIDIA H100 80GB HBM3", Bytes{85'000'000'000}, 9, 0, 18},
               {"NVIDIA H100 80GB HBM3", Bytes{85'000'000'000}, 9, 0, 18}};
  return s;
}

std::map<std::string, CudaFinding> by_name(const CudaState& state) {
  std::map<std::string, CudaFinding> all;
  for (const CudaFinding& f : cuda_findings(state)) {
    all[f.name] = f;
  }
  return all;
}

TEST(CudaFindings, AllIsWell) {
  const auto all = by_name(two_gpus());
  EXPECT_EQ(all.size(), 7U);
  for (const auto& [name, f] : all) {
    EXPECT_TRUE(f.is_good) << name;
    EXPECT_EQ(f.remedy, "") << name;
  }
  EXPECT_EQ(all.at("driver").detail, "release 580.65.06, of CUDA 13.0; this program's runtime is of 13.0");
  EXPECT_EQ(all.at("GPU 1").detail, "NVIDIA H100 80GB HBM3, 85.0 GB, compute capability 9.0");
  EXPECT_EQ(all.at("NVLink").detail, "links that are up, by GPU: 18, 18");
  EXPECT_EQ(all.at("cuBLASLt").detail, "13.0.2");
  EXPECT_EQ(all.at("cuDNN").detail, "9.13.1, of CUDA 13.0");
  EXPECT_EQ(all.at("NCCL").detail, "2.28.9");
}

TEST(CudaFindings, VersionsThatDoNotGoTogether) {
  CudaState s = two_gpus();
  s.versions.driver = 12080;
  s.versions.cudnn_runtime = 12090;
  s.versions.nccl = 21705;
  s.devices[1].nvlinks = 17;
  s.devices[1].major = 7;
  const auto all = by_name(s);
  EXPECT_EQ(all.at("driver").remedy, "install a driver of CUDA 13.0 or newer");
  EXPECT_EQ(all.at("cuDNN").remedy, "install the one of CUDA 13 (libcudnn9-cuda-13)");
  EXPECT_EQ(all.at("NCCL").remedy, "install 2.18 or later");
  EXPECT_EQ(all.at("NVLink").detail, "links that are up, by GPU: 18, 17");
  EXPECT_FALSE(all.at("NVLink").is_good);
  EXPECT_TRUE(all.at("GPU 0").is_good);
  EXPECT_EQ(all.at("GPU 1").remedy, "GPUs from compute capability 8.0 on (A100 and later) can be used");
}

// One GPU needs no NCCL.
TEST(CudaFindings, WhatIsAbsent) {
  CudaState s = two_gpus();
  s.versions.nccl = s.versions.cudnn = 0;
  EXPECT_NE(by_name(s).at("NCCL").remedy, "");
  s.devices.resize(1);
  const auto all = by_name(s);
  EXPECT_EQ(all.at("NCCL").remedy, "");
  EXPECT_EQ(all.count("NVLink"), 0U);
  EXPECT_EQ(all.at("cuDNN").remedy, "attention runs by our own kernels; faster with cuDNN 9");
}

}  // namespace
}  // namespace foretrain::exec
