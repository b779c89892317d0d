// Gradients that are summed elsewhere than in an all-reduce: who holds what, and what is sent.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "plan/build.h"
#include "plan/channel.h"
#include "plan/cursor.h"
#include "plan/validate.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::plan {
namespace {

using Lines = std::vector<std::string>;

PlanGraph graph_of(const Lines& overrides) {
  const PlanGraph g = build(testing::tiny_job(testing::kTinyLlama, overrides));
  EXPECT_EQ(validate(g), Lines{}) << ::testing::PrintToString(overrides);
  return g;
}

// Elements of a step's ops by kind, of one rank of the role.
std::map<std::string, std::int64_t> moved(const PlanGraph& g, std::size_t role) {
  std::map<std::string, std::int64_t> result;
  const Program& p = g.roles[role].program;
  for (ProgramCursor c(g.roles[role], static_cast<int>(role), p.body, first_body_instance(p)); c; c.next()) {
    if (const auto* collective = std::get_if<Collective>(&c.op().work)) {
      result[kind_name(c.op().work)] += collective->elements;
    } else if (const auto* channel = std::get_if<Channel>(&c.op().work)) {
      result[kind_name(c.op().work)] += channel->elements;
    } else if (const auto* exchange = std::get_if<Exchange>(&c.op().work)) {
      for (const Message& m : exchange->messages) {
        result[m.send ? "send" : "receive"] += m.elements;
      }
    } else if (const auto* sum = std::get_if<SumParts>(&c.op().work)) {
      result["sum_parts"] += sum->elements * (sum->parts + (sum->accumulate ? 1 : 0));
    }
  }
  return result;
}

std::int64_t parameters_of(const PlanGraph& g, std::size_t role) {
  std::int64_t n = 0;
  for (const ParameterFamily& f : g.roles[role].parameter_families) {
    n += f.parameter < 0 ? 0 : f.elements * std::max(1, f.layers);
  }
  return n;
}

bool has_state(const Role& role) {
  return std::any_of(role.parameter_families.begin(), role.parameter_families.end(),
                     [](const ParameterFamily& f) { return f.m >= 0; });
}

// Of 3 ranks the first gathers two gradients, adds its own, and gives the parameters to all. The loss is one element.
TEST(DataParallel, TheFirstRankGathersSumsAndUpdates) {
  const PlanGraph g = graph_of({"dp=4", "data_parallel=gather"});
  ASSERT_EQ(g.roles.size(), 2u);
  const std::int64_t n = parameters_of(g, 0);
  EXPECT_EQ(count(g.mesh, g.roles[0].ranks), 1);
  EXPECT_EQ(count(g.mesh, g.roles[1].ranks), 3);
  EXPECT_TRUE(has_state(g.roles[0]));
  EXPECT_FALSE(has_state(g.roles[1]));
  using Moved = std::map<std::string, std::int64_t>;
  EXPECT_EQ(moved(g, 0), (Moved{{"gather", 3 * n}, {"sum_parts", 4 * n}, {"broadcast", n}, {"all_reduce", 1}}));
  EXPECT_EQ(moved(g, 1), (Moved{{"gather", 3 * n}, {"broadcast", n}, {"all_reduce", 1}}));
}

TEST(DataParallel, EverybodyGathersSumsAndUpdates) {
  const PlanGraph g = graph_of({"dp=4", "data_parallel=all_gather"});
  ASSERT_EQ(g.roles.size(), 1u);
  const std::int64_t n = parameters_of(g, 0);
  EXPECT_EQ(moved(g, 0),
            (std::map<std::string, std::int64_t>{{"all_gather", 4 * n}, {"sum_parts", 4 * n}, {"all_reduce", 1}}));
}

// Four equal layers, a larger embedding and head of equal size: two servers have as much; each gathers its own.
TEST(DataParallel, ServersShareTheParameters) {
  const PlanGraph g = graph_of({"dp=3", "global_batch=6", "data_parallel=parameter_server", "servers=2"});
  ASSERT_EQ(g.roles.size(), 3u);
  EXPECT_EQ(g.mesh.ranks(), 5);
  EXPECT_EQ(g.data_ranks(), 3);
  EXPECT_FALSE(has_state(g.roles[0]));
  EXPECT_EQ(parameters_of(g, 1) + parameters_of(g, 2), parameters_of(g, 0));
  for (const std::size_t server : {1u, 2u}) {
    const std::int64_t n = parameters_of(g, server);
    EXPECT_EQ(g.roles[server].global_layer.size(), 2u);
    EXPECT_TRUE(has_state(g.roles[server]));
    EXPECT_EQ(moved(g, server),
              (std::map<std::string, std::int64_t>{
                  {"gather", 3 * n}, {"sum_parts", 3 * n}, {"distribute", n}, {"all_reduce", g.tensors}}));
    EXPECT_EQ(role_of(g, static_cast<Rank>(2 + server)), static_cast<int>(server));
  }
}

// Elements of a role's buffers by kind.
std::map<std::string, std::int64_t> held(const Role& role) {
  std::map<std::string, std::int64_t> result;
  for (const Buffer& b : role.buffers) {
    result[std::string(name(b.kind))] += b.elements * std::max(1, b.layers);
  }
  return result;
}

// As above, and each server sends its n sums to a replica, which says once that it has them. The replica has the n
// parameters and gradients and two moments of each, takes the norm with the other replica, and no worker's gradients.
TEST(DataParallel, ReplicasMakeTheUpdatesOfServers) {
  const PlanGraph g =
      graph_of({"dp=3", "global_batch=6", "data_parallel=parameter_server", "servers=2", "server_replicas=1"});
  ASSERT_EQ(g.roles.size(), 5u);
  EXPECT_EQ(g.mesh.ranks(), 7);
  EXPECT_EQ(g.data_ranks(), 3);
  using Moved = std::map<std::string, std::int64_t>;
  for (const std::size_t server : {1u, 2u}) {
    const std::size_t replica = server + 2;
    const std::int64_t n = parameters_of(g, server);
    EXPECT_EQ(parameters_of(g, replica), n);
    EXPECT_EQ(g.roles[replica].global_layer, g.roles[server].global_layer);
    EXPECT_EQ(moved(g, server), (Moved{{"gather", 3 * n},
                                       {"sum_parts", 3 * n},
                                       {"send", n},
                                       {"receive", 1},
                                       {"distribute", n},
                                       {"all_reduce", g.tensors}}));
    EXPECT_EQ(moved(g, replica), (Moved{{"receive", n}, {"send", 1}, {"all_reduce", g.tensors}}));
    Moved of_replica = held(g.roles[server]);
    of_replica["communication"] = 1;
    EXPECT_EQ(held(g.roles[replica]), of_replica);
    EXPECT_EQ(of_replica["parameter"], n);
    EXPECT_EQ(of_replica["gradient"], n);
    EXPECT_EQ(of_replica["optimizer_state"], 2 * n);
  }
}

// One server waits for nobody's norm, and so does its replica; gradients go on their way behind the backward.
TEST(DataParallel, OneServerHasAReplica) {
  const PlanGraph g = graph_of(
      {"dp=2", "data_parallel=parameter_server", "servers=1", "server_replicas=1", "overlap_grad_reduce=true"});
  const std::int64_t n = parameters_of(g, 0);
  EXPECT_EQ(moved(g, 2), (std::map<std::string, std::int64_t>{{"receive", n}, {"send", 1}}));
}

// An update for each worker, clipped by the norm over all servers; workers put all and fetch all, once.
TEST(DataParallel, AsynchronousServersUpdateForEachWorker) {
  const PlanGraph g =
      graph_of({"dp=4", "data_parallel=parameter_server", "servers=2", "staleness=1", "server_order=random"});
  EXPECT_TRUE(g.asynchronous);
  using Moved = std::map<std::string, std::int64_t>;
  const std::int64_t n = parameters_of(g, 0);
  EXPECT_EQ(moved(g, 0), (Moved{{"put", n}, {"fetch", n}}));
  for (const std::size_t server : {1u, 2u}) {
    const std::int64_t own = parameters_of(g, server);
    EXPECT_EQ(moved(g, server), (Moved{{"take", 4 * own}, {"release", 4 * own}, {"all_reduce", 4 * g.tensors}}));
  }
}

// Of each of the four turns a server sends its n gradients, and five numbers on the turns, to its replica, which says
// that it has them.
TEST(DataParallel, ReplicasMakeTheUpdatesOfAsynchronousServers) {
  const PlanGraph g =
      graph_of({"dp=4", "data_parallel=parameter_server", "servers=2", "staleness=1", "server_replicas=1"});
  using Moved = std::map<std::string, std::int64_t>;
  for (const std::size_t server : {1u, 2u}) {
    const std::int64_t n = parameters_of(g, server), sent = 4 * (n + 5), norms = 4 * g.tensors;
    EXPECT_EQ(moved(g, server),
              (Moved{{"take", 4 * n}, {"release", 4 * n}, {"all_reduce", norms}, {"send", sent}, {"receive", 4}}));
    EXPECT_EQ(moved(g, server + 2), (Moved{{"receive", sent}, {"send", 4}, {"all_reduce", norms}}));
    EXPECT_EQ(parameters_of(g, server + 2), n);
  }
}

TEST(DataParallel, RefusesServersWithNothing) {
  const auto refusal = [](const Lines& overrides) {
    try {
      graph_of(overrides);
    } catch (const InputError& e) {
      return std::string(e.what());
    }
    return std::string("none");
  };
  EXPECT_NE(refusal({"data_parallel=parameter_server", "servers=7"})
                .find("7 servers for 6 parts of the parameters (each layer, the embedding, the head)"),
            std::string::npos);
  EXPECT_NE(refusal({"data_parallel=parameter_server", "servers=0"}).find("/strategy/servers: 0 is not allowed"),
            std::string::npos);
  EXPECT_NE(refusal({"data_parallel=parameter_server", "staleness=-1"}).find("/strategy/staleness: -1 is not allowed"),
            std::string::npos);
  EXPECT_NE(refusal({"data_parallel=parameter_server", "dp=0"}).find("/strategy/dp: 0 is not allowed"),
            std::string::npos);
  for (const char* const order : {"elastic=true", "server_order=random"}) {
    EXPECT_NE(refusal({"dp=2", "data_parallel=parameter_server", order}).find("needs staleness: without it servers"),
              std::string::npos);
  }
  EXPECT_NE(refusal({"data_parallel=parameter_server", "server_replicas=2"})
                .find("/strategy/server_replicas: 2 is not allowed; expected an integer from 0 to 1"),
            std::string::npos);
  EXPECT_NE(refusal({"server_replicas=1"}).find("/strategy/server_replicas: needs data_parallel parameter_server"),
            std::string::npos);
  EXPECT_NE(refusal({"servers=1"}).find("/strategy/servers: needs data_parallel parameter_server, not all_reduce"),
            std::string::npos);
}

// Three workers, one step ahead at most: worker 0 sends twice; its second release waits for the slowest.
TEST(ChannelClocks, HoldBackWhoIsAhead) {
  ChannelClocks clocks(3, 0);
  EXPECT_EQ(clocks.take(0), 0);
  EXPECT_EQ(clocks.release(1), std::vector<int>{0});  // at 1, the others at 0
  EXPECT_EQ(clocks.take(1), 1);                       // version 1, sent from 0
  EXPECT_EQ(clocks.release(1), std::vector<int>{1});
  EXPECT_EQ(clocks.take(0), 1);                      // released at 1, now 2
  EXPECT_EQ(clocks.release(1), std::vector<int>{});  // at 2, worker 2 at 0
  EXPECT_EQ(clocks.take(2), 3);
  EXPECT_EQ(clocks.release(1), (std::vector<int>{0, 2}));
  EXPECT_EQ(clocks.take(2), 0);
  EXPECT_EQ(clocks.release(-1), std::vector<int>{2});
}

// All meet at every second step: whoever has done two waits there for the slowest, whatever the bound.
TEST(ChannelClocks, MeetWhereAllMeet) {
  ChannelClocks clocks(2, 0);
  const Meets second = [](std::int64_t clock) { return clock % 2 == 0; };
  clocks.take(0);
  EXPECT_EQ(clocks.release(-1, second), std::vector<int>{0});
  clocks.take(0);
  EXPECT_EQ(clocks.release(-1, second), std::vector<int>{});
  clocks.take(1);
  EXPECT_EQ(clocks.release(-1, second), std::vector<int>{1});
  EXPECT_EQ(clocks.take(1), 0);
  EXPECT_EQ(clocks.release(-1, second), (std::vector<int>{0, 1}));
  EXPECT_EQ(clocks.take(0), 0);
}

// Worker 2 is lost before its first message: worker 0 waits for worker 1 alone, and worker 2's turns are passed over
// one by one, as the server's steps go by.
TEST(ChannelClocks, NobodyWaitsForWhoIsLeftOut) {
  ChannelClocks clocks(3, 0);
  clocks.take(0);
  EXPECT_EQ(clocks.release(0), std::vector<int>{});
  EXPECT_EQ(clocks.overdue(0), -1);
  clocks.leave_out(2);
  EXPECT_EQ(clocks.release(0), std::vector<int>{});  // worker 1 is at 0
  EXPECT_EQ(clocks.overdue(0), 2);
  clocks.pass_over(2);
  EXPECT_EQ(clocks.overdue(0), -1);
  EXPECT_EQ(clocks.take(1), 1);  // no update was made when worker 2's turn was passed over
  EXPECT_EQ(clocks.release(0), (std::vector<int>{0, 1}));
  EXPECT_EQ(clocks.overdue(1), 2);
}

// What it had sent whole counts, and nobody releases it.
TEST(ChannelClocks, WhoIsLeftOutMayHaveSentBefore) {
  ChannelClocks clocks(2, 0);
  clocks.take(0);
  clocks.leave_out(1);
  EXPECT_EQ(clocks.take(1), 1);
  EXPECT_EQ(clocks.release(0), std::vector<int>{0});
  EXPECT_EQ(clocks.overdue(0), -1);
  EXPECT_EQ(clocks.overdue(1), 1);
}

TEST(ChannelClocks, EverybodyHasATurnInAStep) {
  for (const int workers : {1, 2, 5}) {
    for (const std::int64_t step : {0, 1, 2, 1000}) {
      std::vector<bool> had(static_cast<std::size_t>(workers), false);
      for (int n = 0; n < workers; ++n) {
        had[static_cast<std::size_t>(worker_in_turn(workers, step, n))] = true;
      }
      EXPECT_EQ(had, std::vector<bool>(had.size(), true));
    }
  }
}

}  // namespace
}  // namespace foretrain::plan
