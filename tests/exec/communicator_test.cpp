// The in-process communicator over ranks 1 to 8 and sizes 0, 1, a prime and large, with values whose sums are exact.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <latch>
#include <numeric>
#include <thread>

#include "base/error.h"
#include "exec/clock.h"
#include "exec/world.h"
#include "kernels/bf16.h"

namespace foretrain::exec {
namespace {

using plan::CollectiveKind;

// One rank's part of a test.
struct Member {
  Communicator& communicator;
  GroupView group;
  int index;
};

void finish(Communicator& c, Communicator::Ticket ticket, Time* start = nullptr) {
  while (true) {
    const std::uint32_t seen = c.progress_count();
    if (c.poll(ticket, start)) {
      return;
    }
    c.wait(seen, std::chrono::milliseconds(50));
  }
}

// Runs fn on a thread per rank; all ranks are one group. Rethrows the first failure other than Cancelled.
void on_ranks(int ranks, const std::function<void(Member&)>& fn) {
  Processes alone;
  World world(alone, ranks);
  std::vector<plan::Rank> members(static_cast<std::size_t>(ranks));
  std::iota(members.begin(), members.end(), 0);
  std::vector<std::thread> threads;
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(ranks));
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      Member member{world.communicator(r), {members, r}, r};
      try {
        fn(member);
      } catch (const Cancelled&) {
      } catch (...) {
        failures[static_cast<std::size_t>(r)] = std::current_exception();
        world.cancel();
      }
    });
  }
  for (std::thread& t : threads) {
    t.join();
  }
  for (const std::exception_ptr& f : failures) {
    if (f) {
      std::rethrow_exception(f);
    }
  }
}

CollectiveCall call_of(const Member& m, CollectiveKind kind, std::int64_t elements, const void* in, void* out,
                       Dtype dtype = Dtype::fp32) {
  CollectiveCall call;
  call.key = {{1, 2, 3}, 0, 0, -1};
  call.kind = kind;
  call.dtype = dtype;
  call.elements = elements;
  call.in = in;
  call.out = out;
  call.group = &m.group;
  return call;
}

// Element i of rank r: a small integer, so that any sum of eight is exact in fp32 and in bf16.
float value(int rank, std::int64_t i) {
  return static_cast<float>((i * 7 + rank * 3) % 16);
}

std::vector<float> input(int rank, std::int64_t n) {
  std::vector<float> x(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    x[static_cast<std::size_t>(i)] = value(rank, i);
  }
  return x;
}

float sum_over_ranks(int ranks, std::int64_t i) {
  float sum = 0;
  for (int r = 0; r < ranks; ++r) {
    sum += value(r, i);
  }
  return sum;
}

class CommunicatorGrid : public ::testing::TestWithParam<std::tuple<int, std::int64_t>> {
 protected:
  int ranks() const { return std::get<0>(GetParam()); }
  std::int64_t size() const { return std::get<1>(GetParam()); }
};

TEST_P(CommunicatorGrid, AllReduceSums) {
  on_ranks(ranks(), [&](Member& m) {
    std::vector<float> x = input(m.index, size());
    finish(m.communicator, m.communicator.post(call_of(m, CollectiveKind::all_reduce, size(), x.data(), x.data())));
    for (std::int64_t i = 0; i < size(); ++i) {
      ASSERT_EQ(x[static_cast<std::size_t>(i)], sum_over_ranks(ranks(), i)) << "element " << i;
    }
  });
}

TEST_P(CommunicatorGrid, AllReduceTakesTheMaximum) {
  on_ranks(ranks(), [&](Member& m) {
    std::vector<float> x = input(m.index, size());
    CollectiveCall call = call_of(m, CollectiveKind::all_reduce, size(), x.data(), x.data());
    call.reduction = plan::Reduction::max;
    finish(m.communicator, m.communicator.post(call));
    for (std::int64_t i = 0; i < size(); ++i) {
      float most = 0;
      for (int r = 0; r < ranks(); ++r) {
        most = std::max(most, value(r, i));
      }
      ASSERT_EQ(x[static_cast<std::size_t>(i)], most);
    }
  });
}

TEST_P(CommunicatorGrid, AllReduceOfBf16) {
  on_ranks(ranks(), [&](Member& m) {
    std::vector<kernels::Bf16> x;
    for (std::int64_t i = 0; i < size(); ++i) {
      x.emplace_back(value(m.index, i));
    }
    finish(m.communicator,
           m.communicator.post(call_of(m, CollectiveKind::all_reduce, size(), x.data(), x.data(), Dtype::bf16)));
    for (std::int64_t i = 0; i < size(); ++i) {
      ASSERT_EQ(static_cast<float>(x[static_cast<std::size_t>(i)]), sum_over_ranks(ranks(), i));
    }
  });
}

// `size` is that of one block here; the whole buffer is ranks times as large.
TEST_P(CommunicatorGrid, ReduceScatterApart) {
  const std::int64_t all = size() * ranks();
  on_ranks(ranks(), [&](Member& m) {
    const std::vector<float> x = input(m.index, all);
    std::vector<float> shard(static_cast<std::size_t>(size()));
    finish(m.communicator,
           m.communicator.post(call_of(m, CollectiveKind::reduce_scatter, all, x.data(), shard.data())));
    for (std::int64_t i = 0; i < size(); ++i) {
      ASSERT_EQ(shard[static_cast<std::size_t>(i)], sum_over_ranks(ranks(), m.index * size() + i));
    }
    ASSERT_EQ(x, input(m.index, all)) << "the input is not touched";
  });
}

TEST_P(CommunicatorGrid, ReduceScatterInPlace) {
  const std::int64_t all = size() * ranks();
  on_ranks(ranks(), [&](Member& m) {
    std::vector<float> x = input(m.index, all);
    float* const own = x.data() + m.index * size();
    finish(m.communicator, m.communicator.post(call_of(m, CollectiveKind::reduce_scatter, all, x.data(), own)));
    for (std::int64_t i = 0; i < size(); ++i) {
      ASSERT_EQ(own[i], sum_over_ranks(ranks(), m.index * size() + i));
    }
  });
}

TEST_P(CommunicatorGrid, AllGather) {
  const std::int64_t all = size() * ranks();
  for (const bool in_place : {false, true}) {
    on_ranks(ranks(), [&](Member& m) {
      const std::vector<float> shard = input(m.index, size());
      std::vector<float> full(static_cast<std::size_t>(all), -1.0F);
      float* const own = full.data() + m.index * size();
      std::copy(shard.begin(), shard.end(), own);
      const float* const in = in_place ? own : shard.data();
      finish(m.communicator, m.communicator.post(call_of(m, CollectiveKind::all_gather, all, in, full.data())));
      for (std::int64_t i = 0; i < all; ++i) {
        ASSERT_EQ(full[static_cast<std::size_t>(i)], value(static_cast<int>(i / size()), i % size()));
      }
    });
  }
}

TEST_P(CommunicatorGrid, Broadcast) {
  on_ranks(ranks(), [&](Member& m) {
    std::vector<float> x = input(m.index, size());
    CollectiveCall call = call_of(m, CollectiveKind::broadcast, size(), x.data(), x.data());
    call.root = ranks() / 2;
    finish(m.communicator, m.communicator.post(call));
    ASSERT_EQ(x, input(ranks() / 2, size()));
  });
}

// The root has the others' parts in their order; and everybody has what the root gives.
TEST_P(CommunicatorGrid, GatherAndDistribute) {
  if (ranks() == 1) {
    return;
  }
  const int root = ranks() / 2;
  on_ranks(ranks(), [&](Member& m) {
    const bool is_root = m.index == root;
    const std::int64_t all = size() * (ranks() - 1);
    const std::vector<float> part = input(m.index, size());
    std::vector<float> parts(static_cast<std::size_t>(all), -1.0F), given(static_cast<std::size_t>(size()), -1.0F);
    CollectiveCall call =
        call_of(m, CollectiveKind::gather, all, is_root ? nullptr : part.data(), is_root ? parts.data() : nullptr);
    call.root = root;
    finish(m.communicator, m.communicator.post(call));
    for (std::int64_t i = 0; is_root && i < all; ++i) {
      const int from = static_cast<int>(i / size());
      ASSERT_EQ(parts[static_cast<std::size_t>(i)], value(from < root ? from : from + 1, i % size()));
    }
    call = call_of(m, CollectiveKind::distribute, size(), is_root ? part.data() : nullptr,
                   is_root ? nullptr : given.data());
    call.root = root;
    call.key.match.microbatch = 1;
    finish(m.communicator, m.communicator.post(call));
    if (!is_root) {
      ASSERT_EQ(given, input(root, size()));
    }
  });
}

TEST_P(CommunicatorGrid, AllToAll) {
  const std::int64_t all = size() * ranks();
  on_ranks(ranks(), [&](Member& m) {
    const std::vector<float> x = input(m.index, all);
    std::vector<float> y(static_cast<std::size_t>(all));
    finish(m.communicator, m.communicator.post(call_of(m, CollectiveKind::all_to_all, all, x.data(), y.data())));
    for (std::int64_t i = 0; i < all; ++i) {
      ASSERT_EQ(y[static_cast<std::size_t>(i)], value(static_cast<int>(i / size()), m.index * size() + i % size()));
    }
  });
}

// Each rank sends to the next and receives from the one before, in one batch: nobody waits for an order.
TEST_P(CommunicatorGrid, MessagesInARing) {
  if (ranks() == 1) {
    return;
  }
  on_ranks(ranks(), [&](Member& m) {
    std::vector<float> out = input(m.index, size()), in(out.size(), -1.0F);
    const int next = (m.index + 1) % ranks(), previous = (m.index + ranks() - 1) % ranks();
    MessageCall send{{{5, -1, 0}, 0, m.index, next}, true, Dtype::fp32, size(), out.data()};
    MessageCall receive{{{5, -1, 0}, 0, previous, m.index}, false, Dtype::fp32, size(), in.data()};
    const std::vector<MessageCall> batch{send, receive};
    finish(m.communicator, m.communicator.post(batch));
    ASSERT_EQ(in, input(previous, size()));
  });
}

INSTANTIATE_TEST_SUITE_P(RanksAndSizes, CommunicatorGrid,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4, 5, 8),
                                            ::testing::Values<std::int64_t>(0, 1, 257, 40000)));

// 1e8 + 1 - 1e8 is 0 in fp32 when the first two are added first and 1 otherwise: ranks 0, 1, 2 hold these, so the sum
// in rank order is 0, every time and everywhere.
TEST(Communicator, SumsInRankOrder) {
  const float values[3] = {1e8F, 1.0F, -1e8F};
  for (int repeat = 0; repeat < 20; ++repeat) {
    on_ranks(3, [&](Member& m) {
      std::vector<float> x(50000, values[m.index]);
      finish(m.communicator, m.communicator.post(call_of(m, CollectiveKind::all_reduce, 50000, x.data(), x.data())));
      ASSERT_EQ(x, std::vector<float>(50000, 0.0F));
    });
  }
}

// Many operations in flight, polled in another order than they were posted in: keys, not order, make them meet.
TEST(Communicator, OperationsMeetByKey) {
  constexpr int kOperations = 40;
  on_ranks(4, [&](Member& m) {
    std::vector<std::vector<float>> x(kOperations);
    std::vector<Communicator::Ticket> tickets(kOperations);
    for (int step = 0; step < 3; ++step) {
      for (int i = 0; i < kOperations; ++i) {
        const int o = m.index % 2 == 0 ? i : kOperations - 1 - i;
        x[static_cast<std::size_t>(o)].assign(100, static_cast<float>(o + m.index));
        float* const data = x[static_cast<std::size_t>(o)].data();
        CollectiveCall call = call_of(m, CollectiveKind::all_reduce, 100, data, data);
        call.key.match.microbatch = o;
        call.key.step = step;
        tickets[static_cast<std::size_t>(o)] = m.communicator.post(call);
      }
      for (int o = kOperations - 1; o >= 0; --o) {
        finish(m.communicator, tickets[static_cast<std::size_t>(o)]);
        ASSERT_EQ(x[static_cast<std::size_t>(o)][99], static_cast<float>(4 * o + 6));
      }
    }
  });
}

TEST(Communicator, StartsWhenTheLastMemberPosted) {
  std::atomic<std::int64_t> last_post{0};
  on_ranks(2, [&](Member& m) {
    float x = 1.0F;
    if (m.index == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      last_post = now().value;
    }
    Time start;
    finish(m.communicator, m.communicator.post(call_of(m, CollectiveKind::all_reduce, 1, &x, &x)), &start);
    EXPECT_GE(start.value, last_post.load());
  });
}

TEST(Communicator, NamesWhoIsMissing) {
  std::latch others_posted(2), asked(1);
  on_ranks(3, [&](Member& m) {
    std::vector<float> x(10, 1.0F);
    if (m.index == 1) {
      asked.wait();
    }
    const Communicator::Ticket ticket =
        m.communicator.post(call_of(m, CollectiveKind::all_reduce, 10, x.data(), x.data()));
    if (m.index != 1) {
      others_posted.count_down();
    }
    if (m.index == 0) {
      others_posted.wait();
      EXPECT_EQ(m.communicator.missing(ticket), std::vector<plan::Rank>{1});
      asked.count_down();
    }
    finish(m.communicator, ticket);
  });
}

TEST(Communicator, RefusesMembersThatDisagree) {
  EXPECT_THROW(on_ranks(2,
                        [&](Member& m) {
                          std::vector<float> x(10);
                          const std::int64_t n = m.index == 0 ? 10 : 5;
                          finish(m.communicator,
                                 m.communicator.post(call_of(m, CollectiveKind::all_reduce, n, x.data(), x.data())));
                        }),
               InternalError);
}

// The holder does not let go: its process may be stopped.
TEST(Board, ACancellationEndsTheWaitForItsLock) {
  const Board board(1, SharedMemory::Reach::this_process);
  const Board::Lock held(board);
  std::thread other([&] {
    board.cancel();
    EXPECT_THROW(Board::Lock{board}, Cancelled);
  });
  other.join();
}

// As a process does that is killed in the middle of a change.
TEST(Board, TheTablesOfAHolderThatDiedAreInOrder) {
  Board board(2, SharedMemory::Reach::this_host);
  const auto key = [](plan::Rank from) {
    OperationKey k;
    k.from = from;
    return k;
  };
  Operation* kept = nullptr;
  {
    const Board::Lock lock(board);
    kept = &board.join(key(1), 2);
  }
  const pid_t child = ::fork();
  if (child == 0) {
    const Board::Lock lock(board);
    board.join(key(2), 2);
    board.join(key(3), 2).in_use = false;
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  const Board::Lock lock(board);
  EXPECT_FALSE(board.cancelled());
  EXPECT_EQ(board.find(key(1)), kept);
  ASSERT_NE(board.find(key(2)), nullptr);
  EXPECT_EQ(board.find(key(2))->posted, 0);
  EXPECT_EQ(board.find(key(3)), nullptr);
  board.remove(*kept);
  for (plan::Rank r = 3; r < 130; ++r) {  // 64 for each of two seats, one of which is in use
    board.join(key(r), 2);
  }
  EXPECT_THROW(board.join(key(130), 2), InternalError);
}

// What is sent to a rank that is left out is done with, and sums are without it.
TEST(Communicator, GoesOnWithoutWhoIsLeftOut) {
  Processes alone;
  World world(alone, 3);
  const auto message = [](plan::Rank to, float* data) {
    MessageCall call;
    call.key.from = 0;
    call.key.to = to;
    call.elements = 1;
    call.data = data;
    return call;
  };
  float x = 1.0F, y = 2.0F;
  Communicator& first = world.communicator(0);
  const Communicator::Ticket sent = first.post(std::vector{message(1, &x)});
  EXPECT_FALSE(first.poll(sent, nullptr));
  EXPECT_FALSE(first.is_left_out(1));
  world.leave_out(1);
  EXPECT_TRUE(first.is_left_out(1));
  EXPECT_TRUE(first.poll(sent, nullptr));
  Member a{first, {{0, 1, 2}, 0}, 0}, c{world.communicator(2), {{0, 1, 2}, 2}, 2};
  const Communicator::Ticket of_a = first.post(call_of(a, CollectiveKind::all_reduce, 1, &x, &x));
  finish(c.communicator, c.communicator.post(call_of(c, CollectiveKind::all_reduce, 1, &y, &y)));
  finish(first, of_a);
  EXPECT_EQ(x, 3.0F);
  EXPECT_EQ(y, 3.0F);
}

TEST(Communicator, CancelWakesWaiters) {
  Processes alone;
  World world(alone, 2);
  std::thread waiter([&] {
    Member m{world.communicator(0), {{0, 1}, 0}, 0};
    float x = 0.0F;
    EXPECT_THROW(finish(m.communicator, m.communicator.post(call_of(m, CollectiveKind::all_reduce, 1, &x, &x))),
                 Cancelled);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  world.cancel();
  waiter.join();
}

}  // namespace
}  // namespace foretrain::exec
