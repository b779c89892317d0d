#include <gtest/gtest.h>

#include "base/error.h"
#include "plan/foreign/measured_steps.h"
#include "tests/support/gzip.h"

namespace foretrain::plan {
namespace {

const std::string kTrace = R"({"schemaVersion": 1, "traceEvents": [
  {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#3", "ts": 1000, "dur": 400},
  {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#4", "ts": 1500, "dur": 300},
  {"ph": "X", "cat": "kernel", "name": "ampere_bf16_gemm", "ts": 1010, "dur": 200},
  {"ph": "X", "cat": "kernel", "name": "ampere_bf16_gemm", "ts": 1510, "dur": 100}]})";

// Step 3 lasts until 4 begins, 500 us, 4 as long as it says; the two matmuls make 150 us of each.
void expect_steps(const MeasuredSteps& m) {
  ASSERT_EQ(m.seconds.size(), 2u);
  EXPECT_DOUBLE_EQ(m.seconds[0], 500e-6);
  EXPECT_DOUBLE_EQ(m.seconds[1], 300e-6);
  EXPECT_DOUBLE_EQ(m.kernels.at("matmul").seconds, 150e-6);
}

TEST(Kineto, ReadsATraceAsItIsAndCompressed) {
  expect_steps(read_kineto(kTrace, "a.json"));
  expect_steps(read_compressed_kineto(gzip_of(kTrace), "a.json.gz"));
}

TEST(Kineto, NamesWhatIsNoTrace) {
  const auto refusal = [](const std::string& bytes) -> std::string {
    try {
      read_compressed_kineto(bytes, "a.gz");
    } catch (const InputError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(refusal(gzip_of("iteration 1")),
            "a.gz: compressed, and no JSON; expected a trace of PyTorch's profiler, or what gunzip makes of a log");
  const std::string whole = gzip_of(kTrace);
  EXPECT_EQ(refusal(whole.substr(0, whole.size() - 20)),
            "a.gz: ends before its stream does; expected a whole gzip file");
  EXPECT_NE(refusal(gzip_of(kTrace.substr(0, 200))).find("a.gz: byte"), std::string::npos);
  EXPECT_NE(refusal(gzip_of("{}")).find("neither kernels nor steps"), std::string::npos);
}

}  // namespace
}  // namespace foretrain::plan
