// Every collective over processes, on one host or on several, at sizes that include nothing, one element, a prime, and
// more than one piece, with values whose sums are exact. Two ranks in each process.
#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <thread>

#include "exec/world.h"
#include "tests/exec/company.h"

namespace foretrain::exec {
namespace {

using plan::CollectiveKind;
using testing::company;

constexpr std::int64_t kArena = 16 << 20;
constexpr std::int64_t kMostElements = 200'001;  // three pieces of 256 KiB and a bit

// Element i of rank r: a small integer.
float value(plan::Rank rank, std::int64_t i) {
  return static_cast<float>((i * 7 + rank * 3) % 16);
}

// One rank's end: its part of a group, and arrays in its arena.
class Member {
 public:
  Member(World& world, plan::Rank rank, const std::vector<plan::Rank>& members)
      : communicator_(world.communicator(rank)), arena_(world.arena(rank)), rank_(rank) {
    group.members = members;
    group.index = static_cast<int>(std::find(members.begin(), members.end(), rank) - members.begin());
  }

  int size() const { return group.size(); }
  plan::Rank rank() const { return rank_; }
  plan::Rank member(std::int64_t i) const { return group.members[static_cast<std::size_t>(i)]; }
  float* array(int which) const { return reinterpret_cast<float*>(arena_ + which * kArena / 4); }
  std::int32_t* counts(int which) const { return reinterpret_cast<std::int32_t*>(array(3)) + which * 64; }
  float* input(std::int64_t n, int which = 0) const {
    for (std::int64_t i = 0; i < n; ++i) {
      array(which)[i] = value(rank_, i);
    }
    return array(which);
  }
  float sum(std::int64_t i) const {
    return std::accumulate(group.members.begin(), group.members.end(), 0.0F,
                           [&](float s, plan::Rank r) { return s + value(r, i); });
  }

  CollectiveCall call(CollectiveKind kind, std::int64_t elements, const float* in, float* out) {
    CollectiveCall c;
    c.key = {{1, 2, 3}, step_++, group.members.front(), -1};
    c.kind = kind;
    c.elements = elements;
    c.in = in;
    c.out = out;
    c.group = &group;
    return c;
  }
  template <class Call>
  void finish(const Call& call) {
    const Communicator::Ticket ticket = communicator_.post(call);
    while (true) {
      const std::uint32_t seen = communicator_.progress_count();
      if (communicator_.poll(ticket, nullptr)) {
        return;
      }
      communicator_.wait(seen, std::chrono::milliseconds(50));
    }
  }
  std::int32_t next_step() { return step_++; }

  GroupView group;

 private:
  Communicator& communicator_;
  std::byte* arena_;
  plan::Rank rank_;
  std::int32_t step_ = 0;
};

void reduce(Member& m, std::int64_t n) {
  float* x = m.input(n);
  m.finish(m.call(CollectiveKind::all_reduce, n, x, x));
  for (std::int64_t i = 0; i < n; ++i) {
    ASSERT_EQ(x[i], m.sum(i)) << "all_reduce of " << n << ", element " << i;
  }
  x = m.input(n);
  CollectiveCall most = m.call(CollectiveKind::all_reduce, n, x, m.array(1));
  most.reduction = plan::Reduction::max;
  m.finish(most);
  for (std::int64_t i = 0; i < n; ++i) {
    float expected = 0;
    for (const plan::Rank r : m.group.members) {
      expected = std::max(expected, value(r, i));
    }
    ASSERT_EQ(m.array(1)[i], expected) << "maximum over " << n;
  }
}

// `n` is of one block.
void scatter_and_gather(Member& m, std::int64_t n) {
  const std::int64_t all = n * m.size(), own = n * m.group.index;
  for (const bool in_place : {false, true}) {
    float* const x = m.input(all);
    float* const shard = in_place ? x + own : m.array(1);
    m.finish(m.call(CollectiveKind::reduce_scatter, all, x, shard));
    for (std::int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(shard[i], m.sum(own + i)) << "reduce_scatter, element " << i;
    }
    m.finish(m.call(CollectiveKind::all_gather, all, shard, in_place ? x : m.array(2)));
    for (std::int64_t i = 0; i < all; ++i) {
      ASSERT_EQ((in_place ? x : m.array(2))[i], m.sum(i)) << "all_gather, element " << i;
    }
  }
}

void broadcast(Member& m, std::int64_t n) {
  for (int root = 0; root < m.size(); ++root) {
    float* const x = m.input(n);
    CollectiveCall call = m.call(CollectiveKind::broadcast, n, x, x);
    call.root = root;
    m.finish(call);
    for (std::int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(x[i], value(m.member(root), i)) << "broadcast from " << root;
    }
  }
}

void gather_and_distribute(Member& m, std::int64_t n) {
  for (int root = 0; root < m.size() && m.size() > 1; ++root) {
    const bool is_root = m.group.index == root;
    const float* const x = m.input(n);
    CollectiveCall gather =
        m.call(CollectiveKind::gather, n * (m.size() - 1), is_root ? nullptr : x, is_root ? m.array(1) : nullptr);
    gather.root = root;
    m.finish(gather);
    for (std::int64_t i = 0; is_root && i < n * (m.size() - 1); ++i) {
      const auto from = static_cast<int>(i / n);
      ASSERT_EQ(m.array(1)[i], value(m.member(from < root ? from : from + 1), i % n)) << "gather to " << root;
    }
    CollectiveCall give = m.call(CollectiveKind::distribute, n, is_root ? x : nullptr, is_root ? nullptr : m.array(1));
    give.root = root;
    m.finish(give);
    for (std::int64_t i = 0; !is_root && i < n; ++i) {
      ASSERT_EQ(m.array(1)[i], value(m.member(root), i)) << "distribute from " << root;
    }
  }
}

void all_to_all(Member& m, std::int64_t n) {
  const float* const x = m.input(n * m.size());
  m.finish(m.call(CollectiveKind::all_to_all, n * m.size(), x, m.array(1)));
  for (std::int64_t i = 0; i < n * m.size(); ++i) {
    ASSERT_EQ(m.array(1)[i], value(m.member(i / n), m.group.index * n + i % n)) << "all_to_all, element " << i;
  }
}

// Member i sends (i + j) % 3 rows of `n` elements to member j.
void counted_all_to_all(Member& m, std::int64_t n) {
  const auto rows = [](int from, int to) { return (from + to) % 3; };
  std::int64_t sent = 0;
  for (int j = 0; j < m.size(); ++j) {
    m.counts(0)[j] = rows(m.group.index, j);
    m.counts(1)[j] = rows(j, m.group.index);
    sent += m.counts(0)[j];
  }
  CollectiveCall call = m.call(CollectiveKind::all_to_all, 2 * n * m.size(), m.input(sent * n), m.array(1));
  call.row = n;
  call.to = m.counts(0);
  call.from = m.counts(1);
  m.finish(call);
  std::int64_t at = 0;
  for (int j = 0; j < m.size(); ++j) {
    std::int64_t before = 0;
    for (int other = 0; other < m.group.index; ++other) {
      before += rows(j, other);
    }
    for (std::int64_t i = 0; i < rows(j, m.group.index) * n; ++i) {
      ASSERT_EQ(m.array(1)[at++], value(m.member(j), before * n + i)) << "counted all_to_all from " << j;
    }
  }
}

void messages_in_a_ring(Member& m, std::int64_t n) {
  const plan::Rank next = m.member((m.group.index + 1) % m.size());
  const plan::Rank previous = m.member((m.group.index + m.size() - 1) % m.size());
  const std::int32_t step = m.next_step();
  const MessageCall send{{{5, -1, 0}, step, m.rank(), next}, true, Dtype::fp32, n, m.input(n)};
  const MessageCall receive{{{5, -1, 0}, step, previous, m.rank()}, false, Dtype::fp32, n, m.array(1)};
  m.finish(std::vector{send, receive});
  for (std::int64_t i = 0; i < n; ++i) {
    ASSERT_EQ(m.array(1)[i], value(previous, i)) << "message from " << previous;
  }
}

// Runs fn for each rank that lives here and is a member, on a thread each.
void on_members(World& world, const std::vector<plan::Rank>& members, const std::function<void(Member&)>& fn) {
  std::vector<std::thread> threads;
  for (const plan::Rank r : world.ranks_here()) {
    if (std::find(members.begin(), members.end(), r) != members.end()) {
      threads.emplace_back([&, r] {
        Member member(world, r, members);
        fn(member);
      });
    }
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST(HostExchange, EveryCollectiveInEveryGroup) {
  const plan::Rank ranks = 2 * company->count();
  World world(*company, ranks);
  world.allocate_arenas(std::vector<Bytes>(static_cast<std::size_t>(ranks), Bytes{kArena}));
  // All; one of each process; all but the first, so that hosts have different numbers; the first and the last.
  std::vector<std::vector<plan::Rank>> groups(3);
  for (plan::Rank r = 0; r < ranks; ++r) {
    groups[0].push_back(r);
    if (r % 2 == 0) {
      groups[1].push_back(r);
    }
    if (r > 0) {
      groups[2].push_back(r);
    }
  }
  groups.push_back({0, ranks - 1});
  for (const std::vector<plan::Rank>& members : groups) {
    SCOPED_TRACE(::testing::PrintToString(members));
    on_members(world, members, [](Member& m) {
      for (const std::int64_t n : {std::int64_t{0}, std::int64_t{1}, std::int64_t{257}, kMostElements}) {
        reduce(m, n);
        broadcast(m, n);
        gather_and_distribute(m, n);
        messages_in_a_ring(m, n);
        const std::int64_t block = n / m.size();
        scatter_and_gather(m, block);
        all_to_all(m, block);
        counted_all_to_all(m, block + 1);
      }
    });
  }
  company->all_gather("");
}

// Rank 0 holds 1e8, the last -1e8, the others 1, of which 1e8 swallows one by one in fp32. By hand: on each host sums
// are taken in rank order, then over hosts.
TEST(HostExchange, SumsHostByHostInRankOrder) {
  const plan::Rank ranks = 2 * company->count();
  const auto of = [&](plan::Rank r) { return r == 0 ? 1e8F : r == ranks - 1 ? -1e8F : 1.0F; };
  float expected = 0;
  for (int p = 0; p < company->count();) {
    float of_host = 0;
    const int first = p;
    for (; p < company->count() && company->same_host(first, p); ++p) {
      of_host = of_host + of(2 * p) + of(2 * p + 1);
    }
    expected = expected + of_host;
  }
  World world(*company, ranks);
  world.allocate_arenas(std::vector<Bytes>(static_cast<std::size_t>(ranks), Bytes{kArena}));
  std::vector<plan::Rank> members(static_cast<std::size_t>(ranks));
  std::iota(members.begin(), members.end(), 0);
  on_members(world, members, [&](Member& m) {
    std::fill_n(m.array(0), 50000, of(m.rank()));
    m.finish(m.call(CollectiveKind::all_reduce, 50000, m.array(0), m.array(0)));
    for (int i = 0; i < 50000; ++i) {
      ASSERT_EQ(m.array(0)[i], expected);
    }
  });
  company->all_gather("");
}

}  // namespace
}  // namespace foretrain::exec
