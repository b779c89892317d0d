#include "topologies/nccl_tests.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace foretrain::topologies {
namespace {

const std::string kRun = "# nThread 1 nGpus 1 minBytes 8 maxBytes 16 step: 2(factor) warmup iters: 5 iters: 20\n";
const std::string kRanks = R"(# Using devices
#  Rank  0 Group  0 Pid   7 on   node-a device  0 [0x07] NVIDIA A100-SXM4-40GB
#  Rank  1 Group  0 Pid   8 on   node-a device  1 [0x0f] NVIDIA A100-SXM4-40GB
#  Rank  2 Group  0 Pid   9 on   node-b device  0 [0x07] NVIDIA A100-SXM4-40GB
#
)";
const std::string kColumns =
    R"(#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
)";
const std::string kHeader = kRun + kRanks + kColumns;

std::string refusal(const std::string& text) {
  try {
    read_nccl_tests(text, "a.txt");
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

NcclSweep only(const std::string& text, const std::string& origin = "a.txt") {
  const NcclTests tests = read_nccl_tests(text, origin);
  EXPECT_EQ(tests.sweeps.size(), 1u);
  EXPECT_TRUE(tests.warnings.empty());
  return tests.sweeps.front();
}

TEST(NcclTests, ReadsOutOfPlaceColumnsAndCountsRanksByHost) {
  const NcclSweep s = only(kHeader +
                           "   0  0  float  sum  -1  40.0  0.00  0.00  0  90.0  0.00  0.00  N/A\n"
                           "  16  4  float  sum  -1  40.0  0.50  0.75  0  90.0  9.00  9.50  0\n"
                           "   8  2  float  sum  -1  36.5  0.25  0.25  0  91.0  9.00  9.50  0\n"
                           "# Avg bus bandwidth    : 0.5\n"
                           "3 more processes have sent help message help-mpi-btl-openib.txt\n");
  EXPECT_EQ(s.ranks, 3);
  EXPECT_EQ(s.nodes, 2);
  EXPECT_EQ(s.fewest, 1);
  EXPECT_EQ(s.gpu, "NVIDIA A100-SXM4-40GB");
  ASSERT_EQ(s.rows.size(), 2u);
  EXPECT_EQ(s.rows[0].bytes, 8);
  EXPECT_DOUBLE_EQ(s.rows[0].seconds, 36.5e-6);
  EXPECT_DOUBLE_EQ(s.rows[1].busbw, 0.75e9);
}

// 3 ranks: busbw is 4/3 of algbw for all_reduce, 2/3 for reduce_scatter; 12e6 B in 1000 us are 12 GB/s.
TEST(NcclTests, TellsTheCollectiveFromProgramFileOrColumns) {
  const std::string gather = "12000000 1 float none -1 1000 12.00 8.00 0\n";
  EXPECT_EQ(only(kHeader + "12000000 1 float sum -1 1000 12.00 16.00 0\n").collective, "all_reduce");
  EXPECT_EQ(only(kHeader + "12000000 1 float sum -1 1000 12.00 8.00 0\n").collective, "reduce_scatter");
  EXPECT_EQ(only(kHeader + "12000000 1 float sum 0 1000 12.00 12.00 0\n").collective, "reduce");
  EXPECT_EQ(only(kHeader + "12000000 1 float none 0 1000 12.00 12.00 0\n").collective, "broadcast");
  EXPECT_EQ(only(kHeader + gather).collective, "");
  EXPECT_EQ(only(kHeader + gather, "runs/n2/alltoall_output.dat.6").collective, "all_to_all");
  EXPECT_EQ(only("mpirun -np 3 /opt/build/all_gather_perf -b 8\n" + kHeader + gather).collective, "all_gather");
  EXPECT_EQ(only("# Collective test starting: sendrecv_perf\n" + kHeader + gather).collective, "sendrecv");
}

TEST(NcclTests, ReadsOlderColumnsAndLaunchersLabels) {
  const NcclSweep s = only(
      "[1,0]<stdout>:# nThread 1 nGpus 2 minBytes 8\n"
      "[1,0]<stdout>:#   Rank  0 Pid 1 on localhost device  0 [0x00] A100-SXM4-40GB\n"
      "0: #   Rank  1 Pid 1 on localhost device  1 [0x00] A100-SXM4-40GB\n"
      "#   size   count   type   redop   time   algbw   busbw  error   time   algbw   busbw  error\n"
      "localhost:3442:3442 [0] NCCL INFO Launch mode Parallel\n"
      "0:    8   2   float   sum   34.66   0.00   0.00   N/A   34.84   0.00   0.00   N/A\n");
  EXPECT_EQ(s.ranks, 2);
  EXPECT_EQ(s.nodes, 1);
  EXPECT_DOUBLE_EQ(s.rows[0].seconds, 34.66e-6);
}

TEST(NcclTests, SeparatesTheRunsOfOneFile) {
  const std::string row = "8 2 float sum -1 30 0.1 0.1 0\n";
  const NcclTests tests = read_nccl_tests("./all_reduce_perf\n" + kHeader + row + "./reduce_scatter_perf\n" + kRun +
                                              "# Rank 0 Group 0 Pid 7 on n device 0 [0x07] H100\n"
                                              "# Rank 1 Group 0 Pid 7 on n device 1 [0x07] H100\n" +
                                              kColumns + row,
                                          "a.txt");
  ASSERT_EQ(tests.sweeps.size(), 2u);
  EXPECT_EQ(tests.sweeps[0].collective, "all_reduce");
  EXPECT_EQ(tests.sweeps[0].ranks, 3);
  EXPECT_EQ(tests.sweeps[1].collective, "reduce_scatter");
  EXPECT_EQ(tests.sweeps[1].ranks, 2);
  EXPECT_EQ(tests.sweeps[1].gpu, "H100");
}

TEST(NcclTests, WarnsOfWrongValuesAndAnUnfinishedRow) {
  const NcclTests tests = read_nccl_tests(kHeader +
                                              "  8  2  float  sum  -1  36.5  0.25  0.25  0  91.0  9.00  9.50  0\n"
                                              " 16  4  float  sum  -1  36.5  0.25  0.25  3  91.0  9.00  9.50  0\n"
                                              " 32  8  float  sum",
                                          "a.txt");
  ASSERT_EQ(tests.warnings.size(), 2u);
  EXPECT_NE(tests.warnings[0].find("a.txt:10: 3 wrong values of 16 bytes, and 0 more"), std::string::npos);
  EXPECT_EQ(tests.warnings[1],
            "a.txt:11: 4 columns; expected 8 up to busbw: the output ends there; the row is left out");
  EXPECT_EQ(tests.sweeps.front().rows.size(), 2u);
}

TEST(NcclTests, NamesTheLineOfABadRow) {
  EXPECT_EQ(refusal(kHeader + " 8 2 float sum -1 fast 0.25 0.25 0\n"),
            "a.txt:9: time \"fast\"; expected a number of at least 0");
  EXPECT_EQ(refusal(kHeader + " 8 2 float sum -1 36.5\n 16 4 float sum -1 36.5 0.25 0.25 0\n"),
            "a.txt:9: 6 columns; expected 8 up to busbw");
  EXPECT_EQ(refusal(kRun + "# size count type redop root\n"),
            "a.txt:2: columns \"size count type redop root\"; expected size, count, type, ..., time, algbw, busbw");
  EXPECT_NE(refusal("hello\n").find("a.txt: no rows of nccl-tests"), std::string::npos);
}

}  // namespace
}  // namespace foretrain::topologies
