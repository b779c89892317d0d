#include "plan/stage_twin.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "plan/build.h"
#include "plan/validate.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using foretrain::testing::kTinyGpt;
using foretrain::testing::tiny_job;

// Stages 1 and 2 of four do the same, one stage apart. By hand: neighbours and tags one on, a layer each, and with
// 1F1B one microbatch less in flight.
TEST(StageTwins, AStageInTheMiddleIsLikeTheOneBeforeIt) {
  const PlanGraph g = build(tiny_job(kTinyGpt, {"pp=4"}));
  const auto messages = [&g](const Role& role) {
    std::vector<std::string> all;
    for (const Block& block : role.blocks) {
      for (const Op& op : block.ops) {
        if (const auto* exchange = std::get_if<Exchange>(&op.work)) {
          const Message& m = exchange->messages[0];
          all.push_back(
              fmt::format("{} {} {}", m.send ? "to" : "from", m.peer, g.tags.at(static_cast<std::size_t>(m.tag))));
        }
      }
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  };
  EXPECT_EQ(messages(g.roles[1]), (std::vector<std::string>{"from 0 activation 0|1", "from 2 gradient 1|2",
                                                            "to 0 gradient 0|1", "to 2 activation 1|2"}));
  EXPECT_EQ(messages(g.roles[2]), (std::vector<std::string>{"from 1 activation 1|2", "from 3 gradient 2|3",
                                                            "to 1 gradient 1|2", "to 3 activation 2|3"}));
  EXPECT_EQ(g.roles[2].name, "stage 2");
  EXPECT_EQ(g.roles[2].global_layer, std::vector<std::int32_t>{2});
  EXPECT_EQ(g.roles[1].slots, 3);
  EXPECT_EQ(g.roles[2].slots, 2);
  EXPECT_EQ(g.roles[1].memory.arena - g.roles[2].memory.arena, Bytes{g.roles[1].memory.slots.value / 3});
  EXPECT_EQ(validate(g), std::vector<std::string>{});
}

}  // namespace
}  // namespace foretrain::plan
