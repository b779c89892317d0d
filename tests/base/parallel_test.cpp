#include "base/parallel.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace foretrain {
namespace {

TEST(InParallel, EachOnce) {
  for (const std::size_t count : {0u, 1u, 2u, 1000u}) {
    std::vector<int> times(count, 0);
    in_parallel(count, [&](std::size_t i) { ++times[i]; });
    EXPECT_EQ(times, std::vector<int>(count, 1));
  }
}

TEST(InParallel, ThrowsWhatTheFirstThrew) {
  std::vector<int> times(100, 0);
  try {
    in_parallel(times.size(), [&](std::size_t i) {
      ++times[i];
      if (i % 40 == 39) {
        throw std::runtime_error(std::to_string(i));
      }
    });
    ADD_FAILURE();
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "39");
  }
  EXPECT_EQ(times, std::vector<int>(100, 1));
}

}  // namespace
}  // namespace foretrain
