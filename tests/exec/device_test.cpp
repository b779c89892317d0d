// Streams and events of the CPU device, with functions of the host in place of ops.
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "exec/cpu_device.h"
#include "exec/world.h"

namespace foretrain::exec {
namespace {

class CpuDeviceTest : public ::testing::Test {
 protected:
  void note(StreamHandle stream, const std::string& what) {
    device_.launch_host(stream, [this, what] { order_.push_back(what); });
  }

  Processes alone_;
  World world_{alone_, 1};
  CpuDevice device_{world_.communicator(0), [](const OpCall&) { return std::string("op"); }};
  std::vector<std::string> order_;
};

TEST_F(CpuDeviceTest, AStreamIsFirstInFirstOut) {
  const StreamHandle s = device_.create_stream();
  for (int i = 0; i < 1000; ++i) {
    note(s, std::to_string(i));
  }
  device_.synchronise();
  ASSERT_EQ(order_.size(), 1000U);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(order_[static_cast<std::size_t>(i)], std::to_string(i));
  }
}

TEST_F(CpuDeviceTest, AWaitWaitsForTheLatestRecord) {
  const StreamHandle a = device_.create_stream(), b = device_.create_stream();
  const EventHandle event = device_.create_event();
  note(a, "a1");
  device_.record(event, a);
  note(a, "a2");
  device_.record(event, a);
  note(a, "a3");
  device_.wait(b, event);
  note(b, "b1");
  device_.synchronise();
  // a1 and a2 before b1; a3 may be anywhere after a2.
  const auto place = [&](const std::string& what) {
    return std::find(order_.begin(), order_.end(), what) - order_.begin();
  };
  EXPECT_LT(place("a2"), place("b1"));
  EXPECT_LT(place("a2"), place("a3"));
}

TEST_F(CpuDeviceTest, ARecordAfterTheWaitDoesNotCount) {
  const StreamHandle a = device_.create_stream(), b = device_.create_stream();
  const EventHandle event = device_.create_event();
  device_.wait(b, event);  // never recorded: nothing to wait for
  note(b, "b");
  device_.record(event, a);
  device_.synchronise();
  EXPECT_EQ(order_, std::vector<std::string>{"b"});
}

TEST_F(CpuDeviceTest, EventsOrderARing) {
  const StreamHandle streams[3] = {device_.create_stream(), device_.create_stream(), device_.create_stream()};
  const EventHandle event = device_.create_event();
  std::vector<std::string> expected;
  for (int i = 0; i < 300; ++i) {
    const StreamHandle s = streams[(i * 2) % 3];
    device_.wait(s, event);
    note(s, std::to_string(i));
    device_.record(event, s);
    expected.push_back(std::to_string(i));
  }
  device_.synchronise();
  EXPECT_EQ(order_, expected);
}

TEST_F(CpuDeviceTest, TheOldestReadyTaskRunsFirst) {
  const StreamHandle a = device_.create_stream(), b = device_.create_stream();
  note(b, "1");
  note(a, "2");
  note(b, "3");
  device_.synchronise();
  EXPECT_EQ(order_, (std::vector<std::string>{"1", "2", "3"}));
}

TEST_F(CpuDeviceTest, AnExceptionComesOutOfSynchronise) {
  const StreamHandle s = device_.create_stream();
  device_.launch_host(s, [] { throw EnvironmentError("broken"); });
  EXPECT_THROW(device_.synchronise(), EnvironmentError);
}

TEST_F(CpuDeviceTest, ArenasAreZeroAndMayBeEmpty) {
  World world(alone_, 2);
  world.allocate_arenas({Bytes{3'000'001}, Bytes{0}});
  std::byte* const arena = world.arena(0);
  for (std::int64_t i = 0; i < 3'000'001; i += 1000) {
    EXPECT_EQ(arena[i], std::byte{0});
  }
  arena[3'000'000] = std::byte{1};
  EXPECT_NE(world.arena(1), nullptr);
}

}  // namespace
}  // namespace foretrain::exec
