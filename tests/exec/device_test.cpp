// Streams and events of both devices, with functions of the host in place of ops.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "exec/cpu_device.h"
#include "exec/gpu_device.h"
#include "exec/world.h"
#include "tests/exec/pretend_gpu.h"

namespace foretrain::exec {
namespace {

enum class Kind { cpu, gpu };

class DeviceTest : public ::testing::TestWithParam<Kind> {
 protected:
  DeviceTest() {
    const auto describe = [](const OpCall&) { return std::string("op"); };
    if (GetParam() == Kind::cpu) {
      device_ = std::make_unique<CpuDevice>(world_.communicator(0), describe);
    } else {
      device_ = std::make_unique<GpuDevice>(gpu_, events_, gpu_world_.communicator(0), describe);
    }
  }

  void note(StreamHandle stream, const std::string& what) {
    device_->launch_host(stream, [this, what] { order_.push_back(what); });
  }

  Processes alone_;
  World world_{alone_, 1};
  testing::PretendGpu gpu_{1};
  EventPool events_{gpu_};
  GpuWorld gpu_world_{gpu_, events_, 1};
  std::unique_ptr<QueuedDevice> device_;
  std::vector<std::string> order_;
};

TEST_P(DeviceTest, AStreamIsFirstInFirstOut) {
  const StreamHandle s = device_->create_stream();
  for (int i = 0; i < 1000; ++i) {
    note(s, std::to_string(i));
  }
  device_->synchronise();
  ASSERT_EQ(order_.size(), 1000U);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(order_[static_cast<std::size_t>(i)], std::to_string(i));
  }
}

TEST_P(DeviceTest, AWaitWaitsForTheLatestRecord) {
  const StreamHandle a = device_->create_stream(), b = device_->create_stream();
  const EventHandle event = device_->create_event();
  note(a, "a1");
  device_->record(event, a);
  note(a, "a2");
  device_->record(event, a);
  note(a, "a3");
  device_->wait(b, event);
  note(b, "b1");
  device_->synchronise();
  // a1 and a2 before b1; a3 may be anywhere after a2.
  const auto place = [&](const std::string& what) {
    return std::find(order_.begin(), order_.end(), what) - order_.begin();
  };
  EXPECT_LT(place("a2"), place("b1"));
  EXPECT_LT(place("a2"), place("a3"));
}

TEST_P(DeviceTest, ARecordAfterTheWaitDoesNotCount) {
  const StreamHandle a = device_->create_stream(), b = device_->create_stream();
  const EventHandle event = device_->create_event();
  device_->wait(b, event);  // never recorded: nothing to wait for
  note(b, "b");
  device_->record(event, a);
  device_->synchronise();
  EXPECT_EQ(order_, std::vector<std::string>{"b"});
}

TEST_P(DeviceTest, EventsOrderARing) {
  const StreamHandle streams[3] = {device_->create_stream(), device_->create_stream(), device_->create_stream()};
  const EventHandle event = device_->create_event();
  std::vector<std::string> expected;
  for (int i = 0; i < 300; ++i) {
    const StreamHandle s = streams[(i * 2) % 3];
    device_->wait(s, event);
    note(s, std::to_string(i));
    device_->record(event, s);
    expected.push_back(std::to_string(i));
  }
  device_->synchronise();
  EXPECT_EQ(order_, expected);
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceTest, ::testing::Values(Kind::cpu, Kind::gpu),
                         [](const auto& kind) { return kind.param == Kind::cpu ? "Cpu" : "Gpu"; });

TEST(CpuDevice, TheOldestReadyTaskRunsFirst) {
  Processes alone;
  World world(alone, 1);
  CpuDevice device(world.communicator(0), [](const OpCall&) { return std::string("op"); });
  const StreamHandle a = device.create_stream(), b = device.create_stream();
  std::string order;
  device.launch_host(b, [&] { order += "1"; });
  device.launch_host(a, [&] { order += "2"; });
  device.launch_host(b, [&] { order += "3"; });
  device.synchronise();
  EXPECT_EQ(order, "123");
}

TEST_P(DeviceTest, AnExceptionComesOutOfSynchronise) {
  const StreamHandle s = device_->create_stream();
  device_->launch_host(s, [] { throw EnvironmentError("broken"); });
  EXPECT_THROW(device_->synchronise(), EnvironmentError);
}

TEST(World, ArenasAreZeroAndMayBeEmpty) {
  Processes alone;
  World world(alone, 2);
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
