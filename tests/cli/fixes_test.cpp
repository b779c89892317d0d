// What is said to help does help: each fix, given as overrides, makes the job fit.
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "base/catalogue.h"
#include "cli/job.h"
#include "plan/build.h"

namespace foretrain::cli {
namespace {

JobArguments catalogue_job(const std::string& name, std::vector<std::string> overrides) {
  JobArguments arguments;
  arguments.path = catalogue_path(kJobFolder, "job", name);
  arguments.overrides = std::move(overrides);
  return arguments;
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), std::istream_iterator<std::string>()};
}

void expect_that_fixes_fit(const JobArguments& arguments, std::size_t changes) {
  const plan::Job job = arguments.load();
  ASSERT_FALSE(plan::memory_fit(job, plan::build(job)).fits());
  const std::vector<reports::Fix> found = fixes(arguments, job);
  ASSERT_FALSE(found.empty());
  EXPECT_TRUE(std::is_sorted(found.begin(), found.end(),
                             [](const reports::Fix& a, const reports::Fix& b) { return a.step_time < b.step_time; }));
  for (const reports::Fix& fix : found) {
    SCOPED_TRACE(fix.change);
    const plan::Job changed = arguments.load(words(fix.change));
    const plan::MemoryFit fit = plan::memory_fit(changed, plan::build(changed));
    EXPECT_TRUE(fit.fits());
    EXPECT_EQ(fit.demand, fix.demand);
    EXPECT_GE(words(fix.change).size(), changes);
  }
}

TEST(Fixes, OneChangeIsEnough) {
  expect_that_fixes_fit(catalogue_job("gpt3-175b-1024-a100", {"recompute=none", "sequence_parallel=false"}), 1);
}

TEST(Fixes, SeveralTogether) {
  expect_that_fixes_fit(catalogue_job("gpt3-175b-1024-a100", {"tp=1", "dp=128", "sequence_parallel=false"}), 2);
}

TEST(Fixes, MoreNodesWhereNothingElseHelps) {
  const JobArguments arguments =
      catalogue_job("gpt3-175b-1024-a100", {"nodes=1", "dp=1", "tp=8", "pp=1", "global_batch=8"});
  expect_that_fixes_fit(arguments, 3);
  EXPECT_EQ(fixes(arguments, arguments.load()).front().change.rfind("cluster.nodes=", 0), 0U);
}

}  // namespace
}  // namespace foretrain::cli
