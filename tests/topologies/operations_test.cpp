#include "topologies/operations.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace foretrain::topologies {
namespace {

double rate_of(const Operations& o, const std::string& kind) {
  double sum = 0;
  for (const FailureCause& cause : o.causes) {
    sum += cause.kind == kind ? o.rate(o.sites.front(), cause) : 0;
  }
  return sum;
}

// 419 interruptions in 54 days x 24 h x 16,384 devices = 21,233,664 device-hours; 148 of them by faulty GPUs; 268 by
// GPUs in all, which are all that BLOOM counted.
TEST(Operations, CatalogueIsWhatLlamaThreeCounted) {
  const Operations o = load_operations("");
  const Site& llama = o.sites.at(0);
  EXPECT_EQ(llama.name, "llama3-405b");
  EXPECT_NEAR(o.rate(llama), 419 / 21233664.0, 1e-8);
  EXPECT_EQ(o.causes.size(), 18u);
  EXPECT_NEAR(o.rate(llama, o.causes.at(0)), 148 / 21233664.0, 1e-8);
  EXPECT_EQ(o.sites.at(3).name, "bloom-176b");
  EXPECT_NEAR(o.rate(o.sites.at(3)), 1.55e-5 * 419 / 268, 1e-12);
  EXPECT_DOUBLE_EQ(o.detect.mean(), 315);
  EXPECT_DOUBLE_EQ(o.resume.mean(), 360);
  EXPECT_DOUBLE_EQ(o.spell.high, 36000);
}

TEST(Operations, RatesCanBeSet) {
  Operations o = load_operations("");
  const double network = rate_of(o, "network");
  set_failure_rates(o, "gpu=2e-6,SSD=3e-7");
  EXPECT_NEAR(rate_of(o, "gpu"), 2e-6, 1e-18);
  EXPECT_NEAR(o.causes[0].per_device_hour.value(), 2e-6 * 148 / 268, 1e-18);
  EXPECT_DOUBLE_EQ(rate_of(o, "network"), network);

  set_mtbf(o, 7200, 1000);  // one in 2 h of 1000 devices
  ASSERT_EQ(o.sites.size(), 1u);
  EXPECT_NEAR(o.rate(o.sites[0]), 1 / 2000.0, 1e-15);

  for (const char* wrong : {"gpu", "gpu=", "gpu=-1e-6", "gpu=2", "gpu=1e-6,", "gpu=nan", "gpux=1e-6"}) {
    EXPECT_THROW(set_failure_rates(o, wrong), InputError) << wrong;
  }
}

TEST(Operations, OneSiteCanBeMeant) {
  Operations o = load_operations("");
  set_site(o, "meta-rsc-2");
  ASSERT_EQ(o.sites.size(), 1u);
  EXPECT_NEAR(o.rate(o.sites[0]), 2.34 / 1000 / 24 / 8, 1e-8);  // per 1,000 days of nodes with 8
  EXPECT_THROW(set_site(o, "llama3-405b"), InputError);
}

TEST(Operations, MistakesAreNamed) {
  const std::string text = R"({"schema": "foretrain.operations/1",
 "failures": {"components": [{"name": "a", "class": "gp", "count": 1}], "sites": []},
 "planned_stops": {"per_device_hour": -1},
 "restart": {"detect": {"low": "9 s", "high": "3 s"}, "resume": {"low": 3, "high": "3 s"}},
 "checkpoint": {"storage_per_node": "0 GB/s"},
 "slow_spells": {"per_device_hour": 0, "duration": {"low": "0 s", "high": "1 s"}, "slowdown": {"low": 0, "high": 1}},
 "step_jitter": {"mean_over_median": []},
 "power": {"waiting": 0.2, "node": 0.5, "pue": 0.9}})";
  try {
    operations_from_text(text, "mine.json");
    FAIL();
  } catch (const InputError& e) {
    const std::string what = e.what();
    for (const char* part : {"mine.json:2: /failures/components/0/class", "/failures/sites: is empty",
                             "mine.json:3: /planned_stops", "/restart/detect/high: is below low", "/restart/resume/low",
                             "/checkpoint/storage_per_node", "/step_jitter/mean_over_median", "/power/pue"}) {
      EXPECT_NE(what.find(part), std::string::npos) << part << "\n" << what;
    }
  }
}

}  // namespace
}  // namespace foretrain::topologies
