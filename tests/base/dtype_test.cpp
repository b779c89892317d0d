#include "base/dtype.h"

#include <gtest/gtest.h>

namespace foretrain {
namespace {

TEST(Dtype, SizesRoundUpToWholeBytes) {
  EXPECT_EQ(size_bytes(Dtype::fp64, 3), 24);
  EXPECT_EQ(size_bytes(Dtype::tf32, 3), 12);  // stored as fp32
  EXPECT_EQ(size_bytes(Dtype::bf16, 3), 6);
  EXPECT_EQ(size_bytes(Dtype::nvfp4, 3), 2);  // 12 bits
  EXPECT_EQ(size_bytes(Dtype::nvfp4, 1), 1);
  EXPECT_EQ(size_bytes(Dtype::fp8, 0), 0);
}

TEST(Dtype, EveryTypeHasItsName) {
  EXPECT_EQ(name(Dtype::fp64), "fp64");
  EXPECT_EQ(name(Dtype::mxfp8), "mxfp8");
  EXPECT_EQ(name(Dtype::u8), "u8");
}

}  // namespace
}  // namespace foretrain
