// What the hosts of a run send each other: payload, without what TCP and the messages' labels add.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/graph.h"

namespace foretrain::plan {

struct HostTraffic {
  int hosts = 1;
  std::vector<std::int64_t> bytes = {0};  // [from][to]

  HostTraffic() = default;
  explicit HostTraffic(int n) : hosts(n), bytes(static_cast<std::size_t>(n) * static_cast<std::size_t>(n)) {}
  std::int64_t& at(int from, int to) { return bytes[static_cast<std::size_t>(from * hosts + to)]; }
  std::int64_t at(int from, int to) const { return bytes[static_cast<std::size_t>(from * hosts + to)]; }
  std::int64_t total() const;
  // Calls fn(from, to) for each two hosts, one way and the other.
  template <class Fn>
  void for_each_link(const Fn& fn) const {
    for (int i = 0; i < hosts * hosts; ++i) {
      if (i / hosts != i % hosts) {
        fn(i / hosts, i % hosts);
      }
    }
  }
  friend bool operator==(const HostTraffic&, const HostTraffic&) = default;
};

// Of `steps` steps from `first_step` on, with the prologue before step 0, and the epilogue; `host_of`: by rank. As
// exec/host_exchange.h does it: of a part of a sum each other host sends one, of a result one is sent to each. Rows
// that go where tokens choose (a counted all_to_all) count as if all experts were chosen equally often. REQUIRES:
// graph.asynchronous is false; hosts are numbered from 0.
HostTraffic host_traffic(const PlanGraph& graph, const std::vector<int>& host_of, std::int64_t first_step,
                         std::int64_t steps);

}  // namespace foretrain::plan
