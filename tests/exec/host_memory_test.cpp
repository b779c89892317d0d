// Memory as the system of a pretended root folder says it, and what processes need of it together.
#include "exec/host_memory.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace foretrain::exec {
namespace {

std::vector<std::int64_t> left_under(const test::TemporaryFolder& root) {
  std::vector<std::int64_t> left;
  for (const MemoryLimit& limit : memory_limits(root.path(""))) {
    left.push_back(limit.left.value);
  }
  return left;
}

TEST(HostMemory, IsUnknownWhereTheSystemSaysNothing) {
  const test::TemporaryFolder root;
  EXPECT_TRUE(left_under(root).empty());
}

// The step's group has no limit; the job's has 600000, of which 500000 are taken, 100000 of them by pages of files that
// can go.
TEST(HostMemory, GroupsOfVersion2CountAllTheWayUp) {
  const test::TemporaryFolder root;
  root.write("proc/meminfo", "MemTotal: 2000 kB\nMemFree: 10 kB\nMemAvailable: 1000 kB\n");
  root.write("proc/self/cgroup", "0::/job/step\n");
  root.write("sys/fs/cgroup/job/step/memory.max", "max\n");
  root.write("sys/fs/cgroup/job/step/memory.current", "400000\n");
  root.write("sys/fs/cgroup/job/memory.max", "600000\n");
  root.write("sys/fs/cgroup/job/memory.current", "500000\n");
  root.write("sys/fs/cgroup/job/memory.stat", "anon 400000\nfile 100000\ninactive_file 100000\n");
  EXPECT_EQ(left_under(root), (std::vector<std::int64_t>{1'024'000, 200'000}));
}

// A container sees its own group at the mount, and the path that it has outside; it is over its limit.
TEST(HostMemory, AGroupOfVersion1InAContainer) {
  const test::TemporaryFolder root;
  root.write("proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:hugetlb,memory:/docker/abc\n0::/docker/abc\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "300\n");
  root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "500\n");
  root.write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n");
  EXPECT_EQ(left_under(root), std::vector<std::int64_t>{0});
}

struct Member {
  std::vector<MemoryLimit> limits;
  Bytes needed;
};

// What each of them says; "" where it has no objection.
std::vector<std::string> objections(const std::vector<Member>& members) {
  std::vector<std::string> said;
  for (const Member& m : members) {
    require_memory(
        [&](const std::string& mine) {
          said.push_back(mine);
          return std::vector<std::string>{};
        },
        m.limits, m.needed, "they", "; less");
  }
  std::vector<std::string> all;
  for (const Member& m : members) {
    all.emplace_back();
    try {
      require_memory([&](const std::string&) { return said; }, m.limits, m.needed, "they", "; less");
    } catch (const InfeasibleError& error) {
      all.back() = error.what();
    }
  }
  return all;
}

// Two on one host, each in a group of its own, and one on another. 40 + 60 is what the first host has; 61 is more than
// the second member's group has, and 41 + 60 more than the host.
TEST(HostMemory, WhatIsNeededIsSummedWhereItIsShared) {
  const MemoryLimit first{"a", "node0", Bytes{100}}, second{"b", "node1", Bytes{5}};
  const MemoryLimit group0{"a0", "node0 (control group /0)", Bytes{50}};
  const MemoryLimit group1{"a1", "node0 (control group /1)", Bytes{60}};
  const auto with = [&](std::int64_t need0, std::int64_t need1) {
    return objections({{{first, group0}, Bytes{need0}}, {{first, group1}, Bytes{need1}}, {{second}, Bytes{5}}});
  };
  const auto all = [](const std::string& text) { return std::vector<std::string>(3, text); };
  EXPECT_EQ(with(40, 60), all(""));
  EXPECT_EQ(with(39, 61),
            all("they need 61 B on node0 (control group /1), which has 60 B left: 1 B are missing; less"));
  EXPECT_EQ(with(41, 60), all("they need 101 B on node0, which has 100 B left: 1 B are missing; less"));
}

}  // namespace
}  // namespace foretrain::exec
