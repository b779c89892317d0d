// Ranks with different numbers of microbatches, and stages with different numbers of layers, train as one rank does.
#include <gtest/gtest.h>

#include "tests/exec/support.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

constexpr const char* kSlow =
    R"(cluster.disturbance={"devices": [{"range": "1", "speed": 0.5}, {"range": "2", "speed": 0.9}]})";

TEST(SplitBySpeed, TrainsLikeOneRank) {
  using testing::expect_parity;
  const auto words = [](std::vector<std::string> more) {
    more.insert(more.end(), {"split_by_speed=true", kSlow, "overlap_grad_reduce=true", "bucket_bytes=1 kB"});
    return more;
  };
  expect_parity(testing::kTinyGpt, words({"dp=3"}));
  expect_parity(testing::kTinyGpt, words({"dp=3", "zero=1"}));
  expect_parity(testing::kTinyGpt, words({"dp=2", "tp=2", "global_batch=5"}));
  expect_parity(testing::kTinyLlama, words({"dp=2", "pp=2"}));
  expect_parity(testing::kTinyGpt, words({"dp=2", "pp=2", "schedule=zb_h1", "global_batch=7"}));
  expect_parity(testing::kTinyBert, words({"dp=3", "compression=topk:1", "overlap_grad_reduce=false"}));
  expect_parity(testing::kTinyT5, words({"dp=3"}));
  expect_parity(testing::kTinyMoe, words({"dp=3"}));
}

}  // namespace
}  // namespace foretrain::exec
