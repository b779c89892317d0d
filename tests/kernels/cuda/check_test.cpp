// The checks of the GPU kernels (kernels/cuda/check.h) on the host, with threads and blocks in several orders.
#include "kernels/cuda/check.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/cuda/device_code.h"

namespace foretrain::kernels::cuda {
namespace {

// Each block of memory ends where what was asked for ends, so that a sanitizer sees the first step too far.
class HostMemory final : public Memory {
 public:
  HostMemory() : workspace_(kWorkspaceBytes) { stream_.workspace = workspace_.data(); }

  void* allocate(std::size_t bytes) override { return ::operator new(bytes); }
  void release(void* memory) override { ::operator delete(memory); }
  void write(const void* from, void* to, std::size_t bytes) override { copy(from, to, bytes); }
  void read(const void* from, void* to, std::size_t bytes) override { copy(from, to, bytes); }
  const Stream& stream() override { return stream_; }

 private:
  static void copy(const void* from, void* to, std::size_t bytes) {
    if (bytes > 0) {
      std::memcpy(to, from, bytes);
    }
  }

  std::vector<unsigned char> workspace_;
  Stream stream_;
};

class Checks : public testing::TestWithParam<Check> {
 protected:
  void TearDown() override { emulation::use_order(0); }
};

TEST_P(Checks, HoldInAnyOrderOfThreads) {
  HostMemory memory;
  const Outcome first = run(GetParam(), memory);
  EXPECT_EQ(first.failure, "") << first.worst;
  EXPECT_GT(first.compared, 0);
  if (!FORETRAIN_SEVERAL_ORDERS) {
    return;
  }
  emulation::use_order(1);
  const Outcome again = run(GetParam(), memory);
  EXPECT_EQ(again.failure, "");
  EXPECT_EQ(again.bits, first.bits);
}

}  // namespace

void PrintTo(const Check& check, std::ostream* out);
void PrintTo(const Check& check, std::ostream* out) {
  *out << check.name;
}

namespace {

std::string test_name(const testing::TestParamInfo<Check>& check) {
  std::string name = check.param.name;
  std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
  return name;
}

INSTANTIATE_TEST_SUITE_P(Emulated, Checks, testing::ValuesIn(checks()), test_name);

}  // namespace
}  // namespace foretrain::kernels::cuda
