// Ranks as processes: every strategy trains like one rank, and on one host, or with one member of each group per host,
// to the bit like threads. Started by mpirun; every process runs the same tests and process 0 judges.
#include "exec/processes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>
#include <thread>

#include "base/error.h"
#include "exec/checkpoint_writer.h"
#include "exec/clock.h"
#include "exec/data.h"
#include "exec/run_agreement.h"
#include "exec/verify.h"
#include "plan/build.h"
#include "plan/host_traffic.h"
#include "tests/exec/company.h"
#include "tests/exec/overrides.h"
#include "tests/exec/strategies.h"
#include "tests/exec/support.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_jobs.h"

namespace foretrain::exec {
namespace {

using testing::company;
using testing::GrammarData;
using testing::joined;
using testing::kBase;
using testing::Overrides;

bool judges() {
  return company->number() == 0;
}

// As many ranks as all processes can share: more data parallelism where they do not come out even.
Overrides spread(const Overrides& overrides) {
  const auto extent = [&](const char* axis) {
    const auto found = overrides.find(axis);
    return found == overrides.end() ? 1 : std::stoi(found->second);
  };
  if (overrides.contains("servers")) {
    const std::string all = std::to_string(company->count());
    return joined(overrides, {{"dp", all}, {"servers", all}, {"global_batch", "24"}});
  }
  if (overrides.contains("loader_ranks")) {
    const std::string all = std::to_string(company->count());
    return joined(overrides, {{"dp", all}, {"loader_ranks", all}, {"global_batch", "24"}});
  }
  const int ranks = extent("dp") * extent("tp") * extent("pp") * extent("cp");
  const int more = company->count() / std::gcd(ranks, company->count());
  return joined(overrides, {{"dp", std::to_string(extent("dp") * more)}, {"global_batch", "12"}});
}

// joined() lets the second win; a strategy's own dp must not.
Overrides over(const Overrides& winner, const Overrides& loser) {
  return joined(loser, winner);
}

void expect_trains(const char* model, const Overrides& overrides, const char* precision, bool same_bits) {
  SCOPED_TRACE(::testing::PrintToString(overrides));
  const plan::Job job = testing::tiny_job(model, testing::words(over({{"workload.precision", precision}}, overrides)));
  const GrammarData data(job.workload.model.vocab);
  const plan::PlanGraph graph = plan::build(job);
  VerifyOptions options;
  options.poison = true;
  options.timeout = std::chrono::seconds(20);
  Course one_rank;
  if (judges()) {
    one_rank = testing::one_rank_course(job, data, options);
  }
  options.processes = company;
  const Verification v = verify(graph, one_rank, testing::brief(job), data, options);
  EXPECT_TRUE(v.passed) << "loss " << v.max_rel_loss << " of " << v.tolerance.loss << ", gradients " << v.max_rel_grad
                        << " of " << v.tolerance.gradient << " in " << v.worst_tensor;
  if (same_bits && judges()) {
    options.processes = nullptr;
    EXPECT_EQ(train(graph, v.tolerance, data, options).loss, v.loss);
  }
}

// Whether processes give the bits of threads: on several hosts sums go host by host, which of one process on each is
// the order of threads.
bool has_bits_of_threads() {
  std::set<std::string> hosts;
  for (const Place& place : company->places()) {
    hosts.insert(place.host_key);
  }
  return hosts.size() == 1 || static_cast<int>(hosts.size()) == company->count();
}

TEST(Processes, EveryStrategy) {
  int i = 0;
  for (const testing::Strategy& s : testing::strategies()) {
    const Overrides overrides = over(spread(s.overrides), kBase);
    expect_trains(testing::kModels[i++ % 2], overrides, "fp64", false);
  }
}

TEST(Processes, TheBitsOfThreads) {
  const std::string all = std::to_string(company->count());
  const std::vector<Overrides> cases = {
      {{"dp", all}},
      {{"dp", all}, {"zero", "1"}, {"overlap_grad_reduce", "true"}},
      {{"dp", all}, {"zero", "3"}},
      {{"tp", all}, {"sequence_parallel", "true"}},
      {{"pp", all}},
      {{"pp", "2"}, {"schedule", "zb_v"}, {"dp", std::to_string(company->count() / 2)}},
      {{"cp", all}, {"seq_len", "16"}}};
  for (const Overrides& overrides : cases) {
    for (const char* const precision : {"fp32", "bf16"}) {
      expect_trains(testing::kTinyGpt, over(over(overrides, {{"global_batch", "8"}}), kBase), precision,
                    has_bits_of_threads());
    }
  }
}

TEST(Processes, ExpertsSpreadOverThem) {
  for (const Overrides& overrides :
       {Overrides{{"dp", "4"}, {"ep", "2"}}, Overrides{{"dp", "4"}, {"ep", "4"}, {"zero", "1"}},
        Overrides{{"dp", "2"}, {"tp", "2"}, {"ep", "2"}}}) {
    expect_trains(testing::kTinyMoe, overrides, "fp64", false);
  }
}

// From host to host goes what the plan says, to the byte: sums and what comes of them, parts, messages along a pipeline
// and a ring, codes, averages every second step.
TEST(Processes, SendWhatThePlanSays) {
  const std::string all = std::to_string(company->count());
  const std::string few = std::to_string(company->count() / 2);
  for (const Overrides& overrides :
       {Overrides{{"dp", all}}, Overrides{{"dp", all}, {"zero", "1"}, {"overlap_grad_reduce", "true"}},
        Overrides{{"dp", all}, {"zero", "3"}}, Overrides{{"tp", all}, {"sequence_parallel", "true"}},
        Overrides{{"pp", all}}, Overrides{{"tp", "2"}, {"pp", few}}, Overrides{{"pp", "2"}, {"dp", few}},
        Overrides{{"cp", all}, {"seq_len", "16"}}, Overrides{{"cp", all}, {"seq_len", "16"}, {"cp_kind", "all_to_all"}},
        Overrides{{"dp", all}, {"data_parallel", "gather"}},
        Overrides{{"dp", all}, {"data_parallel", "parameter_server"}, {"servers", all}},
        Overrides{{"dp", all}, {"data_parallel", "parameter_server"}, {"servers", all}, {"server_replicas", "1"}},
        Overrides{{"dp", few}, {"loader_ranks", few}}, Overrides{{"dp", all}, {"tp", "2"}, {"loader_ranks", all}},
        Overrides{{"dp", all}, {"pp", "2"}, {"cp", "2"}, {"seq_len", "16"}, {"loader_ranks", all}},
        Overrides{{"dp", all}, {"compression", "int8"}},
        Overrides{{"dp", all}, {"data_parallel", "local_sgd"}, {"average_every", "2"}}}) {
    SCOPED_TRACE(::testing::PrintToString(overrides));
    const plan::Job job =
        testing::tiny_job(testing::kTinyGpt, testing::words(over(over(overrides, {{"global_batch", "8"}}), kBase)));
    const GrammarData data(job.workload.model.vocab);
    const plan::PlanGraph graph = plan::build(job);
    Executor executor(graph, data, 1, company);
    std::vector<int> host_of;
    for (plan::Rank r = 0; r < graph.mesh.ranks(); ++r) {
      const std::int64_t each = graph.mesh.ranks() / company->count();
      host_of.push_back(company->hosts().at(static_cast<std::size_t>(r / each)));
    }
    RunOptions options;
    options.steps = 3;
    options.timeout = std::chrono::seconds(20);
    EXPECT_EQ(executor.run(options).sent.bytes, plan::host_traffic(graph, host_of, 0, 3).bytes);
    options.steps = 2;
    EXPECT_EQ(executor.run(options).sent.bytes, plan::host_traffic(graph, host_of, 3, 2).bytes);
  }
}

// An epoch is two steps, its n sequences of 64 bytes in a block for each of p ranks; every host has room for p of them.
TEST(Processes, ShareWhatTheirHostKeeps) {
  const int p = company->count(), n = 4 * p;
  const std::vector<int> hosts = company->hosts();
  const std::int64_t kept = std::min(n, p * (1 + *std::max_element(hosts.begin(), hosts.end())));
  const auto word = [](const char* key, int value) { return key + std::to_string(value); };
  std::vector<std::string> words{word("dp=", p), word("global_batch=", 2 * p), word("workload.data.sequences=", n),
                                 "distribution=block", "workload.model.vocab=256"};
  std::string letters;
  for (int i = 0; i < 20 * n; ++i) {
    letters += static_cast<char>('a' + i * i % 23);
  }
  const Text text = text_of("letters", letters);
  const TextWindows data = training_windows(text, 16, 2 * p, 256, 1, {workloads::Distribution::block, true, p, 1, n});
  RunOptions options;
  options.steps = 2;
  options.timeout = std::chrono::seconds(20);
  Executor without(plan::build(testing::tiny_job(testing::kTinyGpt, words)), data, 1, company);
  words.push_back("workload.data.cache=" + std::to_string(64 * p) + " B");
  Executor executor(plan::build(testing::tiny_job(testing::kTinyGpt, words)), data, 1, company);
  EXPECT_EQ(executor.run(options).read, (BytesRead{64 * n, 0}));
  const RunResult later = executor.run(options);
  EXPECT_EQ(later.read, (BytesRead{64 * (n - kept), 64 * kept}));
  without.run(options);
  EXPECT_EQ(later.loss, without.run(options).loss);
}

TEST(Processes, ResultsAreKnownToAll) {
  const plan::Job job = testing::tiny_job(testing::kTinyGpt, {"dp=" + std::to_string(company->count())});
  const GrammarData data(61);
  Executor executor(plan::build(job), data, 1, company);
  RunOptions options;
  options.steps = 3;
  const RunResult result = executor.run(options);
  ASSERT_EQ(result.loss.size(), 3U);
  const double evaluated = executor.evaluate(data, 2, options);
  const std::vector<double> logits = executor.logits(data, 0, options);
  std::string mine(reinterpret_cast<const char*>(result.loss.data()), 3 * sizeof(double));
  mine.append(reinterpret_cast<const char*>(&evaluated), sizeof evaluated);
  mine.append(reinterpret_cast<const char*>(logits.data()), logits.size() * sizeof(double));
  for (const std::string& other : company->all_gather(mine)) {
    EXPECT_EQ(other, mine);
  }
  EXPECT_EQ(executor.parameters().empty(), !judges());
}

// Each writes the shards of its ranks; all of them, and threads of one process, go on as if there had been no break.
TEST(Processes, GoOnFromACheckpointToTheBit) {
  const Peers peers{company->number(), company->count(),
                    [](const std::string& mine) { return company->all_gather(mine); }, [] { company->check(); }};
  const std::string all = std::to_string(company->count());
  for (const Overrides& overrides : {Overrides{{"dp", all}, {"zero", "1"}}, Overrides{{"dp", all}, {"zero", "3"}},
                                     Overrides{{"tp", all}}, Overrides{{"pp", all}}}) {
    SCOPED_TRACE(::testing::PrintToString(overrides));
    const std::optional<test::TemporaryFolder> place =
        judges() ? std::optional<test::TemporaryFolder>(std::in_place) : std::nullopt;
    const std::string path = company->all_gather(judges() ? place->path("c") : "").front();
    const plan::Job job =
        testing::tiny_job(testing::kTinyGpt, testing::words(over(overrides, {{"precision", "fp32"}})));
    const GrammarData data(job.workload.model.vocab);
    const plan::PlanGraph graph = plan::build(job);
    RunOptions options;
    options.steps = 4;
    options.timeout = std::chrono::seconds(20);
    const std::vector<double> whole = Executor(graph, data, 1, company).run(options).loss;
    const std::vector<double> end(whole.begin() + 2, whole.end());
    const auto go_on = [&](Executor& executor, const CheckpointFolder& folder) {
      const auto manifest = folder.newest([](const std::string& why) { ADD_FAILURE() << why; });
      ASSERT_TRUE(manifest.has_value());
      EXPECT_EQ(manifest->step, 2);
      StateTargets targets(executor.memory(), job.workload.model.vocab);
      restore(folder.of_step(2), *manifest, targets);
      executor.go_on_from(2);
      EXPECT_EQ(executor.run(options).loss, end);
    };
    options.steps = 2;
    {
      const CheckpointFolder folder(path, peers);
      Executor first(graph, data, 1, company);
      CheckpointOptions every;
      every.every = 2;
      CheckpointWriter writer(folder, first.memory(), manifest_of_first_step(job, 1, "grammar"), every);
      options.keeper = &writer;
      first.run(options);
      options.keeper = nullptr;
      writer.keep_all(first.memory(), 2);
      company->all_gather("");
      Executor second(graph, data, 1, company);
      go_on(second, folder);
    }
    if (judges() && has_bits_of_threads()) {
      Executor threads(graph, data, 1);
      go_on(threads, CheckpointFolder(path, {}));
    }
  }
}

// Each begins steps at a pace of its own and nothing binds them: all end behind the same step, and go on from there.
TEST(Processes, AllStopBehindTheSameStep) {
  constexpr int kSteps = 1'000'000;  // more than any can begin before it hears of the stop
  int first = 0;
  for (int who = 0; who < company->count(); ++who) {
    RunControl control(1, first, kSteps);
    RunAgreement agreement(*company, control);
    std::atomic<int> next{first};
    std::thread rank([&] {
      for (; control.may_begin(next); ++next) {
        std::this_thread::sleep_for(std::chrono::microseconds(100 * (company->count() - company->number())));
      }
      control.end_rank(nullptr);
    });
    while (control.wait_for_step(0, std::chrono::milliseconds(1)) == RunControl::Wait::under_way) {
      if (who == company->number() && next > first + 10) {
        agreement.stop_soon();
      }
      agreement.listen();
    }
    rank.join();
    for (const std::string& other : company->all_gather(std::to_string(next))) {
      EXPECT_EQ(other, std::to_string(next));
    }
    EXPECT_LT(next, first + kSteps);
    first = next;
  }
}

// Whoever asks later cannot have the earlier time, on whatever host; clocks of hosts agree to half of a message's way.
TEST(Processes, ClocksOfHostsAgree) {
  constexpr std::int64_t kWay = 1'000'000'000'000;  // picoseconds, generous
  const std::int64_t before = std::stoll(company->all_gather(std::to_string(now().value)).front());
  for (const std::string& other : company->all_gather(std::to_string(now().value))) {
    EXPECT_GE(std::stoll(other), before - kWay);
  }
  EXPECT_GE(now().value, before - kWay);
  EXPECT_LE(std::abs(now().value - before), 60 * kWay);
}

// All goes by the new numbers, and back by the old ones.
TEST(Processes, NumbersMayBeOthers) {
  const int count = company->count(), old = company->number();
  const std::vector<Place> places = company->places();
  std::vector<int> reversed(places.size());
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  company->renumber(reversed);
  EXPECT_EQ(company->number(), count - 1 - old);
  const std::vector<std::string> all = company->all_gather(std::to_string(old));
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i], std::to_string(reversed[i]));
    EXPECT_EQ(company->places()[i].pid, places[static_cast<std::size_t>(reversed[i])].pid);
  }
  expect_trains(testing::kTinyGpt, {{"dp", std::to_string(count)}}, "fp64", has_bits_of_threads());
  company->renumber(reversed);
  EXPECT_EQ(company->number(), old);
  EXPECT_EQ(company->all_gather(std::to_string(old)).back(), std::to_string(count - 1));
}

TEST(Processes, RanksThatDoNotComeOutEvenAreRefused) {
  const plan::Job job =
      testing::tiny_job(testing::kTinyGpt, {"dp=" + std::to_string(company->count() + 1), "global_batch=60"});
  const GrammarData data(61);
  EXPECT_THROW(Executor(plan::build(job), data, 1, company), InputError);
}

}  // namespace
}  // namespace foretrain::exec

foretrain::exec::Processes* foretrain::testing::company = nullptr;

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const std::unique_ptr<foretrain::exec::Processes> processes = foretrain::exec::join_processes();
  foretrain::testing::company = processes.get();
  if (processes->number() != 0) {
    ::testing::TestEventListeners& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
  }
  return RUN_ALL_TESTS();
}
