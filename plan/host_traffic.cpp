#include "plan/host_traffic.h"

#include <algorithm>
#include <numeric>
#include <variant>

#include "plan/all_reduce_part.h"
#include "plan/cursor.h"

namespace foretrain::plan {

namespace {

class Counter {
 public:
  Counter(const PlanGraph& graph, const std::vector<int>& host_of)
      : graph_(graph), host_of_(host_of), traffic_(1 + *std::max_element(host_of.begin(), host_of.end())) {}

  void rank(Rank r, std::int64_t first_step, std::int64_t steps) {
    const int index = role_of(graph_, r);
    const Role& role = graph_.roles[static_cast<std::size_t>(index)];
    for (const Instance& instance : role.program.prologue) {
      add(r, role, instance, first_step == 0 ? 1 : 0);
    }
    for (const Instance& instance : role.program.body) {
      add(r, role, instance, (first_step + steps) / instance.every - first_step / instance.every);
    }
    for (const Instance& instance : role.program.epilogue) {
      add(r, role, instance, 1);
    }
  }
  HostTraffic take() { return std::move(traffic_); }

 private:
  void add(Rank r, const Role& role, const Instance& instance, std::int64_t times) {
    times_ = times;
    const std::vector<Instance> one{instance};
    for (ProgramCursor c(role, 0, one, 0); c; c.next()) {
      if (const auto* const collective = std::get_if<Collective>(&c.op().work)) {
        add(r, *collective);
      } else if (const auto* const exchange = std::get_if<Exchange>(&c.op().work)) {
        for (const Message& message : exchange->messages) {
          add(r, message);
        }
      }
    }
  }

  int host(Rank r) const { return host_of_[static_cast<std::size_t>(r)]; }
  void add(int from, int to, std::int64_t bytes) {
    if (from != to) {
      traffic_.at(from, to) += times_ * bytes;
    }
  }

  void add(Rank r, const Message& m) {
    if (m.send) {
      add(host(r), host(graph_.mesh.peer(r, m.axis, m.peer, m.relative)), size_bytes(m.dtype, m.elements));
    }
  }

  // Once for the group.
  void add(Rank r, const Collective& c) {
    const std::vector<Rank> group = members(graph_.mesh, graph_.groups[static_cast<std::size_t>(c.group)], r);
    if (group.front() != r) {
      return;
    }
    std::vector<int> hosts;
    for (const Rank member : group) {
      if (std::find(hosts.begin(), hosts.end(), host(member)) == hosts.end()) {
        hosts.push_back(host(member));
      }
    }
    const auto n = static_cast<int>(group.size());
    const std::int64_t block = size_bytes(c.dtype, c.elements / n);
    for (int i = 0; hosts.size() > 1 && i < n; ++i) {
      const int own = host(group[static_cast<std::size_t>(i)]);
      switch (c.kind) {
        case CollectiveKind::all_reduce: {
          const ElementRange part = all_reduce_part(c.elements, c.dtype, i, n);
          add_star(own, hosts, size_bytes(c.dtype, part.end - part.begin), true, true);
          break;
        }
        case CollectiveKind::reduce_scatter: add_star(own, hosts, block, true, false); break;
        case CollectiveKind::all_gather: add_star(own, hosts, block, false, true); break;
        case CollectiveKind::broadcast:
          if (i == c.root) {
            add_star(own, hosts, size_bytes(c.dtype, c.elements), false, true);
          }
          break;
        case CollectiveKind::all_to_all:
          for (const Rank other : group) {
            add(own, host(other), block);
          }
          break;
        case CollectiveKind::gather:
          if (i != c.root) {
            add(own, host(group[static_cast<std::size_t>(c.root)]), size_bytes(c.dtype, c.elements / (n - 1)));
          }
          break;
        case CollectiveKind::distribute:
          if (i != c.root) {
            add(host(group[static_cast<std::size_t>(c.root)]), own, size_bytes(c.dtype, c.elements));
          }
          break;
      }
    }
  }
  void add_star(int own, const std::vector<int>& hosts, std::int64_t bytes, bool in, bool out) {
    for (const int other : hosts) {
      add(other, own, in ? bytes : 0);
      add(own, other, out ? bytes : 0);
    }
  }

  const PlanGraph& graph_;
  const std::vector<int>& host_of_;
  std::int64_t times_ = 0;
  HostTraffic traffic_;
};

}  // namespace

std::int64_t HostTraffic::total() const {
  return std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0});
}

HostTraffic host_traffic(const PlanGraph& graph, const std::vector<int>& host_of, std::int64_t first_step,
                         std::int64_t steps) {
  Counter counter(graph, host_of);
  for (Rank r = 0; r < static_cast<Rank>(host_of.size()); ++r) {
    counter.rank(r, first_step, steps);
  }
  return counter.take();
}

}  // namespace foretrain::plan
