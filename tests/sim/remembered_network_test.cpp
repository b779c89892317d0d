// What is asked twice is worked out once, and what differs in anything is something else.
#include "sim/remembered_network.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace foretrain::sim {
namespace {

constexpr plan::CollectiveKind kKind = plan::CollectiveKind::all_reduce;

// Answers with how often it was asked.
class Counting : public NetworkModel {
 public:
  std::string_view name() const override { return "counting"; }
  double collective(plan::CollectiveKind, Bytes bytes, const GroupPlacement&) const override {
    ++asked_;
    if (bytes.value < 0) {
      throw InputError("no such size");
    }
    return asked_;
  }
  std::optional<Traffic> traffic(plan::CollectiveKind, Bytes, const GroupPlacement&) const override {
    return Traffic{static_cast<double>(++asked_), 0, 0};
  }
  double message(Bytes, bool) const override { return ++asked_; }
  double slowdown(Bytes, std::int64_t, std::int64_t) const override { return ++asked_; }

 private:
  mutable int asked_ = 0;
};

TEST(RememberedNetwork, AsksOnce) {
  const auto network = remembered_network(std::make_unique<Counting>());
  EXPECT_EQ(network->name(), "counting");
  const GroupPlacement group{16, 2, 8, 8, {}};
  EXPECT_EQ(network->collective(kKind, Bytes{100}, group), 1);
  EXPECT_EQ(network->traffic(kKind, Bytes{100}, group)->latency, 2);
  EXPECT_EQ(network->collective(kKind, Bytes{100}, group), 1);
  EXPECT_EQ(network->traffic(kKind, Bytes{100}, group)->latency, 2);
  EXPECT_EQ(network->message(Bytes{100}, true), 3);
  EXPECT_EQ(network->message(Bytes{100}, true), 4);  // costs less than to remember
}

TEST(RememberedNetwork, AnyFieldCounts) {
  const auto network = remembered_network(std::make_unique<Counting>());
  const std::vector<GroupPlacement> groups = {{16, 2, 8, 8, {}},           {8, 2, 8, 8, {}},
                                              {16, 4, 8, 8, {}},           {16, 2, 4, 8, {}},
                                              {16, 2, 8, 4, {}},           {16, 2, 8, 8, {1, 0, 0, 0}},
                                              {16, 2, 8, 8, {0, 1, 0, 0}}, {16, 2, 8, 8, {0, 0, 1, 0}},
                                              {16, 2, 8, 8, {0, 0, 0, 1}}};
  for (int again = 0; again < 2; ++again) {
    double asked = 0;
    for (const GroupPlacement& group : groups) {
      for (const plan::CollectiveKind kind : {kKind, plan::CollectiveKind::all_gather}) {
        for (const std::int64_t bytes : {100, 200}) {
          EXPECT_EQ(network->collective(kind, Bytes{bytes}, group), ++asked);
        }
      }
    }
  }
}

TEST(RememberedNetwork, RemembersNoFailure) {
  const auto network = remembered_network(std::make_unique<Counting>());
  EXPECT_THROW(network->collective(kKind, Bytes{-1}, {}), InputError);
  EXPECT_THROW(network->collective(kKind, Bytes{-1}, {}), InputError);
  EXPECT_EQ(network->collective(kKind, Bytes{1}, {}), 3);
}

}  // namespace
}  // namespace foretrain::sim
