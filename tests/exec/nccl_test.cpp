// What of NCCL can be asked where there is no GPU.
#include "exec/nccl.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace foretrain::exec {
namespace {

void* no_stream(GpuStream) {
  return nullptr;
}

TEST(Nccl, SaysWhatItIsOrWhatIsMissing) {
  try {
    EXPECT_EQ(open_nccl(no_stream)->name().rfind("NCCL 2.", 0), 0u);
  } catch (const EnvironmentError& e) {
    EXPECT_NE(std::string(e.what()).find("install"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace foretrain::exec
