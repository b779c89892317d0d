#include "search/plan_search.h"

#include <gtest/gtest.h>

#include <barrier>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/parallel.h"
#include "plan/build.h"
#include "search/graph_bound.h"
#include "search/judge.h"
#include "search/node_sweep.h"
#include "sim/simulator.h"
#include "topologies/fabric.h"
#include "topologies/profile.h"

namespace foretrain::search {
namespace {

plan::OpenJob open_job(const std::string& model, const std::string& system, std::int64_t nodes, std::int64_t seq_len,
                       std::int64_t batch, const std::string& strategy = "{}") {
  plan::OpenJob open = plan::open_job_from_text(
      fmt::format(R"({{"version": 1, "workload": {{"model": "{}", "seq_len": {}, "global_batch": {}}},
                      "cluster": {{"system": "{}", "nodes": {}}}, "strategy": {}}})",
                  model, seq_len, batch, system, nodes, strategy),
      "test");
  topologies::load_profile_of(open.job.cluster);
  return open;
}

struct Plan {
  Shape shape;
  Tail tail;
};

std::vector<Plan> plans_of(const plan::OpenJob& open, const PlanSpace& space) {
  std::vector<Plan> all;
  Rejected rejected;
  for (const Shape& s : shapes_of(space, open, rejected)) {
    for (const Tail& t : tails_of(space, s, rejected)) {
      all.push_back({s, t});
    }
  }
  return all;
}

// What `estimate` says of a plan; nothing where the job refuses it.
struct Estimated {
  bool allowed = false, fits = false;
  Time step_time;
  Bytes memory;
};

Estimated estimate(const plan::OpenJob& open, const Plan& p) {
  Estimated e;
  try {
    const plan::Job job = plan::with_strategy(open.job, strategy_of(open, p.shape, p.tail));
    const plan::PlanGraph graph = plan::build(job);
    const plan::MemoryFit fit = plan::memory_fit(job, graph);
    e = {true, fit.fits(), sim::simulate(graph, job.cluster, {}).step_time, fit.demand};
  } catch (const InputError&) {
  }
  return e;
}

SearchOptions with_axes(std::vector<std::string> axes) {
  SearchOptions options;
  options.axes = std::move(axes);
  return options;
}

// Bounds hold for whole spaces of dense models and of experts, with and without a power limit.
struct Case {
  const char *model, *system;
  std::int64_t nodes, seq_len, batch;
  std::vector<std::string> axes;
  std::size_t every;  // of the plans one
};

TEST(PlanSearch, BoundsAreNeverAboveTheSimulation) {
  const std::vector<Case> cases{
      {"llama3-8b", "dgx-h100", 2, 8192, 32, {"micro_batch=1,2", "virtual_stages=1,2"}, 397},
      {"gpt3-175b", "dgx-a100-80gb", 8, 2048, 64, {"micro_batch=1,2", "virtual_stages=1,2,3"}, 499},
      {"mixtral-8x7b", "dgx-h100", 2, 4096, 32, {"micro_batch=1", "cp=1", "virtual_stages=1,2"}, 599},
      // Few microbatches for many stages: parameters are gathered while a rank waits for its input.
      {"llama3-8b", "dgx-h100", 4, 8192, 16, {"zero=3", "pp=16", "tp=1", "cp=1", R"(rank_order=["dp,pp,cp,tp"])"}, 1},
  };
  for (const Case& c : cases) {
    const plan::OpenJob open = open_job(c.model, c.system, c.nodes, c.seq_len, c.batch);
    const PlanSpace space = space_of(open, c.axes);
    const std::vector<Plan> all = plans_of(open, space);
    ShapeBounds bounds(open);
    std::vector<Plan> some;
    for (std::size_t i = 0; i < all.size(); i += c.every) {
      some.push_back(all[i]);
    }
    EXPECT_GE(some.size(), 8U) << c.model;
    std::vector<std::string> wrong(some.size());
    in_parallel(some.size(), [&](std::size_t i) {
      const Plan& p = some[i];
      const Estimated e = estimate(open, p);
      std::string why;
      const auto bound = bounds.bound(p.shape, e.step_time + Time{1}, why);
      if (!e.allowed || !bound) {
        return;
      }
      const plan::Job job = plan::with_strategy(open.job, strategy_of(open, p.shape, p.tail));
      const Time limit = e.step_time + Time{1};
      const Time least =
          graph_bound(plan::build(job), job.cluster, p.shape, bounds.rows(), bounds.clock(p.shape, limit), limit)
              .step_time;
      if (bound->step_time > e.step_time || least > e.step_time || bounds.memory(p.shape, p.tail) > e.memory ||
          bound->memory > e.memory) {
        wrong[i] = fmt::format("{}: {} by shape, {} by graph, {} simulated; {} and {} of memory at least, {} demanded",
                               strategy_of(open, p.shape, p.tail).dump(), to_string(bound->step_time), to_string(least),
                               to_string(e.step_time), to_string(bound->memory),
                               to_string(bounds.memory(p.shape, p.tail)), to_string(e.memory));
      }
    });
    for (const std::string& w : wrong) {
      EXPECT_EQ(w, "");
    }
  }
}

// What bounds a plan whenever its ops run bounds all that do the same.
TEST(PlanSearch, SameOpsTakeAsLongInAnyOrder) {
  const std::vector<Case> cases{
      {"llama3-8b", "dgx-h100", 2, 8192, 32, {"micro_batch=1", "cp=2", "cp_kind=ring", "tp=2", "zero=1,2,3"}, 1},
      {"mixtral-8x7b", "dgx-h100", 2, 4096, 32, {"micro_batch=1", "cp=1", "tp=2", "zero=0,2,3", "ep=4"}, 1},
  };
  for (const Case& c : cases) {
    const plan::OpenJob open = open_job(c.model, c.system, c.nodes, c.seq_len, c.batch);
    ShapeBounds bounds(open);
    std::map<std::string, std::vector<Plan>> alike;
    for (const Plan& p : plans_of(open, space_of(open, c.axes))) {
      alike[same_ops(open, bounds, p.shape, p.tail)].push_back(p);
    }
    std::size_t several = 0;
    for (const auto& [word, plans] : alike) {
      std::set<Time> least;
      for (const Plan& p : plans) {
        try {
          const plan::Job job = plan::with_strategy(open.job, strategy_of(open, p.shape, p.tail));
          least.insert(graph_bound(plan::build(job), job.cluster, p.shape, bounds.rows(), 1, kNever).in_any_order);
        } catch (const InputError&) {
        }
      }
      EXPECT_LE(least.size(), 1U) << c.model << " " << word;
      several += plans.size() > 1 ? 1 : 0;
    }
    EXPECT_GE(several, 10U) << c.model;
  }
}

// With ranks in another order, where tp x cp fills nodes of 8.
TEST(PlanSearch, RanksThatLieAlikeTakeAsLong) {
  const std::vector<Case> cases{
      {"llama3-8b",
       "dgx-h100",
       4,
       8192,
       16,
       {"micro_batch=1", "cp=2", "tp=4", "cp_kind=ring", "virtual_stages=1,2", "zero=1,3", "recompute=none"},
       1},
      {"mixtral-8x7b",
       "dgx-h100",
       4,
       4096,
       8,
       {"micro_batch=1", "cp=1", "tp=8", "zero=1,3", "ep=2", "virtual_stages=1", "recompute=none"},
       1},
  };
  for (const Case& c : cases) {
    const plan::OpenJob open = open_job(c.model, c.system, c.nodes, c.seq_len, c.batch);
    ShapeBounds bounds(open);
    std::map<std::string, std::vector<Plan>> alike;
    for (const Plan& p : plans_of(open, space_of(open, c.axes))) {
      EXPECT_TRUE(bounds.has_like_orders(p.shape));
      alike[same_alone(open, bounds, p.shape, p.tail)].push_back(p);
    }
    std::size_t several = 0;
    for (const auto& [word, plans] : alike) {
      std::set<std::pair<Time, Bytes>> found;
      for (const Plan& p : plans) {
        const Verdict v = judge(open, bounds, p.shape, p.tail, kNever, Bytes{INT64_MAX});
        found.insert({v.found.alone, v.found.memory});
      }
      EXPECT_EQ(found.size(), 1U) << c.model << " " << word;
      several += plans.size() > 1 ? 1 : 0;
    }
    EXPECT_GE(several, 10U) << c.model;
  }
  Shape half;
  half.tp = 4;
  EXPECT_FALSE(ShapeBounds(open_job("llama3-8b", "dgx-h100", 4, 8192, 16)).has_like_orders(half));
  half.tp = 8;  // and switches that take time, so that some nodes are farther than others
  plan::OpenJob routed = open_job("llama3-8b", "alibaba-hpn", 4, 8192, 16);
  EXPECT_TRUE(ShapeBounds(routed).has_like_orders(half));
  topologies::Fabric fabric = *routed.job.cluster.fabric;
  fabric.switch_latency = Time{1'000'000};
  routed.job.cluster.fabric = std::make_shared<const topologies::Fabric>(std::move(fabric));
  EXPECT_FALSE(ShapeBounds(routed).has_like_orders(half));
}

// The same best as every plan estimated.
TEST(PlanSearch, FindsWhatTryingAllFinds) {
  const std::vector<Case> cases{
      {"gpt2-124m", "dgx-a100-80gb", 1, 1024, 32, {"micro_batch=1,2", "cp=1", "shard=0", "schedule=1f1b,zb_h1"}, 1},
      {"llama3-8b",
       "dgx-h100",
       1,
       8192,
       8,
       {"micro_batch=1", "cp=1,2", "cp_kind=ring", "shard=0", "zero=1", "virtual_stages=1,2"},
       1},
      // 27 layers: schedules in a V cut them unevenly.
      {"deepseek-v2-lite",
       "dgx-a100-80gb",
       1,
       4096,
       16,
       {"tp=1,2", "cp=1", "ep=4", "micro_batch=1", "recompute=none", "shard=0", "zero=1", "schedule=1f1b,dualpipe_v"},
       1},
      // What compute beside it slows, adapters hold back anyhow.
      {"llama3.2-3b",
       "coreweave-h100",
       32,
       5248,
       128,
       {"tp=1", "pp=1", "cp=2", "cp_kind=ring", "micro_batch=1", "shard=0"},
       1},
      // Contexts inside or outside tensor parallel ranks.
      {"llama2-7b",
       "dgx-h100",
       4,
       65536,
       4,
       {"tp=2", "cp=2,8", "pp=2", "cp_kind=ring", "micro_batch=1", "recompute=full", "zero=1", "shard=0",
        "schedule=1f1b", "virtual_stages=1,2", R"(rank_order=["pp,dp,cp,tp","pp,dp,tp,cp"])"},
       1},
  };
  std::size_t limits = 0;
  std::int64_t left_out = 0;  // of all cases, by bounds
  for (const Case& c : cases) {
    const plan::OpenJob open = open_job(c.model, c.system, c.nodes, c.seq_len, c.batch);
    const std::vector<Plan> all = plans_of(open, space_of(open, c.axes));
    EXPECT_LE(all.size(), 2000U);
    std::vector<Estimated> estimates(all.size());
    in_parallel(all.size(), [&](std::size_t i) { estimates[i] = estimate(open, all[i]); });
    Time best{INT64_MAX};
    std::int64_t fitting = 0;
    for (const Estimated& e : estimates) {
      best = e.fits ? std::min(best, e.step_time) : best;
      fitting += e.fits ? 1 : 0;
    }
    SearchOptions options = with_axes(c.axes);
    options.less_memory = true;
    const SearchResult r = search(open, options);
    ASSERT_FALSE(r.best.empty()) << c.model;
    EXPECT_GT(fitting, 10) << c.model;
    limits += r.within_memory.size();
    for (const WithinMemory& w : r.within_memory) {
      Time fastest{INT64_MAX};
      for (const Estimated& e : estimates) {
        fastest = e.fits && e.memory <= w.limit ? std::min(fastest, e.step_time) : fastest;
      }
      EXPECT_TRUE(w.proved);
      EXPECT_EQ(w.best ? w.best->step_time : Time{INT64_MAX}, fastest) << c.model << " within " << to_string(w.limit);
      EXPECT_TRUE(!w.best || w.best->memory <= w.limit);
    }
    EXPECT_TRUE(r.proved);
    EXPECT_EQ(r.best.front().step_time, best)
        << c.model << " " << strategy_of(open, r.best.front().shape, r.best.front().tail).dump();
    EXPECT_EQ(r.best_possible, best);
    EXPECT_EQ(r.judged, r.space.size()) << c.model;
    EXPECT_LE(r.built, static_cast<std::int64_t>(all.size()));
    left_out += static_cast<std::int64_t>(all.size()) - r.built;
    std::map<std::pair<std::int64_t, std::int64_t>, Time> fastest;  // by tp and pp
    for (std::size_t i = 0; i < all.size(); ++i) {
      Time& t = fastest.try_emplace({all[i].shape.tp, all[i].shape.pp}, INT64_MAX).first->second;
      t = estimates[i].fits ? std::min(t, estimates[i].step_time) : t;
    }
    for (const auto& [extents, cell] : r.cells) {
      const Time t = fastest.try_emplace(extents, INT64_MAX).first->second;
      EXPECT_TRUE(cell.at_least ? *cell.at_least >= best && *cell.at_least <= t : t == Time{INT64_MAX})
          << c.model << " tp " << extents.first << ", pp " << extents.second;
      EXPECT_TRUE(!cell.step_time || *cell.step_time >= t);
    }
    for (std::size_t i = 1; i < r.pareto.size(); ++i) {
      EXPECT_GT(r.pareto[i].step_time, r.pareto[i - 1].step_time);
      EXPECT_LT(r.pareto[i].memory, r.pareto[i - 1].memory);
    }
  }
  EXPECT_GT(limits, 1U);
  EXPECT_GT(left_out, 20);
}

// Three processes, here threads, find what one does, and all of them the same.
TEST(PlanSearch, ProcessesSearchTogether) {
  const plan::OpenJob open = open_job("gpt2-124m", "dgx-a100-80gb", 1, 1024, 32);
  const SearchOptions options = with_axes({"cp=1", "micro_batch=1,2"});
  const SearchResult alone = search(open, options);
  constexpr int kCount = 3;
  std::barrier meeting(kCount);
  std::vector<std::string> given(kCount);
  std::vector<SearchResult> found(kCount);
  std::vector<std::thread> threads;
  for (int p = 0; p < kCount; ++p) {
    threads.emplace_back([&, p] {
      SearchOptions together = options;
      together.crew = {p, kCount, [&, p](const std::string& mine) {
                         given[static_cast<std::size_t>(p)] = mine;
                         meeting.arrive_and_wait();
                         std::vector<std::string> all = given;
                         meeting.arrive_and_wait();
                         return all;
                       }};
      found[static_cast<std::size_t>(p)] = search(open, together);
    });
  }
  for (std::thread& t : threads) {
    t.join();
  }
  for (const SearchResult& r : found) {
    ASSERT_FALSE(r.best.empty());
    EXPECT_EQ(r.best.front().step_time, alone.best.front().step_time);
    EXPECT_EQ(strategy_of(open, r.best.front().shape, r.best.front().tail),
              strategy_of(open, alone.best.front().shape, alone.best.front().tail));
    EXPECT_EQ(r.best.front().breakdown.total(), alone.best.front().breakdown.total());
    EXPECT_EQ(r.judged, alone.judged);
    EXPECT_EQ(r.rejected, found.front().rejected);
    EXPECT_TRUE(r.proved);
  }
}

// Process 1 of 3 has pieces 1 and 4 of 0 to 6; what the others gave is theirs, and one of them wishes to end.
TEST(Crew, AllKnowAllResults) {
  std::vector<std::string> results(7);
  const auto pack = [&](std::size_t i) { return results[i]; };
  const auto unpack = [&](std::size_t i, const std::string& text) { results[i] = text; };
  const auto work = [&](std::size_t i) { results[i] = fmt::format("mine {}", i); };
  const Crew crew{1, 3, [](const std::string& mine) {
                    EXPECT_EQ(mine, ".6:mine 16:mine 4");
                    return std::vector<std::string>{".1:a2:bb0:", mine, "e3:2:52:,."};
                  }};
  EXPECT_TRUE(spread(crew, {7, work, pack, unpack}, [] { return false; }));
  EXPECT_EQ(results, (std::vector<std::string>{"a", "mine 1", "2:5", "bb", "mine 4", ",.", ""}));
  EXPECT_FALSE(spread({}, {7, work, pack, unpack}, [] { return false; }));
  EXPECT_EQ(results[6], "mine 6");
  EXPECT_TRUE(spread({}, {}, [] { return true; }));
}

// A word that the job says has that value alone.
TEST(PlanSearch, KeepsWhatTheJobSays) {
  const plan::OpenJob open = open_job("gpt2-124m", "dgx-a100-80gb", 1, 1024, 32, R"({"tp": 2, "recompute": "full"})");
  const SearchResult r = search(open, with_axes({"cp=1"}));
  ASSERT_FALSE(r.best.empty());
  for (const Found& f : r.best) {
    EXPECT_EQ(f.shape.tp, 2);
    EXPECT_EQ(f.shape.recompute, "full");
  }
  EXPECT_EQ(r.space.tp, std::vector<std::int64_t>{2});
}

TEST(PlanSearch, ResultDoesNotDependOnHowItEnds) {
  const plan::OpenJob open = open_job("gpt2-124m", "dgx-a100-80gb", 1, 1024, 32);
  SearchOptions options = with_axes({"cp=1", "schedule=1f1b"});
  const SearchResult whole = search(open, options);
  options.within = 0.1;
  const SearchResult near = search(open, options);
  ASSERT_FALSE(near.best.empty());
  EXPECT_TRUE(near.proved);
  EXPECT_LE(near.best_possible, whole.best.front().step_time);
  EXPECT_LE(static_cast<double>(near.best.front().step_time.value) * 0.9,
            static_cast<double>(whole.best.front().step_time.value));
  const std::atomic<bool> interrupted = true;
  options.interrupted = &interrupted;
  const SearchResult none = search(open, options);
  EXPECT_TRUE(none.best.empty());
  EXPECT_TRUE(none.interrupted);
  EXPECT_FALSE(none.proved);
}

// 175 billion parameters do not go onto one node; the nearest miss is the least of all.
TEST(PlanSearch, NothingFits) {
  const plan::OpenJob open = open_job("gpt3-175b", "dgx-a100-80gb", 1, 2048, 8);
  const SearchOptions options = with_axes({"micro_batch=1", "cp=1", "virtual_stages=1", "schedule=1f1b"});
  const SearchResult r = search(open, options);
  EXPECT_TRUE(r.best.empty());
  EXPECT_EQ(r.judged, r.space.size());
  const auto least = smallest(open, options);
  ASSERT_TRUE(least.has_value());
  EXPECT_GT(least->memory, open.job.cluster.device.memory);
  Bytes of_all{INT64_MAX};
  for (const Plan& p : plans_of(open, r.space)) {
    const Verdict v = judge_memory(open, p.shape, p.tail);
    of_all = v.found.memory > Bytes{} ? std::min(of_all, v.found.memory) : of_all;
  }
  EXPECT_EQ(least->memory, of_all);
  EXPECT_FALSE(smallest_that_fits(open, options).has_value());
  const auto larger = smallest_cluster(open, options, 64);
  ASSERT_TRUE(larger.has_value());
  EXPECT_GT(larger->first, 1);
  EXPECT_LE(larger->second.memory, open.job.cluster.device.memory);
  const auto same = smallest(on_nodes(open, larger->first), options);
  ASSERT_TRUE(same.has_value());
  EXPECT_EQ(same->memory, larger->second.memory);
}

bool has_plans(const std::string& strategy, std::int64_t nodes, const std::vector<std::string>& axes) {
  const plan::OpenJob open = open_job("gpt2-124m", "dgx-a100-80gb", nodes, 1024, 32, strategy);
  return !plans_of(open, space_of(open, axes)).empty();
}

// One of several plans that are the same stays, whichever of them the job says.
TEST(PlanSpace, WordsThatMakeNoDifferenceLeaveAPlan) {
  EXPECT_TRUE(has_plans(R"({"sequence_parallel": true})", 1, {"tp=1"}));
  EXPECT_TRUE(has_plans(R"({"cp_kind": "all_gather"})", 1, {"cp=1"}));
  EXPECT_TRUE(has_plans(R"({"schedule": "zb_h1"})", 1, {"pp=1"}));
  EXPECT_TRUE(has_plans("{}", 1, {"pp=1", "schedule=zb_v,zb_h1"}));
  EXPECT_TRUE(has_plans(R"({"rank_order": "dp,pp,cp,tp"})", 1, {"pp=1"}));
  for (const char* strategy :
       {R"({"dp": 1, "zero": 1})", R"({"dp": 1, "zero": 3})", R"({"dp": 1, "overlap_grad_reduce": true})"}) {
    EXPECT_TRUE(has_plans(strategy, 1, {"cp=1"})) << strategy;
  }
  const plan::OpenJob open = open_job("gpt2-124m", "dgx-a100-80gb", 1, 1024, 8, R"({"dp": 1, "zero": 1})");
  const std::vector<std::string> axes{"tp=4",
                                      "pp=2",
                                      "cp=1",
                                      "micro_batch=1",
                                      "recompute=none",
                                      "schedule=zb_h1",
                                      "sequence_parallel=false",
                                      "virtual_stages=1"};
  EXPECT_EQ(plans_of(open, space_of(open, axes)).size(), 1U);
}

TEST(PlanSpace, SchedulesInAVCutAnyNumberOfLayers) {
  const plan::OpenJob open = open_job("deepseek-v2-lite", "dgx-a100-80gb", 1, 4096, 16);
  const PlanSpace space = space_of(open, {"tp=1", "pp=4", "schedule=zb_v"});
  EXPECT_EQ(space.virtual_stages, (std::vector<std::int64_t>{1, 2, 3, 9}));
  EXPECT_FALSE(plans_of(open, space).empty());
  EXPECT_TRUE(plans_of(open, space_of(open, {"tp=1", "pp=4", "schedule=1f1b", "virtual_stages=2"})).empty());
}

// Of experts that are whole on tensor parallel ranks there are replicas without data parallel ones.
TEST(PlanSpace, WholeExpertsHaveReplicas) {
  const plan::OpenJob open = open_job("deepseek-v2-lite", "dgx-a100-80gb", 1, 4096, 16);
  const auto has_zero = [&](const char* ep) {
    const std::vector<Plan> all = plans_of(open, space_of(open, {"tp=8", ep, "sequence_parallel=true"}));
    return std::any_of(all.begin(), all.end(), [](const Plan& p) { return p.shape.whole_experts && p.tail.zero == 1; });
  };
  EXPECT_TRUE(has_zero("ep=4"));
  EXPECT_FALSE(has_zero("ep=8"));
}

TEST(PlanSpace, RefusesWordsThatAreNoAxis) {
  const plan::OpenJob open = open_job("gpt2-124m", "dgx-a100-80gb", 1, 1024, 32);
  for (const char* axis : {"tpp=1", "tp", "tp=", "tp=x"}) {
    EXPECT_THROW(space_of(open, {axis}), InputError) << axis;
  }
}

TEST(PlanSpace, RefusesValuesThatNoJobMaySay) {
  const plan::OpenJob open = open_job("gpt2-124m", "dgx-a100-80gb", 1, 1024, 32);
  for (const char* axis :
       {"tp=0", "pp=-1", "cp=1.5", "micro_batch=1e30", "virtual_stages=0", "zero=4", "shard=1", "recompute=some",
        "schedule=interleaved", "cp_kind=0", "overlap_ep=1", "rank_order=pp", "tp=2,0"}) {
    EXPECT_THROW(space_of(open, {axis}), InputError) << axis;
  }
  EXPECT_EQ(space_of(open, {"rank_order=[\"dp,pp,cp,tp\"]"}).rank_order, std::vector<std::string>{"dp,pp,cp,tp"});
  EXPECT_EQ(space_of(open, {"shard=0,4"}).shard, (std::vector<std::int64_t>{0, 4}));
  EXPECT_EQ(space_of(open, {"schedule=gpipe"}).schedule, std::vector<std::string>{"gpipe"});
}

// Of a curve that rises to 1 in ten: at 4 it is 0.9, the farthest above the diagonal.
TEST(NodeSweep, Knee) {
  EXPECT_EQ(knee({1, 2, 4, 7, 10}, {0, 0.5, 0.9, 0.95, 1}), 2U);
  EXPECT_EQ(knee({1, 2, 4, 8}, {1, 2, 4, 8}), std::nullopt);      // straight
  EXPECT_EQ(knee({1, 2, 4, 8}, {1, 2, 3.9, 7.6}), std::nullopt);  // nearly
  EXPECT_EQ(knee({1, 2}, {1, 1.5}), std::nullopt);
  EXPECT_EQ(knee({}, {}), std::nullopt);
}

}  // namespace
}  // namespace foretrain::search
